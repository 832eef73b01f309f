"""`config.recommend.listed_only`: items of the log that the items table lacks are in histories and are not recommended."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import grasp_jax as gj
from grasp_jax.config import read_config
from grasp_jax.modes import Options, run_mode
from grasp_jax.serving.export import read_export
from grasp_jax.trials.run import open_run
from tests.refusal import assert_names, refusal
from tests.running_service import Running, with_settings
from tests.trained import SMALL, once, small_shop

GONE = 12  # items without a row in the table


def columns(shop: gj.Dataset) -> dict[str, list[str]]:
    """The interactions of the shop, with ids as text."""
    users = np.repeat(shop.user_ids, shop.log.lengths)
    return {
        "user": [f"u{name}" for name in users.tolist()],
        "item": [f"i{name}" for name in shop.item_ids[shop.log.items].tolist()],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files with "run", the finished workdir of a model that recommends listed items alone."""

    def make(folder: pathlib.Path) -> None:
        shop = small_shop()
        log, titles = columns(shop), shop.titles
        most_bought = np.argsort(-np.bincount(shop.log.items, minlength=100), kind="stable")
        kept = np.sort(most_bought[GONE:])  # customers would see the others most often
        folder.mkdir(parents=True)
        pa.parquet.write_table(pa.table(log), folder / "interactions.parquet")
        items = {
            "item": [f"i{shop.item_ids[row]}" for row in kept],
            "title": [titles[row] for row in kept],
        }
        pa.parquet.write_table(pa.table(items), folder / "items.parquet")
        data = gj.Dataset.read(folder, max_missing_text=0.5)
        model = gj.Recommender(
            method="plain", backbone="gru4rec", recommend__listed_only=True, **SMALL
        )
        model.fit(data, folder / "run")
        model.save(folder / "saved")

    return once(tmp_path_factory, "listed-only", make)


@pytest.fixture(scope="module")
def model(folder: pathlib.Path) -> gj.Recommender:
    return gj.Recommender.load(folder / "run")


def gone_of(folder: pathlib.Path) -> list[str]:
    """Ids of the log that the table lacks."""
    listed = pa.parquet.read_table(folder / "items.parquet")["item"].to_pylist()
    bought = pa.parquet.read_table(folder / "interactions.parquet")["item"].to_pylist()
    return sorted(set(bought) - set(listed))


def test_python_and_saved_models_recommend_listed_items(
    folder: pathlib.Path, model: gj.Recommender
) -> None:
    """Customers would be offered items that the shop does not sell, under ids in place of names."""
    gone = gone_of(folder)
    assert len(gone) == GONE
    histories = [gone[:3], ["i5", gone[0]], []]
    saved = gj.Recommender.load(folder / "saved")
    for own in (model, saved):
        found = own.recommend(histories=histories, k=100, exclude_seen=False)
        for person in range(len(histories)):
            told = [
                item
                for user, item in zip(found["user"], found["item"], strict=True)
                if user == person
            ]
            assert len(told) == 100 - GONE and not set(told) & set(gone)
        near = own.similar_items([gone[0], "i5"], k=99)
        assert not set(near["similar"]) & set(gone)
        assert np.isfinite(near["score"]).all() and np.max(near["rank"]) == 100 - GONE
        named = own.recommend(histories=[["i5"]], candidates=[gone[0], "i7"])
        assert list(named["item"]) == ["i7"]
    assert not set(model.recommend(k=100)["item"]) & set(gone)
    scored = model.user_vectors(histories=[gone[:3], gone[3:4]])["vector"]
    assert not np.allclose(scored[0], scored[1]), "they still count in histories"


def test_the_command_line_leaves_them_out(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A nightly file or an export would offer what the shop does not sell."""
    workdir, out = folder / "run", tmp_path / "best.parquet"
    for listed_only in (True, False):
        fields = {
            "recommend.listed_only": listed_only,
            "recommend.top_n": 95,
            "recommend.exclude_seen": False,
        }
        config = read_config(workdir).with_fields(fields)
        run_mode("recommend", lambda c=config: open_run(c, workdir), workdir, Options(out=str(out)))
        told = set(pa.parquet.read_table(out)["item"].to_pylist())
        assert bool(told & set(gone_of(folder))) != listed_only
        printed = capsys.readouterr().out
        line = f"{GONE} items of the log that the items table lacks: not recommended"
        assert (line in printed) == listed_only


def test_an_export_leaves_them_out(
    folder: pathlib.Path, model: gj.Recommender, tmp_path: pathlib.Path
) -> None:
    """A server without this package would have to know them."""
    model.export(tmp_path / "exported", k=100)
    table = pa.parquet.read_table(tmp_path / "exported" / "items.parquet").to_pydict()
    gone = [name in gone_of(folder) for name in table["id"]]
    assert table["recommended"] == [not own for own in gone]
    rows = np.flatnonzero(gone).astype(np.int32)
    scores, best = read_export(tmp_path / "exported").top_items([rows[:2], np.array([0], np.int32)])
    assert not set(best[np.isfinite(scores)].tolist()) & set(rows.tolist())
    assert np.isfinite(scores).sum(axis=1).tolist() == [100 - GONE, 99 - GONE]


def test_the_service_leaves_them_out(folder: pathlib.Path) -> None:
    """A restart or a reload would bring them back; or one that is sold again could not be brought back."""
    gone = gone_of(folder)
    for name in ("run", "saved"):
        running = Running(folder / name, with_settings(batch_sizes=(2,), lengths=()))
        assert running.client.get("/ready").json()["items"] == 100 - GONE
        for asked in ([gone[0]], []):
            (result,) = running.post("/recommend", histories=[asked], k=30)["results"]
            told = {own["item"] for own in result["items"]}
            assert told and not told & set(gone)
        again = {"item": gone[0], "title": "sold again"}
        only = {"histories": [["i5"]], "candidates": gone[:1]}
        for _ in range(2):
            running.client.delete(f"/items/{gone[0]}")
            answer = running.client.put("/items", json={"items": [again]}).json()
            assert answer["restored"] == 1 and answer["old_text"] == gone[:1]
        for _ in range(2):
            assert (
                running.post("/recommend", **only)["results"][0]["items"][0]["title"]
                == again["title"]
            )
            found = running.client.get("/items", params={"search": "sold again"}).json()["items"]
            assert [own["item"] for own in found] == gone[:1]
            assert running.post("/reload")["items"] == 101 - GONE
        running.client.delete(f"/items/{gone[0]}")
        assert running.post("/reload")["items"] == 100 - GONE
        again = running.client.delete(f"/items/{gone[1]}")
        assert again.status_code == 404 and "the items table lacks it" in again.json()["error"]
        assert set(gone[:2]) == running.service._removed, "forgotten with the next model"
        running.service.stop()


def test_without_a_table_nothing_is_listed(tmp_path: pathlib.Path) -> None:
    """The field would be set and do nothing, and nobody would see it."""
    data = gj.Dataset.from_frames(columns(small_shop()))
    model = gj.Recommender(method="plain", listed_only=True, **SMALL)
    message = refusal(model.fit, data, tmp_path / "run")
    assert_names(message, ("config.recommend.listed_only: True", "config.data.items_file"))
