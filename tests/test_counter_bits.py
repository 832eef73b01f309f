"""The bits by which kernels drop weights: as random as drawn ones, and different if seed, row, head, query or key differ."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.kernels.counter_bits import hash_counters, keep_scale, mix

SIZES = {"seed": 8, "row": 4, "head": 4, "query": 64, "key": 64}
COUNT = np.prod(list(SIZES.values()))


@functools.cache
def all_bits() -> np.ndarray:
    """[seed, row, head, query, key] uint32 bits of small counters, as a training run has them."""
    counters = [
        jnp.arange(size).reshape(-1, *[1] * (len(SIZES) - 1 - axis))
        for axis, size in enumerate(SIZES.values())
    ]
    return np.asarray(hash_counters(*counters))


def test_mix_by_hand() -> None:
    """Another hash than the published one has another quality."""
    bits = 0x12345678
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * factor % 2**32
    assert int(mix(jnp.uint32(0x12345678))) == bits ^ (bits >> 16)


def test_each_bit_is_set_half_the_time() -> None:
    """Weights would be kept at another rate than the config says."""
    share = np.array([((all_bits() >> bit) & 1).mean() for bit in range(32)])
    assert np.abs(share - 0.5).max() < 4.5 * 0.5 / np.sqrt(COUNT), share


@pytest.mark.parametrize("axis", range(len(SIZES)), ids=list(SIZES))
@pytest.mark.parametrize("step", [1, 2, 3])
def test_neighbours_are_not_correlated(axis: int, step: int) -> None:
    """Weights would fall out in stripes, the same ones in each head, row or step."""
    uniform = all_bits() / 2.0**32 - 0.5
    there = np.moveaxis(uniform, axis, 0)
    pairs = there[step:], there[:-step]
    correlation = (pairs[0] * pairs[1]).mean() * 12
    assert abs(correlation) < 4.5 / np.sqrt(pairs[0].size)
    assert ((pairs[0] < -0.2) & (pairs[1] < -0.2)).mean() == pytest.approx(
        0.09, abs=4.5 * 0.3 / np.sqrt(pairs[0].size)
    )


def test_no_two_rows_of_weights_are_shifts_of_each_other() -> None:
    """Two queries, or two seeds, would drop the same keys but for a shift: counters that are only added up do that."""
    rows = all_bits().reshape(-1, SIZES["key"])
    _, counts = np.unique(rows, return_counts=True)
    chance = COUNT**2 / 2 / 2**32
    assert (counts - 1).sum() < chance + 6 * np.sqrt(chance)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_share_kept_and_its_mean(rate: float) -> None:
    """Dropout would change the expected weight, or drop at a rate of zero."""
    factors = np.asarray(keep_scale(jnp.asarray(all_bits()), jnp.float32(rate)))
    np.testing.assert_allclose(factors[factors != 0], 1 / (1 - rate), rtol=1e-6)
    error = 4.5 * np.sqrt(rate * (1 - rate) / COUNT)
    assert abs((factors > 0).mean() - (1 - rate)) <= error
    assert factors.mean() == pytest.approx(1.0, abs=error / (1 - rate) + 1e-5)
