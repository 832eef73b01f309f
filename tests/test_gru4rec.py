"""GRU4Rec on packed rows against one user at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.backbones.gru4rec import GRU4Rec
from tests.packed_rows import FEATURES, POSITIONS, SEGMENTS, gru_by_hand
from tests.random_params import random_params


@pytest.mark.parametrize("num_layers", [1, 2])
def test_gru_equals_one_user_at_a_time(num_layers: int) -> None:
    """A user's state would leak into the next history of its row, or a gate be another than PyTorch's."""
    model = GRU4Rec(FEATURES, num_layers)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES)))
    params = random_params(model, vectors, SEGMENTS, POSITIONS, spread=0.7)
    states = np.asarray(jax.jit(model.apply)({"params": params}, vectors, SEGMENTS, POSITIONS))
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            np.testing.assert_allclose(
                states[row, own],
                gru_by_hand(params, vectors[row, own], num_layers),
                rtol=1e-5,
                atol=1e-5,
            )


@pytest.mark.parametrize("start_token", [False, True])
def test_gru_runs_over_its_padding_first(start_token: bool) -> None:
    """LLM-ESR's protocol would start from zero after all, or the vector of its padding be trained."""
    model = GRU4Rec(FEATURES, 2, start_token=start_token, padded_length=20)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES)))
    params = random_params(model, vectors, SEGMENTS, POSITIONS, spread=0.7)
    params["padding"] = np.linspace(-1, 1, FEATURES, dtype=np.float32)

    @jax.jit
    def states_and_gradient(params: Any) -> tuple[jax.Array, Any]:
        run = lambda params: model.apply({"params": params}, vectors, SEGMENTS, POSITIONS)  # noqa: E731
        states, pull = jax.vjp(run, params)
        return states, pull(jnp.ones_like(states))[0]

    states, gradient = states_and_gradient(params)
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            history = vectors[row, own].copy()
            if start_token:
                history[0] = params["padding"]
            padded = np.concatenate([np.tile(params["padding"], (20, 1)), history])
            np.testing.assert_allclose(
                states[row, own], gru_by_hand(params, padded, 2)[20:], rtol=1e-5, atol=1e-5
            )
    assert not gradient["padding"].any() and np.abs(gradient["recurrent_0"]).max() > 0.01


def test_gru_gradient_stays_within_a_history() -> None:
    """Training would move a user's items by the errors of its neighbour in the row, or by those of the past."""
    model = GRU4Rec(FEATURES)
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES))
    params = {"params": random_params(model, vectors, SEGMENTS, POSITIONS)}
    gradient = jax.jit(
        jax.grad(lambda x: (model.apply(params, x, SEGMENTS, POSITIONS)[1, 3] ** 2).sum())
    )(vectors)
    touched = np.abs(np.asarray(gradient)).max(axis=-1) > 1e-6
    assert touched.tolist() == [[False] * 7, [False, True, True, True, False, False, False]]


def test_gru_dropout_is_off_outside_training() -> None:
    """Rankings would change from call to call, or training have no dropout."""
    model = GRU4Rec(FEATURES)
    vectors = jnp.ones((*SEGMENTS.shape, FEATURES))
    params = {"params": random_params(model, vectors, SEGMENTS, POSITIONS)}
    call = jax.jit(
        lambda rate: model.apply(
            params, vectors, SEGMENTS, POSITIONS, rate, rngs={"dropout": jax.random.key(5)}
        )
    )
    still = model.apply(params, vectors, SEGMENTS, POSITIONS)
    np.testing.assert_allclose(call(jnp.float32(0.0)), still, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(call(jnp.float32(0.5))) - np.asarray(still)).max() > 0.01
