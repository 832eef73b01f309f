"""The processing of an encoder's vectors before they become rows of a bank, compared with NumPy in float64."""

from collections.abc import Iterator

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.knowledge.encoders.geometry import (
    Geometry,
    mean_direction,
    principal_directions,
    row_lengths,
    to_rows,
    unit_rows,
    widths,
)
from tests.refusal import assert_names, refusal

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((200, 12)) * np.geomspace(4, 0.1, 12) + 1


def blocks() -> Iterator[np.ndarray]:
    """Blocks of several sizes, as shards are."""
    yield from np.split(VECTORS, [70, 71, 190])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_rows_are_one_long_and_centred() -> None:
    """The tables have rows of length 1, without the mean if the config says so, and rows of zeros stay as they are."""
    centre = mean_direction(blocks, 12)
    np.testing.assert_allclose(centre, unit(VECTORS).mean(axis=0), atol=1e-6)
    rows = to_rows(VECTORS, Geometry(centre))
    np.testing.assert_allclose(rows, unit(unit(VECTORS) - unit(VECTORS).mean(axis=0)), atol=1e-5)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(to_rows(VECTORS, Geometry(np.zeros(12))), unit(VECTORS), atol=1e-6)
    assert np.array_equal(
        unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])), np.array([[0.6, 0.8], [0, 0]])
    )


def test_rows_without_text_stay_zeros() -> None:
    """An item without a text would get the direction opposite to the mean, which is nobody's text, and be near to other such items."""
    some = np.concatenate([np.zeros((50, 12)), VECTORS])
    centre = mean_direction(lambda: iter([some]), 12)
    np.testing.assert_allclose(centre, mean_direction(blocks, 12), atol=1e-6)
    basis = np.eye(12, 3, dtype=np.float32)
    for geometry in (Geometry(centre), Geometry(centre, basis)):
        rows = to_rows(some, geometry)
        assert not rows[:50].any()
        np.testing.assert_allclose(rows[50:], to_rows(VECTORS, geometry), atol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_directions_of_very_long_and_very_short_vectors() -> None:
    """Squares of float32 numbers above 1e19 overflow, and those below 1e-23 vanish: such rows became zeros without a word."""
    plain = VECTORS[:4].astype(np.float32)
    rows = unit_rows(plain)
    powers = np.float32([1e30, 1, 1e-30, 0])[:, None]
    scaled = plain * powers
    np.testing.assert_allclose(unit_rows(scaled)[:3], rows[:3], atol=1e-6)
    assert np.array_equal(unit_rows(scaled)[1], rows[1]) and not unit_rows(scaled)[3].any()
    lengths = np.linalg.norm(plain.astype(np.float64), axis=1) * powers[:, 0]
    np.testing.assert_allclose(row_lengths(scaled), lengths, rtol=1e-5)
    huge = np.full((1, 12), np.finfo(np.float32).max)
    np.testing.assert_allclose(unit_rows(huge), 12**-0.5, rtol=1e-6)


def test_shortened_vectors_are_the_first_numbers() -> None:
    """A Matryoshka model's short embedding is its first numbers, brought to length one."""
    np.testing.assert_allclose(
        to_rows(VECTORS, Geometry(np.zeros(5))), unit(VECTORS[:, :5]), atol=1e-6
    )


def test_principal_directions_hold_the_most_variance() -> None:
    """Fewer numbers would hold less of what tells training items apart, or items that no one bought would decide them."""
    used = RNG.random(200) < 0.5
    centre = mean_direction(blocks, 12)
    basis = principal_directions(blocks, used, centre, 4)
    centred = to_rows(VECTORS, Geometry(centre)).astype(np.float64)[used]
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    projected = centred @ basis
    wanted = np.diag(spread[:4] ** 2 / used.sum())
    np.testing.assert_allclose(projected.T @ projected / used.sum(), wanted, atol=1e-5)
    np.testing.assert_allclose(np.abs(unit(basis.T) @ directions[:4].T), np.eye(4), atol=1e-4)
    np.testing.assert_array_equal(basis, principal_directions(blocks, used, centre, 4))
    rows = to_rows(VECTORS, Geometry(centre, basis))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_widths() -> None:
    """A width above that of the encoder would be a broadcasting error, or give rows of another width than the config says."""
    config = KnowledgeConfig()
    assert widths(config, 12) == (12, 12)
    config = config.with_fields({"reduction.kind": "truncate", "reduction.width": 5})
    assert widths(config, 12) == (5, 5)
    config = config.with_fields({"reduction.kind": "pca"})
    assert widths(config, 12) == (12, 5)
    assert_names(
        refusal(widths, config, 4), ("config.knowledge.reduction.width: 5", "have 4 numbers")
    )
