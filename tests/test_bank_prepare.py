"""Preparation of a bank: its four tables, their neighbours, and that a bank that is there is used."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.knowledge import prepare
from grasp_jax.knowledge.bank import TABLES
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.neighbours import search as neighbours
from tests.banks import NUM_ITEMS, NUM_USERS, file_config, items_table, knowledge_config, shop
from tests.refusal import assert_names, refusal


def test_prepare_makes_the_four_tables(tmp_path: pathlib.Path) -> None:
    """Would break Eq. 2: rows of length 1, and for each row the mean of its K nearest other rows, for items and users separately."""
    bank = prepare.prepare_bank(
        knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "bank"
    )
    for own, similar, rows in (
        (bank.items, bank.items_similar, NUM_ITEMS),
        (bank.users, bank.users_similar, NUM_USERS),
    ):
        assert (
            own.shape == similar.shape == (rows, bank.width)
            and own.dtype == similar.dtype == np.float32
        )
        np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, rtol=1e-5)
        scores = own @ own.T
        np.fill_diagonal(scores, -np.inf)
        nearest = np.sort(scores, axis=1)[:, -2:].mean(
            axis=1
        )  # what the row's cosine with its pooled neighbours must be
        np.testing.assert_allclose(np.einsum("re,re->r", own, similar), nearest, atol=1e-5)
    assert (
        bank.manifest["recipe"]["cut_off"]
        == "training part of each history: all but the last two interactions"
    )
    assert bank.manifest["notes"]["items"] == NUM_ITEMS


def test_prepare_reuses_a_bank(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break daily runs: the second call opens what the first one wrote, encodes nothing and writes nothing."""
    calls = []
    real = LsaEncoder.fit
    monkeypatch.setattr(LsaEncoder, "fit", lambda *arguments: calls.append(1) or real(*arguments))
    first = prepare.prepare_bank(
        knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "bank"
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = prepare.prepare_bank(
        knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "bank"
    )
    assert (
        len(calls) == 1
        and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    )
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in TABLES)


@pytest.mark.parametrize("call", [prepare.prepare_bank, prepare.encode_bank])
def test_a_bank_that_another_process_made_meanwhile(
    call: Callable[..., object], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the lock would be told that the finished bank is a folder with other files."""
    given = knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "bank"
    whole = prepare.bank_lock

    @contextlib.contextmanager
    def later(folder: pathlib.Path) -> Iterator[None]:
        monkeypatch.setattr(prepare, "bank_lock", whole)
        prepare.prepare_bank(*given)
        with whole(folder):
            yield

    monkeypatch.setattr(prepare, "bank_lock", later)
    call(*given)


def test_prepare_is_deterministic(tmp_path: pathlib.Path) -> None:
    """Would break reruns: the same recipe gives the same bits, in two folders."""
    one, two = (
        prepare.prepare_bank(
            knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / name
        )
        for name in ("one", "two")
    )
    assert one.manifest["checksums"] == two.manifest["checksums"]


def test_a_folder_with_other_files_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback, and hours lost, where config.knowledge.path names a folder in use."""
    (tmp_path / "notes.txt").write_text("mine")
    assert str(tmp_path) in refusal(
        prepare.prepare_bank, knowledge_config(), shop(), SourceTexts(items_table()), tmp_path
    )


def test_an_item_without_text_has_no_text_anywhere(tmp_path: pathlib.Path) -> None:
    """The bank, and a row of the saved encoder for a new item, would have text where there is none: of the first rows of the table."""
    config = file_config(tmp_path)
    vectors = np.load(config.item_file)
    vectors[3] = 0
    np.save(config.item_file, vectors)
    bank = prepare.prepare_bank(config, shop(), SourceTexts(items_table()), tmp_path / "bank")
    assert np.flatnonzero(~bank.items.any(axis=1)).tolist() == [3]
    assert np.flatnonzero(~bank.items_similar.any(axis=1)).tolist() == [3]
    assert (bank.extras["items_neighbours"][3] == NONE).all()
    assert bank.encoder_folder is not None
    encoder = SavedTextEncoder.load(bank.encoder_folder)
    rows = encoder.rows_of("items", vectors)
    np.testing.assert_allclose(rows, bank.items, atol=1e-6)
    assert not encoder.similar(rows, bank.items)[3].any()


@pytest.mark.parametrize("kind", ["items", "users"])
def test_neighbours_of_the_own_category(tmp_path: pathlib.Path, kind: str) -> None:
    """A column of the items or users table would be ignored, or a missing one be a KeyError."""
    column = {"items": "group_column", "users": "user_group_column"}[kind]
    config = knowledge_config().with_fields({column: "kind", "num_neighbours": 3})
    items, count = items_table(), {"items": NUM_ITEMS, "users": NUM_USERS}[kind]
    kinds = [row % 2 for row in range(count)]
    texts = {
        "items": SourceTexts(dataclasses.replace(items, columns={**items.columns, "kind": kinds})),
        "users": SourceTexts(items, AttributeTable(np.arange(NUM_USERS), {"kind": kinds})),
    }[kind]
    bank = prepare.prepare_bank(config, shop(), texts, tmp_path / "bank")
    table, own = getattr(bank, kind), np.array(kinds)
    scores = np.where(own[:, None] == own[None, :], table.astype(np.float64) @ table.T, -np.inf)
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :3]
    np.testing.assert_allclose(
        getattr(bank, f"{kind}_similar"), table[nearest].mean(axis=1), atol=1e-5
    )
    config = config.with_fields({column: "colour"})
    message = refusal(prepare.prepare_bank, config, shop(), texts, tmp_path / "other")
    assert_names(
        message, (f"config.knowledge.{column}: 'colour'", "expected a column of the table", "kind")
    )


def test_an_index_that_finds_too_little_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours that are none would go into training unseen."""
    config = knowledge_config()
    config = config.with_fields({"retrieval": "scann"})
    monkeypatch.setattr(
        neighbours,
        "search_scann",
        lambda unit, k, labels, target, progress, index: np.roll(np.arange(len(unit)), 1)[
            :, None
        ].repeat(k, 1),
    )
    message = refusal(
        prepare.prepare_bank, config, shop(), SourceTexts(items_table()), tmp_path / "bank"
    )
    assert_names(
        message,
        (
            "config.knowledge.retrieval: scann finds 0.",
            "config.knowledge.min_recall=0.9",
            "use 'exact'",
        ),
    )
    assert not (tmp_path / "bank").exists()
