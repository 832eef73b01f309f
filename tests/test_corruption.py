"""Wrong descriptions: how many, whose, and that a knowledge bank knows of them."""

import numpy as np
import pytest

from grasp_jax.config import CorruptionConfig
from grasp_jax.knowledge.corruption import (
    ITEMS,
    MISSING,
    UNRELATED,
    USERS,
    corrupt_texts,
    corrupted_rows,
    described_by,
)
from tests.refusal import assert_names, refusal

TEXTS = [f"item {row}" for row in range(40)]


def section(kind: str, share: float) -> object:
    config = CorruptionConfig().with_fields({"kind": kind, "share": share})
    return config


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_shares_are_exact_and_nested(share: float) -> None:
    """A robustness curve would compare different users at each share, or hit users and items alike."""
    hit = corrupted_rows(section("swap", share), 40, USERS)
    assert hit.sum() == round(40 * share)
    assert (hit <= corrupted_rows(section("swap", 1.0), 40, USERS)).all()
    if 0 < share < 1:
        assert (hit & corrupted_rows(section("swap", 0.75), 40, USERS)).sum() == hit.sum()
        assert (hit != corrupted_rows(section("swap", share), 40, ITEMS)).any()
    assert not corrupted_rows(section("none", share), 40, USERS).any()


@pytest.mark.parametrize("kind", ["none", "swap", "template", "drop"])
def test_texts_by_kind(kind: str) -> None:
    """A corrupted description would be its own, or a clean one changed."""
    config = section(kind, 0.25)
    hit = corrupted_rows(config, 40, ITEMS)
    found = corrupt_texts(config, TEXTS, ITEMS)
    for row, text in enumerate(found):
        if not hit[row]:
            assert text == TEXTS[row]
        elif kind == "swap":
            assert text != TEXTS[row] and text in {TEXTS[other] for other in np.flatnonzero(hit)}
        else:
            assert text == {"template": UNRELATED, "drop": MISSING}[kind]
    assert hit.sum() == (0 if kind == "none" else 10) and len(set(found)) == len(TEXTS) - (
        9 if kind in ("template", "drop") else 0
    )


def test_vectors_can_only_be_swapped() -> None:
    """Vectors made elsewhere would be left as they are, and a flat curve taken for robustness."""
    hit = corrupted_rows(section("swap", 0.5), 40, USERS)
    rows = described_by(section("swap", 0.5), 40, USERS)
    assert (rows[hit] != np.flatnonzero(hit)).all() and sorted(rows) == list(range(40))
    np.testing.assert_array_equal(rows[~hit], np.flatnonzero(~hit))
    assert_names(
        refusal(described_by, section("drop", 0.5), 40, USERS),
        ("config.knowledge.corruption.kind", "drop", "swap"),
    )
