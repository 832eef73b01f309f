"""Shards of vectors: a killed run continues, the bank is the same, and its index may be moved."""

import os
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import write_arrays
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.knowledge import prepare, shards, unfinished_bank
from grasp_jax.knowledge.bank import TABLES, KnowledgeBank, bank_lock
from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.neighbours import search_scann
from grasp_jax.knowledge.neighbours.search_scann import PICKLE, open_index
from tests.banks import NUM_ITEMS, items_table, knowledge_config, shop
from tests.command_line import on_devices, run
from tests.refusal import assert_names, refusal


class Killed(Exception):
    """As good as a kill between two shards."""


def bank(folder: pathlib.Path, **changes: Any) -> KnowledgeBank:
    config = knowledge_config().with_fields(changes)
    return prepare.prepare_bank(config, shop(), SourceTexts(items_table()), folder)


def test_an_interrupted_run_goes_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of encoding would be done again, or a bank be made of vectors of two configs."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    real, encoded, limit = LsaEncoder.encode, [], [2]

    def counted(self: LsaEncoder, texts: list[str]) -> np.ndarray:
        if len(encoded) == limit[0]:
            raise Killed
        encoded.append(len(texts))
        return real(self, texts)

    monkeypatch.setattr(LsaEncoder, "encode", counted)
    with pytest.raises(Killed):
        bank(tmp_path / "bank")
    limit[0] = 99
    resumed = bank(tmp_path / "bank")
    assert encoded == [3, 3, 3, 3, 3, 3, 2] and not list(tmp_path.glob("*.partial"))
    whole = bank(tmp_path / "whole")
    assert resumed.manifest["checksums"] == whole.manifest["checksums"]
    limit[0], before = len(encoded) + 1, len(encoded)
    with pytest.raises(Killed):
        bank(tmp_path / "other")
    limit[0] = 99
    bank(
        tmp_path / "other", seed=1
    )  # another recipe: its first shard is not that of the interrupted run
    assert len(encoded) - before == 1 + 7


@pytest.mark.parametrize(
    "vectors, part",
    [
        (np.full((2, 4), np.nan), "row 7 holds a value"),
        (np.ones((3, 4)), "shape (3, 4) for 2 texts"),
    ],
)
def test_vectors_that_no_bank_may_hold(
    tmp_path: pathlib.Path, vectors: np.ndarray, part: str
) -> None:
    """NaN would reach training, or rows be another's."""
    assert part in refusal(
        shards.save_shard, tmp_path / "items-000000.npy", np.array([7, 9]), vectors
    )
    assert not list(tmp_path.iterdir())


def test_shards_of_two_models_are_refused(tmp_path: pathlib.Path) -> None:
    """Wider rows would be cut in silence where an encoder changed half-way."""
    for number, width in enumerate((4, 5)):
        shards.save_shard(
            shards.shard_path(tmp_path, "items", number), np.arange(2), np.ones((2, width))
        )
    assert_names(
        refusal(shards.shard_width, tmp_path, "items"),
        (str(tmp_path), "4 and 5 wide", "remove the folder"),
    )


def test_a_torn_shard_is_encoded_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that lost power would leave a file that ends every later run in a traceback."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    shards.fill_shards(tmp_path, "items", np.arange(7), lambda rows: np.ones((len(rows), 4)))
    shards.shard_path(tmp_path, "items", 1).write_bytes(b"")
    asked: list[list[int]] = []
    shards.fill_shards(
        tmp_path,
        "items",
        np.arange(7),
        lambda rows: asked.append(rows.tolist()) or np.ones((len(rows), 4)),
    )
    assert asked == [[3, 4, 5]] and shards.shard_width(tmp_path, "items") == 4


def test_any_wrong_byte_of_a_shard_is_one_line(tmp_path: pathlib.Path) -> None:
    """A rare kind of damage, such as another method of compression, would end in a traceback."""
    path = tmp_path / "items-0.npz"
    write_arrays(path, vectors=np.ones((2, 3), np.float32))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x08
        path.write_bytes(damaged)
        try:
            (found,) = shards.read_shards(tmp_path, "items")
            np.testing.assert_array_equal(found, 1)
        except UserError as error:
            refused += str(path) in str(error)
    assert refused > len(whole) / 2


def test_one_process_makes_a_bank(tmp_path: pathlib.Path) -> None:
    """Two runs with one knowledge.path would write into each other's tables."""
    with bank_lock(tmp_path / "bank"):
        message = refusal(bank, tmp_path / "bank")
    assert_names(
        message,
        (
            str(tmp_path / "bank"),
            f"process {os.getpid()}",
            "it makes this knowledge bank",
            "config.knowledge.path",
        ),
    )
    bank(tmp_path / "bank")
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_settings_are_checked_before_anything_is_paid_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong K, or a column that is not there, would be said after hours of encoding; and an index that was refused stay in the bank."""
    monkeypatch.setattr(unfinished_bank, "describe", lambda *_: pytest.fail("texts were asked for"))
    assert "config.knowledge.num_neighbours: 50" in refusal(
        bank, tmp_path / "bank", num_neighbours=50
    )
    assert "config.knowledge.user_group_column: 'city'" in refusal(
        bank, tmp_path / "bank", user_group_column="city"
    )
    monkeypatch.undo()
    pytest.importorskip("scann", reason="scann is not installed")
    refusal(bank, tmp_path / "bank", retrieval="scann", min_recall=1.1)
    made = bank(tmp_path / "bank")
    assert (
        not (tmp_path / "bank" / "items_index").exists()
        and made.manifest["recipe"]["retrieval"] == "exact"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_tables(tmp_path: pathlib.Path, dtype: str) -> None:
    """A bank of half the size would come back as raw bytes, or hold other rows than the whole one."""
    whole, half = bank(tmp_path / "whole"), bank(tmp_path / "half", dtype=dtype)
    for name in TABLES:
        table = getattr(half, name)
        assert table.dtype.name == dtype and isinstance(table, np.memmap)
        np.testing.assert_allclose(table.astype(np.float32), getattr(whole, name), atol=0.02)


def test_reduced_rows(tmp_path: pathlib.Path) -> None:
    """The width of the config would be ignored, or users would have other directions than the items that they are compared with."""
    whole = bank(tmp_path / "whole", center=False)
    kept = bank(tmp_path / "kept", center=False, reduction={"kind": "pca", "width": 3})
    assert kept.items.shape == (NUM_ITEMS, 3) and kept.manifest["recipe"]["reduction"] == {
        "kind": "pca",
        "width": 3,
    }
    for name in ("items", "users"):
        projected = getattr(whole, name) @ kept.extras["basis"]
        np.testing.assert_allclose(
            getattr(kept, name),
            projected / np.linalg.norm(projected, axis=1, keepdims=True),
            atol=1e-5,
        )


def test_the_index_moves_with_the_bank(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index would look for its files where it was made; a damaged one, or one with a pickle, be loaded."""
    pytest.importorskip("scann", reason="scann is not installed")
    made = bank(tmp_path / "made", retrieval="scann", min_recall=0.0)
    (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    ids, cosines = open_index(tmp_path / "moved" / "items_index").search_batched(
        made.items[:5].astype(np.float32)
    )
    np.testing.assert_array_equal(ids[:, 0], np.arange(5))
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-5)
    tree = unit_rows(np.random.default_rng(0).standard_normal((search_scann.TREE_ROWS, 8))).astype(
        np.float32
    )
    search_scann.save_index(search_scann.build(tree, 5), tmp_path / "tree")
    (tmp_path / "tree").rename(tmp_path / "planted")
    np.testing.assert_array_equal(
        open_index(tmp_path / "planted").search_batched(tree[:5])[0][:, 0], np.arange(5)
    )
    (tmp_path / "moved" / "items_index" / PICKLE).write_bytes(b"x")
    assert_names(
        refusal(open_index, tmp_path / "moved" / "items_index"),
        ("items_index", "missing or damaged", "prepare the bank again"),
    )
    damaged = tmp_path / "moved" / "users_index" / "dataset.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert_names(
        refusal(open_index, tmp_path / "moved" / "users_index"),
        ("users_index", "missing or damaged"),
    )


SPREAD = """
import sys, jax, numpy as np
from grasp_jax.knowledge.neighbours.search import top_neighbours
assert len(jax.devices()) == 4
vectors = np.random.default_rng(0).standard_normal((101, 9)).astype(np.float32)
np.save(sys.argv[1], top_neighbours(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 5))
"""


def test_exact_search_over_several_devices(tmp_path: pathlib.Path) -> None:
    """Queries that do not divide by the devices would get another's neighbours, or none."""
    found = tmp_path / "found.npy"
    done = run([sys.executable, "-c", SPREAD, str(found)], **on_devices(4))
    assert done.returncode == 0, done.stderr
    vectors = np.random.default_rng(0).standard_normal((101, 9)).astype(np.float32)
    scores = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ).T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(np.load(found), np.argsort(-scores, axis=1)[:, :5])
