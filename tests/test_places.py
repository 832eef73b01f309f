"""Places of a batch's targets: gathering from them, and the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.batch import take_places


@pytest.mark.parametrize("shape", [(9,), (9, 2, 3)])
@pytest.mark.parametrize("places", [[0, 3, 4, 8], [1, 2, 9, 9], [9, 9, 9, 9]])
def test_gradient_goes_back_to_its_place(shape: tuple[int, ...], places: list[int]) -> None:
    """A target's gradient would move another place's state, or that of a missing target the last one's."""
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    along = jnp.asarray(rng.standard_normal((len(places), *shape[1:])), jnp.float32)
    flat = jnp.asarray(places, jnp.int32)
    found, pull_back = jax.vjp(lambda values: take_places(values, flat), values)
    expected = np.zeros(shape, np.float32)
    for target, place in enumerate(places):
        np.testing.assert_array_equal(found[target], values[min(place, 8)])
        if place < 9:
            expected[place] = along[target]
    np.testing.assert_array_equal(pull_back(along)[0], expected)
