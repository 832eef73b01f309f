"""Raw item vectors: the encoder's vectors, recovered from the rows of a bank and their original lengths."""

import pathlib
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from grasp_jax.data.attributes import SourceTexts
from grasp_jax.knowledge import prepare, shards
from grasp_jax.knowledge.bank import KnowledgeBank, load_bank, save_bank
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.knowledge.raw import LENGTHS, item_lengths, raw_item_vectors
from grasp_jax.models.methods.llminit import principal_components
from tests.banks import NUM_ITEMS, NUM_USERS, file_config, shop
from tests.refusal import assert_names, refusal
from tests.test_refresh import ByWords, day, make

WIDTH = 6


def vectors_file(folder: pathlib.Path) -> np.ndarray:
    """Items far from the origin, of many lengths; the third has no text, so that its vector is zeros."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((NUM_ITEMS, WIDTH)) * np.geomspace(0.1, 30, NUM_ITEMS)[:, None]
    vectors += 2
    vectors[2] = 0
    np.save(folder / "raw_items.npy", vectors.astype(np.float32))
    np.save(folder / "raw_users.npy", rng.standard_normal((NUM_USERS, WIDTH)).astype(np.float32))
    return vectors


def bank_of(folder: pathlib.Path, **fields: Any) -> KnowledgeBank:
    config = file_config(folder).with_fields(
        {
            "item_file": str(folder / "raw_items.npy"),
            "user_file": str(folder / "raw_users.npy"),
            **fields,
        }
    )
    return prepare.prepare_bank(config, shop(), SourceTexts(), folder / "bank")


@pytest.mark.parametrize("center", [True, False])
def test_raw_vectors_are_the_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, center: bool
) -> None:
    """The start "raw" would still be of centred or normalised vectors, or of another item's length."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 5)
    vectors = vectors_file(tmp_path)
    raw = raw_item_vectors(bank_of(tmp_path, center=center))
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw, vectors, rtol=1e-5, atol=1e-5)
    expected = PCA(3, svd_solver="full").fit_transform(np.load(tmp_path / "raw_items.npy"))
    start, _ = principal_components(raw, 3)
    sign = np.sign((start * expected).sum(axis=0))
    np.testing.assert_allclose(start * sign, expected, rtol=1e-3, atol=1e-3)


def test_half_precision_and_truncated(tmp_path: pathlib.Path) -> None:
    """A bank of half the size would give raw vectors of other lengths, or ones of other widths than its rows."""
    vectors = vectors_file(tmp_path)[:, :4]
    bank = bank_of(tmp_path, dtype="float16", reduction={"kind": "truncate", "width": 4})
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (np.abs(raw_item_vectors(bank) - vectors) <= 2e-3 * lengths).all()


def test_projections_are_refused(tmp_path: pathlib.Path) -> None:
    vectors_file(tmp_path)
    bank = bank_of(tmp_path, reduction={"kind": "pca", "width": 4})
    assert_names(
        refusal(raw_item_vectors, bank),
        ("config.model.start_components: 'raw'", "knowledge.reduction.kind='pca'", "'normalised'"),
    )


def test_refreshed_bank_knows_all_lengths(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second day items that were not encoded again would have the lengths of others, or none."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    make(day(False), tmp_path / "monday")
    refreshed = make(day(True), tmp_path / "tuesday", since=str(tmp_path / "monday"))
    anew = make(day(True), tmp_path / "anew", centre_from=str(tmp_path / "monday"))
    np.testing.assert_allclose(refreshed.extras[LENGTHS], anew.extras[LENGTHS], rtol=1e-5)
    np.testing.assert_allclose(
        raw_item_vectors(refreshed), raw_item_vectors(anew), rtol=1e-4, atol=1e-4
    )


def test_a_bank_of_an_earlier_version(tmp_path: pathlib.Path) -> None:
    """Vectors of length one would be taken for raw ones."""
    tables = {
        name: np.ones((4, 3), np.float32)
        for name in ("items", "items_similar", "users", "users_similar")
    }
    save_bank(tmp_path / "bank", tables, {"encoder": "lsa"}, {})
    assert_names(
        refusal(raw_item_vectors, load_bank(tmp_path / "bank", {"encoder": "lsa"})),
        ("config.model.start_components: 'raw'", "an earlier version", "prepare it again"),
    )
    assert item_lengths(tmp_path, np.array([-1, 0]), np.zeros(3), None) is None
