"""Stored evaluation negatives: what is drawn again must be what was drawn before, whichever of the two files is left."""

import pathlib

import numpy as np
import pytest

from grasp_jax.evaluation.stored import StoredNegatives
from tests.refusal import assert_names, refusal

DRAWN = np.arange(12, dtype=np.int32).reshape(3, 4)


@pytest.mark.parametrize("damaged", ["json", "npy"])
def test_another_draw_does_not_replace_the_first(damaged: str, tmp_path: pathlib.Path) -> None:
    """A run would be tested on other negatives than before, without a word, or the first ones be overwritten."""
    stored = StoredNegatives(tmp_path / "negatives.npy", {"data": "d"})
    stored.write(DRAWN)
    path = tmp_path / f"negatives.{damaged}"
    path.write_bytes(path.read_bytes()[:-5])
    assert stored.read() is None, "it is drawn again"
    before = {own: own.read_bytes() for own in tmp_path.iterdir()}
    assert_names(refusal(stored.write, DRAWN + 1), (str(stored.path), "differ from those drawn"))
    assert {own: own.read_bytes() for own in tmp_path.iterdir()} == before
    stored.write(DRAWN)
    np.testing.assert_array_equal(stored.read(), DRAWN)
