"""The service answers as `Recommender` does, and compiles nothing once it is ready."""

import asyncio
import dataclasses
import io
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

import grasp_jax as gj
from grasp_jax.serving.artifact import load_artifact
from grasp_jax.serving.http import fixed_programs
from grasp_jax.serving.http.app import create_app
from grasp_jax.serving.http.cli import parser, settings_of
from grasp_jax.serving.http.metrics import SECOND, JsonLines, Metrics
from grasp_jax.serving.http.placing import shapes_of
from grasp_jax.serving.http.requests import Recommend
from grasp_jax.serving.http.service import Service
from grasp_jax.serving.http.source import open_model
from tests.running_service import (
    SECRET,
    Running,
    assert_equal,
    compilations,
    histories,
    nothing,
    with_settings,
)

pytest_plugins = ("tests.running_service",)  # the fixtures


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


def test_gated_models_answer_for_histories_and_users(shop: gj.Dataset, gated: pathlib.Path) -> None:
    """The text of a user would be left out, or a user of the data would have another text than in training."""
    model = gj.Recommender.load(gated)
    running = Running(gated, with_settings(batch_sizes=(4,), lengths=()))
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
    opened = open_model(gated)
    artifact = dataclasses.replace(opened.artifact, encoder=None)
    service = Service(
        with_settings(batch_sizes=(8,), lengths=()), gated, log=JsonLines(io.StringIO())
    )
    assert service.load(opened._replace(artifact=artifact))
    user = shop.user_ids[7].item()

    async def both() -> list[Any]:
        asked = [Recommend(histories=[[5, 9]] * 3), Recommend(users=[user] * 3)]
        return await asyncio.gather(*map(service.recommend, asked), return_exceptions=True)

    for _ in range(3):  # the first of them to come may be answered alone
        refused, found = asyncio.run(both())
        assert "no saved text encoder" in str(refused)
        assert [own["by"] for own in found["results"]] == ["model"] * 3
    service.stop()


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


def test_users_of_a_saved_model_come_from_a_folder(
    folders: pathlib.Path, tmp_path: pathlib.Path, running: Running
) -> None:
    """A saved model could not answer for users, or would take their items for others."""
    (tmp_path / "data").mkdir()
    rows = ["user,item", "ann,7", "ann,9", "lee,no item", "ann,11"]
    (tmp_path / "data" / "interactions.csv").write_text("\n".join(rows) + "\n")
    opened = open_model(folders / "saved", str(tmp_path / "data"))
    assert opened.users is not None
    ann, lee = opened.users.find("ann"), opened.users.find("lee")
    assert ann is not None and ann.history.tolist() == [6, 8, 10]
    assert lee is not None and not len(lee.history) and opened.users.find("kim") is None


def test_probes_answer_head(running: Running) -> None:
    """Load balancers that send HEAD would take a healthy service for dead."""
    for path in ("/health", "/ready", "/", "/metrics", "/items?search=a", "/nowhere"):
        got, head = running.client.get(path), running.client.head(path)
        assert head.status_code == got.status_code and not head.content, path
        assert head.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":  # which counts itself
            assert head.headers["content-length"] == got.headers["content-length"]
    refused = running.client.head("/recommend")
    assert refused.status_code == 405 and refused.headers["allow"] == "POST"
    assert running.client.post("/health", json={}).headers["allow"] == "GET, HEAD"


def test_a_log_that_lost_rows_is_seen(folders: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A file that was cut off would be served, and nobody would see it before customers do."""
    log = tmp_path / "interactions.csv"
    rows = [f"u{n % 20},{1 + n},{1_700_000_000 + n}" for n in range(40)]

    def write(count: int) -> None:
        log.write_text("\n".join(["user,item,timestamp", *rows[:count]]) + "\n")

    write(40)
    lines = io.StringIO()
    settings = with_settings(batch_sizes=(1,), lengths=())
    service = Service(settings, folders / "saved", str(tmp_path), JsonLines(lines))
    assert service.load(open_model(folders / "saved", str(tmp_path)))
    client = TestClient(create_app(service, nothing, nothing))
    size = {"users": 20, "interactions": 40, "newest": "2023-11-14 22:13:59"}
    assert client.get("/ready").json()["data"] == size
    write(39)
    usual = client.post("/reload", json={}).json()
    assert usual["data"]["interactions"] == 39 and "warning" not in usual
    write(15)
    answer = client.post("/reload", json={}).json()
    assert answer["data"] == {"users": 15, "interactions": 15, "newest": "2023-11-14 22:13:34"}
    lost = "the data have 15 users instead of 20 and 15 interactions instead of 39"
    assert answer["warning"].startswith(lost)
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [own["level"] for own in events if own["event"] == "data_shrank"] == ["warning"]
    assert [own["data"]["users"] for own in events if own["event"] == "reloaded"] == [20, 15]
    service._data = None  # as for a service that was started on a workdir
    answer = client.post("/reload", json={}).json()
    assert answer["data"] is None and "none of its 15 users any more" in answer["warning"]
    service.stop()


def test_blanks_around_ids_do_not_count(running: Running, shop: gj.Dataset) -> None:
    """A caller with a blank in an id would get popular items without a word, or add a second item of the same name."""
    user = str(shop.user_ids[0])
    told = [
        running.post("/recommend", users=[name], unknown="error")["results"][0]["items"]
        for name in (user, f" {user} ")
    ]
    assert told[0] == told[1]
    blanks, none = (
        running.post("/recommend", histories=[history], unknown="error")["results"][0]["items"]
        for history in ([" 5", "9 "], ["5", "9"])
    )
    assert blanks == none
    known = running.client.put("/items", json={"items": [{"item": " 5 ", "title": "a"}]})
    assert known.status_code == 409


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
    settings = with_settings(batch_sizes=(1,), lengths=())
    other = Running(folders / "saved", settings, Metrics(SECOND))
    asked = {"histories": [[5, 9]], "k": 4}
    assert other.client.delete("/items/40").status_code == 200
    app = create_app(running.service, nothing, nothing, other.service)
    client = TestClient(app)
    for route, by in (("/recommend", running), ("/compare", other)):
        assert client.post(route, json=asked).json() == by.post("/recommend", **asked)
    metrics = client.get("/metrics").text
    assert "\ngrasp_serve_compare_items 99.0" in metrics and "\ngrasp_serve_items 100.0" in metrics
    assert "\ngrasp_serve_compare_batch_size_count 2.0" in metrics, (
        "of /compare, and of the other app"
    )
    about = client.get("/ready").json()
    assert about["items"] == 100 and about["compare"]["items"] == 99
    assert about["trained_on_all"] is False, "a part was held back"
    assert "compare" not in running.client.get("/ready").json()
    bad = client.post("/compare", json={"histories": [[5]], "k": 0})
    assert bad.status_code == 422 and "k: 0" in bad.json()["error"]
    other.service.stop()
    assert client.get("/ready").status_code == 503


def test_the_page_needs_no_token_and_nothing_from_elsewhere(folders: pathlib.Path) -> None:
    """The page could not ask for the token; or it would send what people look at to others."""
    made = Running(folders / "saved", with_settings(token=SECRET))
    answer = made.client.get("/")
    assert (
        answer.status_code == 200
        and "connect-src 'self'" in answer.headers["content-security-policy"]
    )
    assert "//" not in answer.text.replace("// ", "").replace("http://www.w3.org", "")
    assert made.client.get("/items", params={"search": "soap"}).status_code == 401
    made.service.stop()


def test_batch_sizes_suit_the_catalogue_unless_they_are_given(folders: pathlib.Path) -> None:
    """A large catalogue would pay for rows that only fill up, a small one start slower, or a flag be ignored."""
    assert (
        fixed_programs.batch_sizes_for(fixed_programs.MOST_UNBLOCKED) == fixed_programs.SMALL_SIZES
    )
    assert (
        fixed_programs.batch_sizes_for(fixed_programs.MOST_UNBLOCKED + 1)
        == fixed_programs.LARGE_SIZES
    )
    artifact = load_artifact(folders / "saved")
    assert shapes_of(artifact, None, (), 5).batch_sizes == fixed_programs.SMALL_SIZES
    assert shapes_of(artifact, (2, 4), (), 5).batch_sizes == (2, 4)
    assert settings_of(parser().parse_args(["m"])).batch_sizes is None
    assert settings_of(parser().parse_args(["m", "--batch-sizes=8,1"])).batch_sizes == (1, 8)
