"""Warnings of `prepare` about texts or vectors that many items share."""

import pathlib
import warnings

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.knowledge.repeats import vector_hashes

ITEMS, USERS = 40, 12


class Failing(LsaEncoder):
    """Gives each fourth text the same vector, or zeros."""

    value = 1.0

    def encode(self, texts: object) -> np.ndarray:
        vectors = super().encode(texts)  # type: ignore[arg-type]
        vectors[::3] = self.value
        return vectors


def shop() -> Split:
    users, items = np.repeat(np.arange(USERS), 6), (np.arange(USERS * 6) * 7) % ITEMS
    return leave_one_out(build_log("shop", users, items, catalogue=np.arange(ITEMS)), 10)


def said(
    folder: pathlib.Path,
    titles: list[str],
    capsys: pytest.CaptureFixture[str],
    encoder: str = "lsa",
    width: int = 6,
) -> str:
    """What the preparation of a bank prints."""
    config = KnowledgeConfig().with_fields(
        {"encoder": encoder, "num_neighbours": 2, "width": width, "item_template": "titled_item"}
    )
    sources = SourceTexts(AttributeTable(np.arange(ITEMS), {"title": titles}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_bank(config, shop(), sources, folder)
    return capsys.readouterr().out


def titles_of(equal: int) -> list[str]:
    colours, things = ("red", "blue", "green", "white"), ("soap", "cream", "oil", "wax", "gel")
    own = [f"{colours[k % 4]} {things[k % 5]} number{k % 8}" for k in range(ITEMS - equal)]
    return ["plain soap"] * equal + own


def test_equal_texts_are_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A describer that has failed would be trained on, and end with text that helps nobody and no reason."""
    found = said(tmp_path / "many", titles_of(12), capsys)
    assert "items: 12 of 40 have the same text, so it tells none of them apart: " in found
    assert "plain soap" in found and "same vector" not in found
    assert "same text" not in said(tmp_path / "few", titles_of(8), capsys)


def test_only_equal_texts_are_no_raw_warning(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A division by zero of scikit-learn would be shown, and the bank be narrower than asked for without a word."""
    found = said(tmp_path / "all", ["plain soap"] * ITEMS, capsys, width=64)
    assert "items: 40 of 40 have the same text" in found
    assert (
        "instead of 64 (config.knowledge.width), because the texts of 40 items share only" in found
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "items: 14 of 40 have the same vector, that of item 0"),
        (0.0, "14 of 40 have a vector of zeros"),
    ],
)
def test_an_encoder_that_has_failed_is_said(
    value: float,
    expected: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors that say nothing would be trained on, unless they came from a file."""
    monkeypatch.setitem(ENCODERS, "failing", Failing)
    monkeypatch.setattr(Failing, "value", value)
    assert expected in said(tmp_path / "bank", titles_of(0), capsys, "failing")


def test_zeros_of_either_sign_are_equal() -> None:
    """Equal vectors would be counted as two."""
    hashes, zeros = vector_hashes([np.array([[0.0, 1], [-0.0, 1]]), np.zeros((3, 2))])
    assert hashes[0] == hashes[1] != hashes[2] and zeros == 3
