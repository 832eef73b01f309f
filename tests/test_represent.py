"""Representations as Parquet: they are the model's vectors, and a later call computes what changed and nothing else."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest

import grasp_jax as gj
from grasp_jax.core.errors import UserError
from grasp_jax.data.log import InteractionLog
from grasp_jax.evaluation.audience import whole_histories
from grasp_jax.serving import represent as module
from grasp_jax.serving.represent import Represented, history_fingerprints
from tests.refusal import assert_names, refusal

NUM_USERS = 120
TINY: dict[str, Any] = {
    "features": 8,
    "num_layers": 1,
    "max_epochs": 1,
    "max_length": 9,
    "num_negatives": 20,
}


def frame(rows: list[tuple[str, str, int]]) -> dict[str, list[Any]]:
    users, items, times = zip(*rows, strict=True)
    return {"user": list(users), "item": list(items), "timestamp": list(times)}


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, int]]:
    rng = np.random.default_rng(3)
    return [
        (f"u{user}", f"i{item}", n)
        for user in range(NUM_USERS)
        for n, item in enumerate(rng.choice(40, rng.integers(4, 15), replace=False))
    ]


@pytest.fixture(scope="module")
def model(rows: list[tuple[str, str, int]]) -> gj.Recommender:
    """One small model for the whole file."""
    return gj.Recommender(method="plain", **TINY).fit(gj.Dataset.from_frames(frame(rows)))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USERS_OF_A_SHARD", 30)


def read(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Vector of each user."""
    table = pa.concat_tables(
        map(pa.parquet.read_table, sorted((folder / "users").glob("*.parquet")))
    )
    return dict(
        zip(table["user"].to_pylist(), map(np.array, table["vector"].to_pylist()), strict=True)
    )


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-5, atol=1e-6)


def test_they_are_the_vectors_of_the_model(model: gj.Recommender, tmp_path: pathlib.Path) -> None:
    """A click model would be given another user's vector."""
    assert model.represent(tmp_path / "out") == Represented(NUM_USERS, 0, 0)
    users = model.user_vectors()
    assert_same(read(tmp_path / "out"), dict(zip(users["user"], users["vector"], strict=True)))
    items = pa.parquet.read_table(tmp_path / "out" / "items.parquet")
    assert items["item"].to_pylist() == list(model.item_vectors()["item"])
    assert np.array_equal(
        items["vector"].to_pylist(), np.stack(list(model.item_vectors()["vector"]))
    )
    assert len(list((tmp_path / "out" / "users").iterdir())) == 4


def test_the_next_day_computes_what_changed_and_equals_a_whole_run(
    model: gj.Recommender, rows: list[tuple[str, str, int]], tmp_path: pathlib.Path
) -> None:
    """A user would keep yesterday's vector, or everybody be computed every day."""
    model.save(tmp_path / "model")
    today = [
        *rows,
        ("u3", "i1", 99),
        ("u7", "unknown", 99),
        ("new", "i5", 1),
        ("lost", "unknown", 1),
    ]
    today = [row for row in today if row[0] != "u9"]
    yesterday = gj.Recommender.load(tmp_path / "model", gj.Dataset.from_frames(frame(rows)))
    later = gj.Recommender.load(tmp_path / "model", gj.Dataset.from_frames(frame(today)))
    assert yesterday.represent(tmp_path / "daily").computed == NUM_USERS
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "daily" / "users").iterdir()}
    found = later.represent(tmp_path / "daily")
    assert found == Represented(
        computed=2, kept=NUM_USERS - 2, unknown=1
    )  # u3 and new; u7's further item is not read
    assert later.represent(tmp_path / "whole").computed == NUM_USERS  # one has left, one is new
    assert_same(read(tmp_path / "daily"), read(tmp_path / "whole"))
    assert later.represent(tmp_path / "daily").computed == 0
    assert all(path in before for path in (tmp_path / "daily" / "users").iterdir())


def test_an_interrupted_run_goes_on_where_it_was(
    model: gj.Recommender, tmp_path: pathlib.Path
) -> None:
    """Hours of a run over millions of users would be lost."""
    log, calls = model._fitted.dataset.log, []  # type: ignore[union-attr]
    width = model.item_vectors()["vector"][0].shape[0]

    def states(rows: np.ndarray) -> np.ndarray:
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.zeros((len(rows), width), np.float32)

    source = module.representations_of(
        model.artifact, log, states, np.zeros((log.num_items, width), np.float32)
    )
    with pytest.raises(KeyboardInterrupt):
        module.represent(source, tmp_path / "out")
    assert not (tmp_path / "out" / module.MANIFEST).exists()
    found = module.represent(source, tmp_path / "out")
    assert found.kept == sum(calls[:2]) and found.computed == NUM_USERS - found.kept


def test_another_model_and_a_damaged_file_are_computed_again(
    model: gj.Recommender, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Vectors of two models would stand in one column, or garbage be handed on."""
    model.represent(tmp_path / "out")
    shard = sorted((tmp_path / "out" / "users").iterdir())[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    found = model.represent(tmp_path / "out")
    assert 0 < found.computed < NUM_USERS and str(shard) in caplog.text
    log = model._fitted.dataset.log  # type: ignore[union-attr]
    vectors = np.stack(list(model.item_vectors()["vector"]))
    source = module.representations_of(
        model.artifact,
        log,
        lambda rows: np.ones((len(rows), vectors.shape[1]), np.float32),
        vectors,
    )
    other = dataclasses.replace(source, model={"model": "another"})
    assert module.represent(other, tmp_path / "out").computed == NUM_USERS


def test_a_folder_of_something_else_is_refused(
    model: gj.Recommender, tmp_path: pathlib.Path
) -> None:
    """Files of the user would be written among."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert_names(
        refusal(model.represent, tmp_path / "out"), (str(tmp_path / "out"), "no representations")
    )
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    model.save(tmp_path / "model")
    with pytest.raises(UserError, match="dataset="):
        gj.Recommender.load(tmp_path / "model").represent(tmp_path / "other")


def test_fingerprints_tell_histories_apart_and_do_not_depend_on_rows() -> None:
    """A changed history would look unchanged; or a new item, which moves the rows of others, would change all."""

    def fingerprints(histories: list[list[int]], ids: np.ndarray) -> list[int]:
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in histories])])
        items = np.concatenate(histories).astype(np.int32)
        log = InteractionLog("log", np.arange(len(histories)), ids, items, offsets)
        return history_fingerprints(log, whole_histories(log, 3)).tolist()

    found = fingerprints(
        [[0, 1, 2], [1, 0, 2], [0, 1], [3, 0, 1, 2], [0, 1, 2, 2]], np.array([*"abcd"])
    )
    assert found[0] == found[3]  # the model reads three items
    assert len(set(found)) == 4
    moved = fingerprints([[2, 3, 1]], np.array([*"zcab"]))
    assert moved[0] == found[0]


def test_only_what_the_model_reads_decides(
    model: gj.Recommender, rows: list[tuple[str, str, int]], tmp_path: pathlib.Path
) -> None:
    """A vector would be kept although an item that the model reads has changed behind one that it does not know."""
    model.save(tmp_path / "model")
    strange = [("old", f"i{item}", item) for item in range(12)]
    strange += [("old", "unknown", 50 + n) for n in range(9)]

    def loaded(today: list[tuple[str, str, int]]) -> gj.Recommender:
        return gj.Recommender.load(tmp_path / "model", gj.Dataset.from_frames(frame(today)))

    loaded([*rows, *strange]).represent(tmp_path / "out")
    changed = [(user, "i30" if item == "i11" else item, time) for user, item, time in strange]
    today = loaded([*rows, *changed])
    assert today.represent(tmp_path / "out").computed == 1
    today.represent(tmp_path / "whole")
    assert_same(read(tmp_path / "out"), read(tmp_path / "whole"))


def test_the_number_of_interactions_is_todays(
    model: gj.Recommender, rows: list[tuple[str, str, int]], tmp_path: pathlib.Path
) -> None:
    """A click model would read yesterday's number where the newest items are the same."""
    model.save(tmp_path / "model")

    def interactions(count: int) -> list[int]:
        today = [*rows, *(("again", "i1", n) for n in range(count))]
        data = gj.Dataset.from_frames(frame(today))
        gj.Recommender.load(tmp_path / "model", data).represent(tmp_path / "out")
        tables = map(pa.parquet.read_table, sorted((tmp_path / "out" / "users").iterdir()))
        table = pa.concat_tables(tables)
        return table.filter(pa.compute.field("user") == "again")["interactions"].to_pylist()

    assert [interactions(20), interactions(21)] == [[20], [21]]


def test_a_shard_with_an_unknown_user_is_left_alone(
    model: gj.Recommender, rows: list[tuple[str, str, int]], tmp_path: pathlib.Path
) -> None:
    """Copies of a folder, such as in a bucket, would be sent again every day."""
    model.save(tmp_path / "model")
    data = gj.Dataset.from_frames(frame([*rows, ("lost", "unknown", 1)]))
    loaded = gj.Recommender.load(tmp_path / "model", data)
    assert loaded.represent(tmp_path / "out").unknown == 1
    before = {path: path.stat().st_ino for path in (tmp_path / "out" / "users").iterdir()}
    assert loaded.represent(tmp_path / "out") == Represented(0, NUM_USERS, 1)
    assert before == {path: path.stat().st_ino for path in (tmp_path / "out" / "users").iterdir()}


def test_a_shard_of_which_no_user_is_known_is_read_again(tmp_path: pathlib.Path) -> None:
    """The second day would end in an error of NumPy."""
    nobody = module.Representations(
        np.array([1, 2]),
        np.array([3, 3]),
        np.array([5, 6], np.uint64),
        lambda rows: np.full((len(rows), 4), np.nan, np.float32),
        np.array([1]),
        np.array([1]),
        np.ones((1, 4), np.float32),
        {"model": 1},
    )
    for _ in range(2):
        assert module.represent(nobody, tmp_path / "out") == Represented(0, 0, 2)


def test_a_shard_without_users_is_written_too(
    model: gj.Recommender, tmp_path: pathlib.Path
) -> None:
    """A folder of many shards, interrupted, would not take a day with few users."""
    log = model._fitted.dataset.log  # type: ignore[union-attr]
    vectors = np.stack(list(model.item_vectors()["vector"]))
    source = module.representations_of(
        model.artifact, log, lambda rows: vectors[rows % 40], vectors
    )
    one = np.arange(1)
    few = dataclasses.replace(
        source,
        user_ids=source.user_ids[one],
        interactions=source.interactions[one],
        histories=source.histories[one],
    )
    module.represent(source, tmp_path / "out")
    (tmp_path / "out" / module.MANIFEST).unlink()
    for part, ending in (("users", "parquet"), ("checks", "json")):
        for path in sorted((tmp_path / "out" / part).glob(f"*.{ending}"))[1:]:
            path.unlink()
    assert sum(module.represent(few, tmp_path / "out")) == 1
    assert len(list((tmp_path / "out" / "users").iterdir())) == 4
    assert len(read(tmp_path / "out")) == 1


def test_other_added_items_are_another_model(model: gj.Recommender) -> None:
    """Vectors of users would be kept of a model that knew other new items."""
    log = model._fitted.dataset.log  # type: ignore[union-attr]
    vectors = np.stack(list(model.item_vectors()["vector"]))
    made_from = {**model.artifact.made_from, "added_items": 1}
    artifact = dataclasses.replace(model.artifact, made_from=made_from)
    first, second = (
        module.representations_of(artifact, log, lambda rows: vectors[rows], vectors + change).model
        for change in (0.0, 1.0)
    )
    assert first != second and first.keys() == second.keys()


def test_texts_of_the_bank_and_of_histories_are_told_apart(model: gj.Recommender) -> None:
    """With gates a run and the model saved from it give a user other vectors, which would stand in one column."""
    log = model._fitted.dataset.log  # type: ignore[union-attr]
    vectors = np.stack(list(model.item_vectors()["vector"]))

    def about(method: str, texts_of_bank: bool) -> object:
        artifact = dataclasses.replace(model.artifact, method=method)
        return module.representations_of(
            artifact, log, lambda rows: rows, vectors, texts_of_bank
        ).model

    assert about("grasp", True) != about("grasp", False)
    assert about("plain", True) == about("plain", False)
