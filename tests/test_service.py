"""The service answers as `Recommender` does, compiles nothing under load, and refuses what it must in one line."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

import grasp_jax as gj
from grasp_jax.serving.http.app import create_app
from grasp_jax.serving.http.metrics import JsonLines
from grasp_jax.serving.http.placing import with_items
from grasp_jax.serving.http.requests import Recommend
from grasp_jax.serving.http.service import Service
from grasp_jax.serving.http.settings import Limits, Settings
from grasp_jax.serving.http.source import open_source
from grasp_jax.serving.new_items import add_items
from tests.bad_requests import BAD, JSON, Bad
from tests.refusal import assert_names
from tests.test_export import SMALL

SECRET = "a-token-of-a-test-0123456789"
LIMITS = Limits(
    k=30, people=20, history=100, listed=500, new_items=10, body_bytes=1 << 16, body_seconds=0.5
)
SETTINGS = Settings(limits=LIMITS, batch_sizes=(1, 8), lengths=(4,), log_requests=True)


class Running:
    """A service in this process, with its log."""

    def __init__(self, path: pathlib.Path, settings: Settings = SETTINGS) -> None:
        self.lines = io.StringIO()
        self.service = Service(settings, path, log=JsonLines(self.lines))
        assert self.service.load(open_source(path))
        self.app = create_app(self.service, _nothing, _nothing)
        self.client = TestClient(self.app, raise_server_exceptions=True)

    def post(self, route: str, /, **body: Any) -> Any:
        answer = self.client.post(route, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, bad: Bad) -> Any:
        return self.client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)


async def _nothing() -> None:
    pass


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return gj.Dataset.synthetic(num_users=100, num_items=100)


@pytest.fixture(scope="module")
def folders(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir "plain", the model saved from it as "saved", one that is damaged, and a folder with nothing."""
    root = tmp_path_factory.mktemp("served")
    model = gj.Recommender(method="plain", **SMALL).fit(shop, root / "plain")
    model.save(root / "saved")
    shutil.copytree(root / "saved", root / "damaged")
    with (root / "damaged" / "features.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x7f")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def model(folders: pathlib.Path) -> gj.Recommender:
    return gj.Recommender.load(folders / "plain")


@pytest.fixture(scope="module")
def running(folders: pathlib.Path) -> Iterator[Running]:
    made = Running(folders / "plain", _with(models=folders))
    yield made
    made.service.stop()


def _with(**changes: Any) -> Settings:
    return Settings(**{**vars(SETTINGS), **changes})


def histories(rng: np.random.Generator, count: int, longest: int = 30) -> list[list[int]]:
    return [rng.integers(1, 101, rng.integers(1, longest)).tolist() for _ in range(count)]


def assert_equal(results: list[dict[str, Any]], frame: Any) -> None:
    """The same items and scores as a frame of `recommend`, where no two scores tie."""
    for result, (_, rows) in zip(results, frame.groupby("user", sort=False), strict=True):
        assert [own["item"] for own in result["items"]] == rows["item"].tolist()
        found = [np.nan if own["score"] is None else own["score"] for own in result["items"]]
        np.testing.assert_allclose(found, rows["score"].to_numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 30},
        {"exclude_seen": False},
        {"candidates": [3, 5, 8, 13, 21, 34]},
        {"candidates": [[n, n + 1, n + 2] for n in range(1, 13)]},
        {"exclude": [1, 2, 3, "4"], "k": 5},
        {"exclude": [list(range(n, 100, 3)) for n in range(1, 13)]},
        {"exclude": []},
    ],
    ids=(
        "usual",
        "k",
        "seen",
        "candidates",
        "own candidates",
        "exclude",
        "own exclude",
        "no exclude",
    ),
)
def test_answers_are_those_of_the_model(
    options: dict[str, Any], running: Running, model: gj.Recommender
) -> None:
    """A fixed shape, a filled-up batch or a mask would change whom something is recommended to, or what."""
    asked = histories(np.random.default_rng(1), 12)
    found = running.post("/recommend", histories=asked, **options)
    assert_equal(found["results"], model.recommend(histories=asked, **options))


def test_users_have_their_histories(
    running: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """A user's id would be read as another's, or the newest items be missing."""
    users = shop.user_ids[[3, 50, 99]].tolist()
    found = running.post("/recommend", users=users, k=7)
    assert [result["user"] for result in found["results"]] == users
    assert_equal(found["results"], model.recommend(users=users, k=7))


def test_people_without_a_known_item_get_the_popular_ones(
    running: Running, model: gj.Recommender
) -> None:
    """One unknown id would cost a person, or all others, the answer; or a score be made up."""
    asked: list[list[Any]] = [["no item"], [], [5, "no item", 6]]
    found = running.post("/recommend", histories=asked, k=4, exclude=[72])
    assert_equal(found["results"], model.recommend(histories=asked, k=4, exclude=[72]))
    assert [result["by"] for result in found["results"]] == ["popularity", "popularity", "model"]
    assert [result.get("passed_over", 0) for result in found["results"]] == [1, 0, 1]
    assert found["results"][0]["items"][0]["score"] is None
    unknown = running.post("/recommend", users=["nobody"], k=2)["results"][0]
    assert unknown["by"] == "popularity" and len(unknown["items"]) == 2


@pytest.fixture(scope="module")
def gated(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir of a model whose gates read texts."""
    folder = tmp_path_factory.mktemp("gated") / "run"
    gj.Recommender(method="grasp", backbone="gru4rec", **SMALL).fit(shop, folder)
    return folder


def test_gated_models_answer_for_histories_and_users(shop: gj.Dataset, gated: pathlib.Path) -> None:
    """The text of a user would be left out, or a user of the data be asked for with another text than in training."""
    model = gj.Recommender.load(gated)
    running = Running(gated, _with(batch_sizes=(4,), lengths=()))
    asked = histories(np.random.default_rng(2), 6)
    found = running.post("/recommend", histories=asked, k=12)
    assert_equal(found["results"], model.recommend(histories=asked, k=12))
    users = shop.user_ids[[0, 7, 31]].tolist()
    assert_equal(running.post("/recommend", users=users)["results"], model.recommend(users=users))
    near = running.post("/similar", items=[5], k=4)["results"][0]["similar"]
    assert [own["item"] for own in near] == model.similar_items([5], k=4)["similar"].tolist()
    running.service.stop()


def test_only_who_needs_a_text_fails_without_its_encoder(
    shop: gj.Dataset, gated: pathlib.Path
) -> None:
    """A history whose text cannot be written would take users of the data along that are answered in the same batch."""
    source = open_source(gated)
    artifact = dataclasses.replace(source.artifact, encoder=None)
    service = Service(_with(batch_sizes=(8,), lengths=()), gated, log=JsonLines(io.StringIO()))
    assert service.load(source._replace(artifact=artifact))
    user = shop.user_ids[7].item()

    async def both() -> list[Any]:
        asked = [Recommend(histories=[[5, 9]] * 3), Recommend(users=[user] * 3)]
        return await asyncio.gather(*map(service.recommend, asked), return_exceptions=True)

    for _ in range(3):  # the first of them to come may be answered alone
        refused, found = asyncio.run(both())
        assert "no saved text encoder" in str(refused)
        assert [own["by"] for own in found["results"]] == ["model"] * 3
    service.stop()


def test_a_new_item_is_recommended_by_its_text(gated: pathlib.Path) -> None:
    """A new item would be served with another score than from Python, be lost by a reload, or be half added."""
    running = Running(gated, _with(batch_sizes=(4,), lengths=()))
    item = {"item": 5000, "title": running.service.served.snapshot.catalogue.titles[4]}
    half = running.client.put("/items", json={"items": [item, {"item": 5, "title": "known"}]})
    assert half.status_code == 409 and running.client.get("/ready").json()["items"] == 100
    answer = running.client.put("/items", json={"items": [item]})
    assert answer.json() == {"added": 1, "restored": 0, "items": 101}, answer.text
    model = gj.Recommender.load(gated)
    columns = {name: np.array([value]) for name, value in item.items()}
    model._artifact = add_items(model.artifact, columns)
    asked = [[5, 9, 5000], [40]]
    for _ in range(2):
        found = running.post("/recommend", histories=asked, k=30)
        assert_equal(found["results"], model.recommend(histories=asked, k=30))
        only = running.post("/recommend", histories=[[7]], candidates=[5000])["results"][0]["items"]
        assert [own["item"] for own in only] == [5000] and only[0]["title"] == item["title"]
        assert running.post("/reload")["items"] == 101
    assert running.client.delete("/items/5000").json() == {"removed": 1, "items": 100}
    running.service.stop()


def test_similar_items(running: Running, model: gj.Recommender) -> None:
    """The item itself would be its nearest, or another order be given than from Python."""
    found = running.post("/similar", items=[5, "60"], k=6)["results"]
    frame = model.similar_items([5, 60], k=6)
    assert [own["item"] for row in found for own in row["similar"]] == frame["similar"].tolist()
    cosines = [own["cosine"] for row in found for own in row["similar"]]
    np.testing.assert_allclose(cosines, frame["score"], atol=1e-5)


def test_diversity(running: Running) -> None:
    """The slider would do nothing, or leave the best item out."""
    asked = [[5, 9, 40]]
    plain, none, some, all_of_it = (
        [own["item"] for own in running.post("/recommend", histories=asked, k=6, **given)["results"][0]["items"]]
        for given in ({}, {"diversity": 0}, {"diversity": 0.5}, {"diversity": 1})
    )  # fmt: skip
    assert plain == none and plain[0] == some[0] == all_of_it[0]
    snapshot = running.service.served.snapshot

    def likeness(items: list[int]) -> float:
        rows = snapshot.unit(np.array([snapshot.catalogue.rows[str(item)] for item in items]))
        return float((rows @ rows.T).sum())

    assert likeness(all_of_it) < likeness(some) < likeness(plain)


@contextlib.contextmanager
def compilations(kind: str) -> Iterator[list[str]]:
    """Events of JAX whose names hold `kind`, as they happen."""
    found: list[str] = []

    def heard(event: str, seconds: float, **_: Any) -> None:
        if kind in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


def test_nothing_is_compiled_once_it_is_ready(running: Running) -> None:
    """A request of a new shape would wait a second for the compiler, and all others behind it."""
    with compilations("compile") as compiled:
        rng = np.random.default_rng(4)
        for count in (1, 2, 3, 8, 20):
            for longest in (2, 6, 90):
                running.post("/recommend", histories=histories(rng, count, longest))
        running.post("/recommend", histories=[[1]], candidates=[1, 2, 3], diversity=0.3)
        running.post("/recommend", users=[1], exclude=list(range(90)))
        running.post("/similar", items=[1, 2, 3])
        assert not compiled
        jax.jit(lambda x: x * 3 + len(compiled))(np.arange(7))
        assert compiled  # else the listener hears nothing


@pytest.mark.parametrize("kind", BAD)
def test_bad_requests_are_refused_in_one_line(kind: str, running: Running) -> None:
    """Bad input would be a fault, end the process, or be answered with a text that helps nobody."""
    bad = BAD[kind]
    answer = running.send(bad)
    assert answer.status_code == bad.status, answer.text
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert bad.says in message, message
    assert len(message.splitlines()) == 1 and len(message) < 1000
    assert "Traceback" not in message and "pydantic" not in message
    assert len(answer.headers["x-request-id"]) == 12


def test_the_service_still_answers_after_all_of_them(running: Running) -> None:
    """One of the bad requests would have changed what is served."""
    assert len(BAD) >= 60
    assert running.client.get("/ready").json() == {
        "status": "ready", "model": 1, "method": "plain", "backbone": "sasrec", "items": 100, "users": True,
    }  # fmt: skip
    assert len(running.post("/recommend", histories=[[1]])["results"][0]["items"]) == 10


def test_a_token_is_asked_for_everywhere_but_by_probes(folders: pathlib.Path) -> None:
    """Strangers would read recommendations or metrics, or a prefix of the token be enough."""
    running = Running(folders / "saved", _with(token=SECRET, batch_sizes=(2,), lengths=()))
    wrong = [
        "",
        "Bearer",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET}x",
        f"Basic {SECRET}",
        SECRET,
        "Bearer \xfc",
    ]
    for method, path in [
        ("POST", "/recommend"), ("POST", "/similar"), ("PUT", "/items"), ("DELETE", "/items/1"), ("POST", "/reload"),
        ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"),
    ]:  # fmt: skip
        for given in wrong:
            headers = {**JSON, "authorization": given.encode("latin-1")}
            answer = running.client.request(method, path, content=b"{}", headers=headers)
            assert answer.status_code == 401, (method, path, given)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "token" in answer.json()["error"] and SECRET[:-1] not in answer.text
    assert running.client.get("/health").status_code == 200
    assert running.client.get("/ready").status_code == 200
    right = {"authorization": f"bearer {SECRET}"}
    answer = running.client.post("/recommend", json={"histories": [[1]]}, headers=right)
    assert answer.status_code == 200
    assert SECRET[:-1] not in running.lines.getvalue() and SECRET not in repr(
        running.service.settings
    )
    users = running.client.post("/recommend", json={"users": [1]}, headers=right)
    assert users.status_code == 422
    assert_names(users.json()["error"], ("a saved model holds no users", "--data=FOLDER"))
    running.service.stop()


def test_users_of_a_saved_model_come_from_a_folder(
    folders: pathlib.Path, tmp_path: pathlib.Path, running: Running
) -> None:
    """A saved model could not answer for users, or would take their items for others."""
    (tmp_path / "data").mkdir()
    rows = ["user,item", "ann,7", "ann,9", "lee,no item", "ann,11"]
    (tmp_path / "data" / "interactions.csv").write_text("\n".join(rows) + "\n")
    source = open_source(folders / "saved", str(tmp_path / "data"))
    assert source.users is not None
    ann, lee = source.users.find("ann"), source.users.find("lee")
    assert ann is not None and ann.history.tolist() == [6, 8, 10]
    assert lee is not None and not len(lee.history) and source.users.find("kim") is None


def test_the_log_holds_nobodys_data(running: Running) -> None:
    """Ids of users or items, or texts, would stand in a log that other people read."""
    running.lines.truncate(0)
    running.post("/recommend", users=["user-7531"], exclude=["item-8642"])
    running.client.delete("/items/item-9753?key=secret-1")
    running.client.get("/path-864?key=secret-2")
    running.client.post("/recommend", json={"histories": [["item-1111"]], "wrong-2222": 1})
    text = running.lines.getvalue()
    assert not any(
        part in text for part in ("7531", "8642", "9753", "secret", "path-864", "1111", "2222")
    )
    lines = [json.loads(line) for line in text.replace("\0", "").splitlines()]
    assert [line["route"] for line in lines] == ["/recommend", "/items/{id}", "other", "/recommend"]
    assert [line["status"] for line in lines] == [200, 404, 404, 422]
    assert all(line["milliseconds"] > 0 for line in lines)


def test_a_fault_of_ours_says_nothing_to_strangers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback, or the value that caused it, would be sent to whoever asks, or the worker die with it."""

    def broken(*_: Any) -> None:
        raise RuntimeError("password 1234")

    with monkeypatch.context() as patched:
        patched.setattr("grasp_jax.serving.http.snapshot.Snapshot.answer", broken)
        answer = running.client.post("/recommend", json={"histories": [[1]]})
    assert answer.status_code == 500 and "a fault of the service" in answer.json()["error"]
    assert "1234" not in answer.text and "1234" not in running.lines.getvalue()
    assert answer.headers["x-request-id"] in running.lines.getvalue()
    assert running.post("/recommend", histories=[[1]])["results"]


def test_removed_items_come_back_as_they_were(folders: pathlib.Path, model: gj.Recommender) -> None:
    """A sold-out item would still be recommended, take a place in the list, or be lost for good."""
    running = Running(folders / "plain", _with(batch_sizes=(2,), lengths=()))
    asked: dict[str, Any] = {"histories": [[5, 9], []], "k": 5}
    before = running.post("/recommend", **asked)["results"]
    for result in before:
        best = result["items"][0]["item"]
        assert running.client.delete(f"/items/{best}").json()["removed"] == 1
    gone = [result["items"][0]["item"] for result in before]
    after = running.post("/recommend", **asked)["results"]
    assert_equal(after, model.recommend(histories=asked["histories"], k=5, exclude=gone))
    near = running.post("/similar", items=[5], k=30)["results"][0]["similar"]
    assert not set(gone) & {own["item"] for own in near}
    again = running.client.delete(f"/items/{gone[0]}")
    assert again.status_code == 404 and "removed before" in again.json()["error"]
    running.post("/reload")  # which must not bring them back
    assert running.client.get("/ready").json()["items"] == 98
    items = [{"item": name, "title": "as it was"} for name in gone]
    answer = running.client.put("/items", json={"items": items}).json()
    assert answer == {"added": 0, "restored": 2, "items": 100}
    assert running.post("/recommend", **asked)["results"] == before
    running.service.stop()


def test_removed_items_stay_removed_over_a_model_without_them(
    shop: gj.Dataset, folders: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """An item that may not be sold would be recommended again after a detour over another model."""
    kept = shop.log.items != shop.log.num_items - 1
    users = np.repeat(shop.user_ids, shop.log.lengths)[kept]
    smaller = gj.Dataset.from_frames({"user": users, "item": shop.item_ids[shop.log.items[kept]]})
    gj.Recommender(method="plain", **SMALL).fit(smaller).save(tmp_path / "smaller")
    shutil.copytree(folders / "saved", tmp_path / "saved")
    running = Running(tmp_path / "saved", _with(models=tmp_path, batch_sizes=(2,), lengths=()))
    last = shop.item_ids[-1].item()
    assert running.client.delete(f"/items/{last}").status_code == 200
    running.post("/reload", path="smaller")
    assert running.client.delete(f"/items/{last}").status_code == 404
    assert running.post("/reload", path="saved")["items"] == 99
    running.client.put("/items", json={"items": [{"item": last, "title": "as it was"}]})
    assert running.post("/reload", path="saved")["items"] == 100
    running.service.stop()


def test_new_items_find_room_without_a_compiler(running: Running) -> None:
    """A new item would be served with another's vector, or every request wait for the compiler."""
    old = running.service.served.snapshot
    artifact, catalogue = old.artifact, old.catalogue
    copies = [4, 7] * 150  # more than are written at once

    def more(name: str, values: np.ndarray) -> np.ndarray:
        added = np.arange(1000, 1300) if name == "ids" else values[copies]
        return np.concatenate([values, added])

    rows = {name: more(name, getattr(catalogue, name)) for name in ("ids", "titles", "counts")}
    grown = type(artifact)(
        **{
            **{name: getattr(artifact, name) for name in artifact.__dataclass_fields__},
            "catalogue": type(catalogue)(**rows, columns={}),
            "features": more("features", np.asarray(artifact.features)),
        }
    )
    with compilations("backend_compile") as compiled:
        new = with_items(old, grown)
        near = new.nearest([4])[0]
    assert not compiled and new.programs is old.programs
    assert (near.scores[:29] > 0.9999).all() and (near.items[:29] >= 100).all()  # copies of item 4
    assert len(new.by_popularity) == 400 and len(old.by_popularity) == 100
    assert not (
        old.nearest([4])[0].items >= 100
    ).any()  # who was asked before is answered as before


def test_a_reload_under_load_drops_nothing(folders: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Requests in flight would fail, or be answered by half of one model and half of another."""
    shutil.copytree(folders / "saved", tmp_path / "model")
    running = Running(tmp_path / "model", _with(batch_sizes=(1, 8), lengths=(), log_requests=False))
    done, answers = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            answers.append(running.client.post("/recommend", json={"histories": [[5, 9]]}))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for number in (2, 3, 4):
            assert running.post("/reload")["model"] == number
        done.set()
        for asked in asking:
            asked.result()
    assert len(answers) > 12 and {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["model"] for answer in answers}) > 1
    lists = [answer.json()["results"][0]["items"] for answer in answers]
    assert len({tuple(own["item"] for own in found) for found in lists}) == 1
    (tmp_path / "model" / "model.json").write_text("{}")
    refused = running.client.post("/reload", json={})
    assert refused.status_code == 422 and "checksum" in refused.json()["error"]
    assert running.post("/recommend", histories=[[5]])["model"] == 4  # the old one goes on
    other = running.client.post("/reload", json={"path": "saved"})
    assert other.status_code == 403 and "--models" in other.json()["error"]
    running.service.stop()
    assert running.client.post("/recommend", json={"histories": [[5]]}).status_code == 503
    assert running.client.get("/ready").status_code == 503
    assert running.client.get("/health").status_code == 200


def test_beyond_the_queue_there_is_503_and_no_crash(folders: pathlib.Path) -> None:
    """Too much load would end the process, or let everybody wait without end."""
    limits = Limits(**{**vars(LIMITS), "queue": 4})
    running = Running(folders / "saved", _with(limits=limits, batch_sizes=(1,), lengths=()))
    many = running.client.post("/recommend", json={"histories": [[5]] * 5})
    assert many.status_code == 503 and "0 people wait already" in many.json()["error"]
    hold, answer = threading.Event(), running.service._batcher._answer
    running.service._batcher._answer = lambda questions: hold.wait(20) and answer(questions)  # type: ignore[assignment]

    async def flood() -> list[Any]:
        transport = httpx.ASGITransport(running.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            asked = [client.post("/recommend", json={"histories": [[5]]}) for _ in range(40)]
            asyncio.get_running_loop().call_later(0.5, hold.set)
            return await asyncio.gather(*asked)

    answers = asyncio.run(flood())
    counts = {status: [own.status_code for own in answers].count(status) for status in (200, 503)}
    assert counts == {200: 4, 503: 36}
    refused = next(own for own in answers if own.status_code == 503)
    assert refused.headers["retry-after"] == "1" and "in flight" in refused.json()["error"]
    metrics = running.client.get("/metrics").text
    assert 'grasp_serve_overload_total{reason="requests"} 36' in metrics
    assert 'grasp_serve_overload_total{reason="queue"} 1' in metrics
    assert running.post("/recommend", histories=[[5]])["results"]
    running.service.stop()


def test_who_waits_too_long_is_told_so(folders: pathlib.Path) -> None:
    """A caller would wait for ever behind a slow batch, and the service work for those who have gone."""
    limits = Limits(**{**vars(LIMITS), "seconds": 0.2})
    running = Running(folders / "saved", _with(limits=limits, batch_sizes=(1,), lengths=()))
    hold, answer, answered = threading.Event(), running.service._batcher._answer, []

    def slow(questions: Any) -> Any:
        hold.wait(20)
        answered.append(len(questions))
        return answer(questions)

    running.service._batcher._answer = slow
    for _ in range(3):
        late = running.client.post("/recommend", json={"histories": [[5]]})
        assert late.status_code == 503 and "no answer within 0.2 s" in late.json()["error"]
    hold.set()
    assert running.post("/recommend", histories=[[5]])["results"]
    assert sum(answered) == 2  # the first, and the last: nobody waited for the others any more
    running.service.stop()


def serve(*flags: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "grasp_jax.serving.http.cli", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True
    )


def load_of(port: int, folder: pathlib.Path) -> Any:
    """What the benchmark's client measures in a second at a low rate."""
    (folder / "bodies").write_text('{"histories": [[5, 9]]}\n{"histories": [[7]], "k": 3}\n')
    flags = ["--seconds=1", "--warm=0.2", "--connections=4", "--rate=20"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving_load",
        str(port),
        str(folder / "bodies"),
        *flags,
    ]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def refused_start(process: "subprocess.Popen[str]") -> str:
    """The one line with which a process ended."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_a_process_of_its_own(folders: pathlib.Path) -> None:
    """The program would not start, answer before it is ready, or end with an error; or refuse a start with a traceback."""
    with serve(
        str(folders / "saved"), "--port=0", "--batch-sizes=1,4", "--body-seconds=2"
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            listening = json.loads(process.stdout.readline())
            assert listening["event"] == "listening" and listening["host"] == "127.0.0.1"
            port = listening["port"]
            taken = serve(str(folders / "saved"), f"--port={port}")  # both start meanwhile
            nothing = serve(str(folders / "nothing"), "--port=0")
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
            states = []
            for _ in range(600):
                with contextlib.suppress(httpx.ConnectError):
                    ready = client.get("/ready")
                    states.append(ready.json()["status"])
                    if ready.status_code == 200:
                        break
                    early = client.post("/recommend", json={"histories": [[1]]})
                    assert early.status_code in (200, 503)
                time.sleep(0.05)
            assert states[-1] == "ready"
            answer = client.post("/recommend", json={"histories": [[5, 9]]})
            assert answer.status_code == 200 and "server" not in answer.headers
            measured = load_of(port, folders)
            assert measured["statuses"] == {"200": 20, "none": 0} and measured["left_over"] == 0
            assert 0 < measured["p50_ms"] <= measured["p99_ms"]
            begin = b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            with connected(port) as head, connected(port) as body, connected(port) as long:
                head.sendall(begin)  # and no more
                body.sendall(begin + b"content-length: 99\r\n\r\n{")
                assert b" 408 " in body.recv(4096) and head.recv(4096) == b""
                with contextlib.suppress(OSError):
                    for _ in range(20):
                        long.sendall(b"x: " + b"y" * (1 << 16) + b"\r\n")
                assert client.get("/ready").status_code == 200
            said = refused_start(taken)
            assert_names(said, (f"--port={port}", "in use", "name another"))
            said = refused_start(nothing)
            assert_names(said, (str(folders / "nothing"), "neither a saved model"))
            last = b'{"histories": [[5]], "k": 3}'
            with connected(port) as late:  # a request that has begun
                late.sendall(begin + b"content-length: %d\r\n\r\n" % len(last) + last[:9])
                time.sleep(0.3)
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
                late.sendall(last[9:])
                assert b" 200 " in late.recv(4096)
            rest, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
            assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
        finally:
            process.kill()


def test_items_are_found_by_words_of_their_titles(running: Running) -> None:
    """The page's search would miss items, or show those that nobody buys first."""
    catalogue = running.service.served.snapshot.catalogue
    word = catalogue.titles[0].split()[0]
    found = running.client.get("/items", params={"search": f" {word.upper()} ", "k": 30}).json()
    expected = {
        str(name)
        for name, title in zip(catalogue.ids, catalogue.titles, strict=True)
        if word.casefold() in title.casefold()
    }
    assert {str(item["item"]) for item in found["items"]} == expected
    counts = [item["interactions"] for item in found["items"]]
    assert counts == sorted(counts, reverse=True)
    by_id = running.client.get("/items", params={"search": str(catalogue.ids[3])}).json()["items"]
    assert catalogue.ids[3] in [item["item"] for item in by_id]
    for bad in (
        {"search": ""},
        {"search": "x" * 300},
        {"search": "a", "k": "-1"},
        {"search": "a", "k": 31},
    ):
        answer = running.client.get("/items", params=bad)
        assert answer.status_code == 422 and "expected" in answer.json()["error"]


def test_an_answer_says_which_items_of_the_history_it_is_like(running: Running) -> None:
    """The reason that people read would be of another item."""
    history = [5, 9, 5, 70]
    result = running.post("/recommend", histories=[history], k=4, why=2)["results"][0]
    snapshot = running.service.served.snapshot
    rows = snapshot.catalogue.rows
    unit = snapshot.unit(np.arange(len(rows)))
    for item in result["items"]:
        cosines = {
            own: float(unit[rows[str(item["item"])]] @ unit[rows[str(own)]]) for own in set(history)
        }
        best = sorted(cosines, key=lambda own: -cosines[own])[:2]
        assert [own["item"] for own in item["why"]] == best
        assert [own["cosine"] for own in item["why"]] == pytest.approx(
            [cosines[own] for own in best], abs=1e-6
        )
    assert "why" not in running.post("/recommend", histories=[history])["results"][0]["items"][0]


def test_a_second_model_answers_beside_the_first(folders: pathlib.Path, running: Running) -> None:
    """The page would show one model twice, or ask a model that is not there."""
    refused = running.client.post("/compare", json={"histories": [[5]]})
    assert refused.status_code == 404 and "--compare=FOLDER" in refused.json()["error"]
    other = Running(folders / "saved", _with(batch_sizes=(1,), lengths=()))
    asked = {"histories": [[5, 9]], "k": 4}
    assert other.client.delete("/items/40").status_code == 200
    app = create_app(running.service, _nothing, _nothing, other.service)
    client = TestClient(app)
    for route, by in (("/recommend", running), ("/compare", other)):
        assert client.post(route, json=asked).json() == by.post("/recommend", **asked)
    about = client.get("/ready").json()
    assert about["items"] == 100 and about["compare"]["items"] == 99
    assert "compare" not in running.client.get("/ready").json()
    bad = client.post("/compare", json={"histories": [[5]], "k": 0})
    assert bad.status_code == 422 and "k: 0" in bad.json()["error"]
    other.service.stop()
    assert client.get("/ready").status_code == 503


def test_the_page_needs_no_token_and_nothing_from_elsewhere(folders: pathlib.Path) -> None:
    """The page could not ask for the token; or it would send what people look at to others."""
    made = Running(folders / "saved", _with(token=SECRET))
    answer = made.client.get("/")
    assert (
        answer.status_code == 200
        and "connect-src 'self'" in answer.headers["content-security-policy"]
    )
    assert "//" not in answer.text.replace("// ", "").replace("http://www.w3.org", "")
    assert made.client.get("/items", params={"search": "soap"}).status_code == 401
    made.service.stop()
