"""The best of many scores, against a sort of all of them in float64; equal scores come in the order of their rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.evaluation import top_k as module
from grasp_jax.evaluation.top_k import GROUP, top_k, top_k_in_blocks, top_products


def reference(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """[b, k] scores and rows by a stable sort in float64."""
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def tied(seed: int, people: int, rows: int) -> np.ndarray:
    """Scores with few different values, so that most of them tie, some of them -inf."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 40, (people, rows)).astype(np.float32)
    scores[rng.random((people, rows)) < 0.2] = -np.inf
    return scores


@pytest.mark.parametrize("rows", [5 * GROUP, 40 * GROUP, 40 * GROUP + 7])
def test_groups_choose_what_a_sort_would(rows: int) -> None:
    # A group that is passed over, rows of a remainder that are forgotten, or equals in another order.
    scores = tied(rows, 6, rows)
    found = jax.jit(lambda given: top_k(given, 9))(scores)
    for own, right in zip(found, reference(scores, 9), strict=True):
        np.testing.assert_array_equal(own, right)


@pytest.mark.parametrize(("rows", "block", "k"), [(700, 128, 9), (512, 128, 9), (700, 16, 30)])
def test_blocks_choose_what_a_sort_would(rows: int, block: int, k: int) -> None:
    # A row of the last block that counts twice, k above a block, or equals of a later block before those of an earlier one.
    scores = np.maximum(tied(rows + block, 5, rows), -1.0)

    def score(first: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(jnp.asarray(scores), first, block, axis=1)

    found = jax.jit(lambda: top_k_in_blocks(score, rows, k, block))()
    for own, right in zip(found, reference(scores, k), strict=True):
        np.testing.assert_array_equal(own, right)


@pytest.mark.parametrize("num_rows", [8 * 64, 8 * 64 + 3 * GROUP])
def test_products_choose_what_a_sort_would(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whole numbers, whose products are exact, so ties are ties: left-out rows that lead many groups, closed rows, and rows of the rest.
    monkeypatch.setattr(module, "BLOCK", 64)
    rng, k = np.random.default_rng(num_rows), 10
    states = rng.integers(-3, 4, (11, 5)).astype(np.float32)
    vectors = rng.integers(-3, 4, (num_rows, 5)).astype(np.float32)
    vectors[300:] = vectors[: num_rows - 300]  # doubles
    factors = rng.choice([0.5, 1.0, np.nan], num_rows, p=[0.3, 0.6, 0.1]).astype(np.float32)
    scores = np.where(np.isnan(factors), -np.inf, states @ vectors.T * factors)
    best = np.argsort(-scores, axis=1, kind="stable")
    left_out = np.where(rng.random((11, 20)) < 0.8, best[:, :20], -1).astype(np.int32)
    for line, own in zip(scores, left_out, strict=True):
        line[own[own >= 0]] = -np.inf
    found = jax.jit(lambda *given: top_products(*given, k))(states, vectors, factors, left_out)
    for own, right in zip(found, reference(scores, k), strict=True):
        np.testing.assert_array_equal(own, right)


def test_products_of_any_numbers_are_near_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    # Scores that are rounded more than float32 rounds, and fewer rows than are wanted.
    monkeypatch.setattr(module, "BLOCK", 64)
    rng = np.random.default_rng(3)
    states = rng.standard_normal((3, 8)).astype(np.float32)
    vectors = rng.standard_normal((160, 8)).astype(np.float32)
    factors = np.where(np.arange(160) % 20 == 0, 1.0, np.nan).astype(np.float32)
    nothing = np.full((3, 4), -1, np.int32)
    found, rows = jax.jit(lambda *given: top_products(*given, 10))(
        states, vectors, factors, nothing
    )
    scores = states.astype(np.float64) @ vectors.T.astype(np.float64)
    scores[:, np.isnan(factors)] = -np.inf
    right, order = reference(scores, 10)
    np.testing.assert_allclose(found, right, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(rows)[:, :8], order[:, :8])
    assert (np.asarray(found)[:, 8:] == -np.inf).all()
