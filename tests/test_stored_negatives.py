"""Stored evaluation negatives: what is drawn again must be what was drawn before, whichever of the two files is left."""

import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.data.log import build_log
from grasp_jax.evaluation.stored import StoredNegatives
from grasp_jax.trials.evaluation_sets import _negatives, check_negatives
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


def run_of(workdir: pathlib.Path, low: bool) -> Any:
    """Two users with three items each of twelve; with `low`, the first rated two others low."""
    users, items = np.repeat([0, 1], 3), np.arange(6)
    rated = (np.array([0, 0]), np.array([8, 9])) if low else None
    log = build_log("shop", users, items, catalogue=np.arange(12), low_rated=rated)
    config = Config().with_fields({"eval.num_negatives": 7})
    split = SimpleNamespace(log=log, test=SimpleNamespace(evaluated=np.arange(2)))
    return SimpleNamespace(workdir=workdir, config=config, fingerprint="d", split=split)


def test_a_run_excludes_items_that_were_rated_low(tmp_path: pathlib.Path) -> None:
    """`sampled100` would rank an item that the user had and did not like, which the page on protocols excludes."""
    drawn = _negatives(run_of(tmp_path, low=True), "test", np.arange(2))
    assert sorted(drawn[0].tolist()) == [3, 4, 5, 6, 7, 10, 11]
    np.testing.assert_array_equal(_negatives(run_of(tmp_path, True), "test", np.arange(2)), drawn)
    before = _negatives(run_of(tmp_path / "plain", low=False), "test", np.arange(2))
    described = (tmp_path / "plain/candidates/test.json").read_text()
    assert before.shape == (2, 7) and "low_rated" not in described, "as earlier versions drew"


def test_negatives_of_an_earlier_version_are_refused(tmp_path: pathlib.Path) -> None:
    """Methods trained before and after an update would be compared on different lists without a word."""
    path = tmp_path / "candidates" / "test.npy"
    config = {"seed": 42, "num_negatives": 7, "users": 2}
    StoredNegatives(path, {"data": "d", "config": config}).write(DRAWN[:2])
    message = refusal(_negatives, run_of(tmp_path, low=True), "test", np.arange(2))
    assert_names(
        message, (str(path), "an earlier version", "min_rating", "move", "--mode=evaluate")
    )
    other = run_of(tmp_path, low=True)
    other.fingerprint = "e"
    assert "the data has changed" in refusal(_negatives, other, "test", np.arange(2))


def test_negatives_of_an_earlier_version_serve_where_nothing_is_ranked_among_them(
    tmp_path: pathlib.Path,
) -> None:
    """Nobody could recommend, export or train by a full ranking in a workdir of an earlier version whose numbers are sound."""
    config = {"seed": 42, "num_negatives": 4, "users": 2}
    run = run_of(tmp_path, low=True)
    run.config = run.config.with_fields({"eval.num_negatives": 4})
    for name in ("valid", "test"):
        path = tmp_path / "candidates" / f"{name}.npy"
        StoredNegatives(path, {"data": "d", "config": config}).write(DRAWN[:2])
        before = path.read_bytes()
        found = _negatives(run, name, np.arange(2), ranked=False)
        np.testing.assert_array_equal(found, DRAWN[:2])
        assert path.read_bytes() == before
        assert "an earlier version" in refusal(_negatives, run, name, np.arange(2))
    assert "an earlier version" in refusal(check_negatives, run), "before hours of training"
    run.fingerprint = "e"
    assert "the data has changed" in refusal(_negatives, run, "valid", np.arange(2), None, False)
