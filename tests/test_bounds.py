"""Bounds of scores against the scores themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.evaluation.bounds import bounded_scores, expansion
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.encoders.holistic import GELU_CURVATURE, HolisticEncoder
from grasp_jax.models.sequence_model import SequenceModel
from tests.random_params import random_params

WIDTH, FEATURES, HIDDEN, USERS, ITEMS = 16, 8, 24, 9, 60


def random(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def scores_and_bounds(
    encoder: HolisticEncoder, logits: jax.Array, own_items: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact scores of random users and items, those near them, and their bounds; `own_items` asks for each user's items by themselves."""
    features = random(0, ITEMS, 3, encoder.hidden[0] if encoder.hidden else FEATURES)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), features[:1], jnp.zeros((1, 3)))[
        "params"
    ]
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [0.7 * random(10 + k, *leaf.shape) for k, leaf in enumerate(leaves)]
    states, model = random(1, USERS, FEATURES), SequenceModel(encoder, SASRec(FEATURES, 8))

    @jax.jit  # one program for all logits: they are no constants of it
    def both(
        own: Any, features: jax.Array, states: jax.Array, logits: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        params = {"params": own}
        gates = encoder.apply(params, logits, method="gates")
        exact = encoder.apply(params, features, states, gates, method="score_all")
        whole = {"encoder": own}
        of_items = expansion(model, whole, features)
        if own_items:
            of_items = jax.tree.map(lambda leaf: jnp.stack([leaf] * USERS), of_items)
        return exact, bounded_scores(model, whole, of_items, states, logits)

    exact, (near, slack) = both(jax.tree.unflatten(tree, drawn), features, states, logits)
    return np.asarray(exact), np.asarray(near), np.asarray(slack)


@pytest.mark.parametrize("gate", ["paper", "learned"])
@pytest.mark.parametrize("hidden", [(), (HIDDEN,)])
@pytest.mark.parametrize("scale", [0.0, 0.05, 1.0, 5.0])
def test_scores_are_within_their_bounds(gate: str, hidden: tuple[int, ...], scale: float) -> None:
    """A rank would count an item that it never scored on the wrong side of the target."""
    encoder, logits = (
        HolisticEncoder(WIDTH, FEATURES, hidden, gate),
        scale * random(2, USERS, ITEMS, 2),
    )
    exact, near, slack = scores_and_bounds(encoder, logits, own_items=scale == 1.0)
    assert (np.abs(exact - near) <= slack).all()
    assert np.abs(exact - near).max() > 0.02 or scale < 1.0 or not hidden


def test_bounds_are_narrow_where_gates_hardly_move() -> None:
    """Every item would be left open, and ranking be slower than without bounds."""
    encoder = HolisticEncoder(WIDTH, FEATURES, (HIDDEN,), "paper", keep=(True, False, True))
    exact, near, slack = scores_and_bounds(encoder, 0.02 * random(2, USERS, ITEMS, 2))
    without_gates = scores_and_bounds(encoder, jnp.zeros((USERS, ITEMS, 2)))[0]
    assert (
        slack.max() < 0.02 * exact.std()
        and np.abs(near - exact).max() < 0.1 * np.abs(without_gates - exact).max()
    )


def test_no_bounds_where_there_is_no_rest() -> None:
    """A softmax gate has no value at rest, and deeper networks another curvature: their ranks would be wrong."""
    features = random(0, ITEMS, 3, HIDDEN)
    for gate, hidden in (("softmax", (HIDDEN,)), ("none", (HIDDEN,)), ("paper", (HIDDEN, 8))):
        encoder = HolisticEncoder(WIDTH, FEATURES, hidden, gate)
        params = random_params(
            encoder,
            features[:, 0] if gate == "none" else features,
            None if gate == "none" else jnp.zeros(3),
        )
        assert encoder.apply({"params": params}, method="gated_head") is None


def test_curvature_is_the_largest() -> None:
    """A sharper bend than assumed would break the bounds."""
    x = jnp.linspace(-8.0, 8.0, 20_001)
    bend = jax.vmap(jax.grad(jax.grad(lambda x: jax.nn.gelu(x, approximate=True))))(x)
    assert GELU_CURVATURE - 1e-4 < jnp.abs(bend).max() <= GELU_CURVATURE
