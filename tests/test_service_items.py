"""Items that are added, removed and added back while a service answers, and models that replace each other."""

import concurrent.futures
import pathlib
import shutil
import threading
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.serving.http.placing import with_items
from grasp_jax.serving.http.snapshot import ServingSnapshot
from grasp_jax.serving.new_items import add_items
from tests.running_service import Running, assert_equal, compilations, with_settings
from tests.trained import SMALL, trained

pytest_plugins = ("tests.running_service",)  # the fixtures


def test_a_new_item_is_recommended_by_its_text(gated: pathlib.Path) -> None:
    """A new item would be served with another score than from Python, be lost by a reload, or be half added."""
    running = Running(gated, with_settings(batch_sizes=(4,), lengths=()))
    item = {"item": 5000, "title": running.service.served.snapshot.catalogue.titles[4]}
    half = running.client.put("/items", json={"items": [item, {"item": 5, "title": "known"}]})
    assert half.status_code == 409 and running.client.get("/ready").json()["items"] == 100
    answer = running.client.put("/items", json={"items": [item]})
    assert answer.json() == {"added": 1, "restored": 0, "items": 101}, answer.text
    assert not running.service._restored, "a model whose items table drops it would recommend it"
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


@pytest.mark.parametrize("backbone", ["gru4rec", "bert4rec"])  # with gates, and with towers
def test_a_wrong_title_is_corrected(
    backbone: str, tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A title with a slip would stay until the next training, or be shown with the score of another text."""
    gj.Recommender.load(trained(tmp_path_factory, backbone)).save(tmp_path / "saved")
    running = Running(tmp_path / "saved", with_settings(batch_sizes=(4,), lengths=()))
    titles = running.service.served.snapshot.catalogue.titles

    def put(*items: dict[str, Any]) -> dict[str, Any]:
        answer = running.client.put("/items", json={"items": list(items)})
        assert answer.status_code == 200, answer.text
        counts: dict[str, Any] = answer.json()
        return counts

    def found(word: str) -> list[int]:
        answer = running.client.get("/items", params={"search": word, "k": 30})
        return [item["item"] for item in answer.json()["items"]]

    put({"item": 5000, "title": "Wrogn word"}, {"item": 5001, "title": titles[7]})
    assert found("wrogn") == [5000]
    right = {"item": 5000, "title": f"{titles[4]} righted"}
    for counts in (
        {"added": 0, "restored": 0, "items": 102, "corrected": 1},
        {"added": 1, "restored": 1, "items": 103},  # its text is not encoded again
    ):
        more = [] if not counts["added"] else [{"item": 5002, "title": titles[9]}]
        running.client.delete("/items/5000")
        assert put(right, *more) == counts
        assert found("righted") == [5000] and not found("wrogn")
    assert put(right) == {"added": 0, "restored": 0, "items": 103}, "a repetition is no mistake"
    assert not running.service._restored
    model = gj.Recommender.load(tmp_path / "saved")
    model.add_items({"item": [5000, 5001, 5002], "title": [right["title"], titles[7], titles[9]]})
    asked = [[5, 9, 5000], [40], [5001, 5002]]
    for _ in range(2):
        answers = running.post("/recommend", histories=asked, k=30)
        assert_equal(answers["results"], model.recommend(histories=asked, k=30))
        only = running.post("/recommend", histories=[[7]], candidates=[5000])["results"][0]["items"]
        assert only[0]["title"] == right["title"]
        running.post("/reload")
        assert found("righted") == [5000] and not found("wrogn")
    trained_with = running.client.put("/items", json={"items": [{"item": 5, "title": "other"}]})
    assert trained_with.status_code == 409 and "train again" in trained_with.json()["error"]
    running.service.stop()


def test_fields_that_the_model_does_not_read_are_named(gated: pathlib.Path) -> None:
    """A misspelt column would be taken for read, and the new items lose that part of their texts for good."""
    running = Running(gated, with_settings(batch_sizes=(1,), lengths=()))
    read = running.service.served.snapshot.artifact.encoder.item_columns
    assert read == ("title", "attributes")
    good = {"item": 6000, "title": "red soap", "attributes": "Acme"}
    typos = {"item": 6001, "title": "red soap", "attribute": "Acme", "Title": "soap"}
    again = {"item": 6002, "title": "red soap", "attribute": "Acme", "": "x"}
    assert "ignored" not in running.client.put("/items", json={"items": [good]}).json()
    answer = running.client.put("/items", json={"items": [typos, again]})
    assert answer.status_code == 200 and answer.json()["ignored"] == ["", "Title", "attribute"]
    running.service.stop()


def test_removed_items_come_back_as_they_were(folders: pathlib.Path, model: gj.Recommender) -> None:
    """A sold-out item would still be recommended, take a place in the list, or be lost for good."""
    running = Running(folders / "plain", with_settings(batch_sizes=(2,), lengths=()))
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
    assert answer == {"added": 0, "restored": 2, "items": 100, "old_text": gone}
    assert running.post("/recommend", **asked)["results"] == before
    running.service.stop()


def test_a_text_that_is_not_used_is_named(gated: pathlib.Path) -> None:
    """A shop would believe that the new brand of an item that came back is read."""
    running = Running(gated, with_settings(batch_sizes=(1,), lengths=()))
    catalogue = running.service.served.snapshot.catalogue
    old = {"item": 5, "title": catalogue.titles[catalogue.rows["5"]], "colour": "red"}
    for item, told in ((old, None), ({**old, "attributes": "other"}, [5])):
        running.client.delete("/items/5")
        answer = running.client.put("/items", json={"items": [item]}).json()
        assert answer["restored"] == 1 and answer.get("old_text") == told
    running.service.stop()


def test_a_change_that_fails_is_not_made_later(
    gated: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller would get an error, for example because the device is full, and yet the next reload would apply the change."""
    running = Running(gated, with_settings(batch_sizes=(4,), lengths=()))
    service, titles = running.service, running.service.served.snapshot.catalogue.titles
    item = {"item": 5000, "title": titles[4]}
    with monkeypatch.context() as patch:
        patch.setattr(ServingSnapshot, "available_on_device", property(raising))
        for change in (
            lambda: running.client.put("/items", json={"items": [item]}),
            lambda: running.client.delete("/items/7"),
        ):
            assert change().status_code == 500
    assert running.post("/reload")["items"] == 100
    assert not service._added and not service._removed
    assert running.client.delete("/items/7").json() == {"removed": 1, "items": 99}
    assert running.post("/reload")["items"] == 99
    # the first request computes nothing that a model needs once
    assert {"folded_titles", "rows"} <= vars(service.served.snapshot.catalogue).keys()
    assert "trust" in vars(service.served.snapshot)
    service.stop()


def raising(_: object) -> None:
    raise RuntimeError("the device is full")


def test_removed_items_stay_removed_over_a_model_without_them(
    shop: gj.Dataset, folders: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """An item that may not be sold would be recommended again after a detour over another model."""
    kept = shop.log.items != shop.log.num_items - 1
    users = np.repeat(shop.user_ids, shop.log.lengths)[kept]
    smaller = gj.Dataset.from_frames({"user": users, "item": shop.item_ids[shop.log.items[kept]]})
    gj.Recommender(method="popularity", **SMALL).fit(smaller).save(tmp_path / "smaller")
    shutil.copytree(folders / "saved", tmp_path / "saved")
    running = Running(
        tmp_path / "saved", with_settings(models=tmp_path, batch_sizes=(2,), lengths=())
    )
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
    running = Running(
        tmp_path / "model", with_settings(batch_sizes=(1, 8), lengths=(), log_requests=False)
    )
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
