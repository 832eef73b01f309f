"""Prompts, encoders, neighbours and the bank."""

import json
import pathlib

import numpy as np
import pytest

from grasp_jax.config import default_config
from grasp_jax.data.items import ItemTable
from grasp_jax.data.log import build_log
from grasp_jax.data.split import leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.knowledge import neighbours, prepare, prompts
from grasp_jax.knowledge.encode import load_vectors
from grasp_jax.knowledge.neighbours import mean_of_neighbours, top_neighbours

TITLES = ["Red Soap Bar", "Blue Soap Bar", "Red Hand Cream", "Blue Hand Cream", "Green Soap", "Green Cream"]


def small_data(last: int = 5) -> tuple:
    items = ItemTable(np.arange(6), {"title": TITLES, "attributes": [["Bath", "Soap"], [], None, ["Hands"], ["Bath"], ["Hands"]]})
    log = build_log("small", np.repeat(np.arange(3), 4), np.array([0, 1, 2, last, 1, 2, 3, last, 4, 5, 0, last]), catalogue=items.ids)
    return leave_one_out(log, 10), items


def knowledge_config() -> object:
    config = default_config().knowledge
    config.num_neighbours, config.width = 2, 4
    return config


def test_templates() -> None:
    """Would break prompts: missing single values read "unknown", clauses of missing lists go, unknown fields are refused."""
    template = "Name {title}; brand {brand}.[[ In: {attributes}.]]"
    assert prompts.fill(template, {"title": "Soap", "brand": None, "attributes": ["a", "b"]}) == "Name Soap; brand unknown. In: a, b."
    assert prompts.fill(template, {"title": "Soap", "brand": "B", "attributes": []}) == "Name Soap; brand B."
    with pytest.raises(UserError, match=r"names 'brand', but the data has attributes, title"):
        list(prompts.item_prompts(template, small_data()[1]))
    for path in prompts.TEMPLATE_FOLDER.glob("*.txt"):
        assert "{" in prompts.load_template(path.stem)


def test_user_prompts_do_not_leak() -> None:
    """Would break the protocol: text of validation and test items must not reach the user's description."""
    texts = []
    for last in (5, 0):
        split, items = small_data(last)
        template = prompts.load_template("shopper_user")
        texts.append(list(prompts.user_prompts(template, split.train, split.log.items, prompts.item_titles(items))))
    assert texts[0] == texts[1]
    assert "Red Soap Bar, Blue Soap Bar" in texts[0][0] and "Red Hand Cream" not in texts[0][0]


@pytest.mark.parametrize("blocks", [(1024, 16384), (16, 32)])
def test_exact_neighbours_equal_brute_force(blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break retrieval: blocks, padding, or a row among its own neighbours (duplicates included)."""
    monkeypatch.setattr(neighbours, "QUERY_BLOCK", blocks[0])
    monkeypatch.setattr(neighbours, "KEY_BLOCK", blocks[1])
    vectors = prepare.unit_rows(np.random.default_rng(0).standard_normal((101, 9)), center=False)
    vectors[50] = vectors[3]
    found = top_neighbours(vectors, 5)
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    expected = np.sort(scores, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(np.take_along_axis(scores, found, axis=1), expected, atol=1e-6)
    assert found[3, 0] == 50 and found[50, 0] == 3
    np.testing.assert_allclose(mean_of_neighbours(vectors, found)[7], vectors[found[7]].mean(axis=0), atol=1e-6)


def test_scann_finds_nearly_the_same() -> None:
    """Would break the approximate index: recall against exact on clustered data, self never returned."""
    pytest.importorskip("scann", reason="scann is not installed")
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16))
    vectors = prepare.unit_rows(centres[rng.integers(60, size=5000)] + 0.3 * rng.standard_normal((5000, 16)), center=False)
    exact, approximate = top_neighbours(vectors, 10), top_neighbours(vectors, 10, "scann")
    assert not (approximate == np.arange(5000)[:, None]).any()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, approximate, strict=True)]) > 0.9


def test_vectors_from_files(tmp_path: pathlib.Path) -> None:
    """Would break bring-your-own embeddings: order by ids, and faults that name the file."""
    vectors, ids = np.arange(12, dtype=np.float32).reshape(3, 4), np.array(["a", "b", "c"])
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "ids.txt").write_text("c\na\nb\n")
    loaded = load_vectors(str(tmp_path / "v.npy"), ids, str(tmp_path / "ids.txt"), "item")
    assert loaded[:, 0].tolist() == [4, 8, 0]
    (tmp_path / "ids.txt").write_text("c\na\nx\n")
    with pytest.raises(UserError, match=r"no line for item b"):
        load_vectors(str(tmp_path / "v.npy"), ids, str(tmp_path / "ids.txt"), "item")
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"p.npy: not a readable"):
        load_vectors(str(tmp_path / "p.npy"), ids, "", "item")
    from safetensors.numpy import save_file

    save_file({"embeddings": vectors}, tmp_path / "v.safetensors")
    assert np.array_equal(load_vectors(str(tmp_path / "v.safetensors"), ids, "", "item"), vectors)


def test_bank_is_reused_and_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break daily runs: a bank is made once, opened again, and refused with the field that differs or is damaged."""
    split, items = small_data()
    config, folder = knowledge_config(), tmp_path / "bank"
    bank = prepare.prepare_bank(config, split, items, None, folder)
    np.testing.assert_allclose(np.linalg.norm(bank.items, axis=1), 1, rtol=1e-5)
    assert isinstance(bank.items, np.memmap) and bank.users.shape == (3, bank.width) and bank.items_similar.shape == bank.items.shape

    def fail(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(prepare, "_make_tables", fail)
    again = prepare.prepare_bank(config, split, items, None, folder)
    assert np.array_equal(again.users, bank.users)
    config.num_neighbours = 1
    with pytest.raises(UserError, match=r"has num_neighbours=2, but the run needs 1"):
        prepare.prepare_bank(config, split, items, None, folder)
    config.num_neighbours = 2
    path = folder / "items.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"items.npy: the checksum differs"):
        prepare.prepare_bank(config, split, items, None, folder)
    (folder / "manifest.json").write_text(json.dumps({"format": 1})[:5])
    with pytest.raises(UserError, match=r"not a readable manifest"):
        prepare.prepare_bank(config, split, items, None, folder)
