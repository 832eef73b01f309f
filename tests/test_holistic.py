"""The factorised holistic attention against Eq. 3-5 as written, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models import attention
from grasp_jax.models.distinct import choose_projection, take_rows
from grasp_jax.models.holistic import HolisticEncoder, holistic_attention

WIDTH, FEATURES, PAIRS = 12, 5, 30


def unit_rows(seed: int, rows: int = PAIRS) -> jax.Array:
    x = jax.random.normal(jax.random.key(seed), (rows, WIDTH))
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def plain_reference(params: dict, gates: jax.Array, i: jax.Array, ibar: jax.Array, hidden: tuple[int, ...]) -> jax.Array:
    """[g1 i | g2 ibar | g3 i | g3 ibar], then a dense MLP on all 4E numbers."""
    x = jnp.concatenate([gates[:, 0:1] * i, gates[:, 1:2] * ibar, gates[:, 2:3] * i, gates[:, 2:3] * ibar], axis=1)
    own, similar = params["own_kernel"], params["similar_kernel"]
    kernel = jnp.concatenate([own[0], similar[0], own[1], similar[1]], axis=0) * jnp.sqrt(WIDTH)
    x = x @ kernel + params["first_bias"]
    for k in range(len(hidden)):
        layer = params[f"layers_{k}"]
        x = jax.nn.gelu(x, approximate=True) @ layer["kernel"] + layer["bias"]
    return x


@pytest.mark.parametrize("gate", attention.GATES)
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_factorised_equals_the_equations(gate: str, hidden: tuple[int, ...]) -> None:
    """Would break if projecting first and gating after were not the same function, or had another gradient."""
    u, ubar, i, ibar = (unit_rows(seed) for seed in range(4))
    encoder = HolisticEncoder(WIDTH, FEATURES, hidden, gate)
    logits = 8 * attention.pair_logits(u, ubar, i, ibar)  # gates far from one half
    normaliser = jnp.full((PAIRS, 3), 1.5)

    def fast(params: dict) -> jax.Array:
        module = encoder.bind({"params": params})
        return module(module.project(i, ibar), module.gates(logits, normaliser))

    init = encoder.init(jax.random.key(9), jnp.zeros((1, 3, hidden[0] if hidden else FEATURES)), jnp.zeros((1, 3)))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), init["params"])

    def slow(params: dict) -> jax.Array:
        gates = attention.gates(gate, logits, params.get("temperature"), params.get("gate_bias"), normaliser)
        return plain_reference(params, gates, i, ibar, hidden)

    np.testing.assert_allclose(fast(params), slow(params), rtol=1e-5, atol=1e-5)
    weights = jax.random.normal(jax.random.key(5), (PAIRS, FEATURES)) / PAIRS
    one = jax.grad(lambda p: (weights * fast(p)).sum())(params)
    two = jax.grad(lambda p: (weights * slow(p)).sum())(params)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    if gate == "learned":
        assert np.abs(one["temperature"]).max() > 1e-6


def test_paper_gate_is_equation_three() -> None:
    """Would break if a gate were not sigmoid(q.v / sqrt(width)), of the concatenated vectors too; oracle in float64."""
    u, ubar, i, ibar = (np.asarray(unit_rows(seed), np.float64) for seed in range(4))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    together, items = np.concatenate([u, ubar], 1), np.concatenate([i, ibar], 1)
    expected = np.concatenate(
        [
            sigmoid((u * i).sum(1, keepdims=True) / np.sqrt(WIDTH)) * i,
            sigmoid((ubar * ibar).sum(1, keepdims=True) / np.sqrt(WIDTH)) * ibar,
            sigmoid((together * items).sum(1, keepdims=True) / np.sqrt(2 * WIDTH)) * items,
        ],
        axis=1,
    )
    np.testing.assert_allclose(holistic_attention(*map(jnp.float32, (u, ubar, i, ibar))), expected, atol=1e-6)
    gates = attention.gates("paper", attention.pair_logits(*map(jnp.float32, (u, ubar, i, ibar))))
    np.testing.assert_allclose(gates[:, 2], sigmoid((together * items).sum(1) / np.sqrt(2 * WIDTH)), atol=1e-6)


def test_score_weights_equal_the_last_layer() -> None:
    """Would break full ranking: o . (W x + b) must equal (W^T o) . x + o . b."""
    encoder = HolisticEncoder(WIDTH, FEATURES, (16,), "paper")
    projected, gates = jax.random.normal(jax.random.key(0), (PAIRS, 3, 16)), jax.random.uniform(jax.random.key(1), (PAIRS, 3))
    variables = encoder.init(jax.random.key(2), projected, gates)
    states = jax.random.normal(jax.random.key(3), (PAIRS, FEATURES))
    module = encoder.bind(variables)
    weights, offset = module.last_layer(states)
    scores = (weights * module.head_input(projected, gates)).sum(1) + offset
    np.testing.assert_allclose(scores, (states * module(projected, gates)).sum(1), rtol=1e-5, atol=1e-5)


def test_softmax_normalises_over_the_history() -> None:
    """Would break Table 4's softmax: gates of one user's history sum to one, and a candidate counts itself in."""
    logits = jax.random.normal(jax.random.key(0), (1, 6, 2))
    segments = jnp.array([[3, 3, 3, 8, 8, -1]])
    normaliser = attention.history_normaliser(logits, segments)
    gates = attention.gates("softmax", logits, normaliser=normaliser)
    np.testing.assert_allclose(gates[0, :3].sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(gates[0, 3:5].sum(axis=0), 1.0, rtol=1e-6)
    extra = jnp.array([0.3, -0.2])
    candidate = attention.gates("softmax", extra, normaliser=attention.candidate_normaliser(extra, normaliser[0, 0]))
    three = attention.three_logits(jnp.concatenate([logits[0, :3], extra[None]]))
    np.testing.assert_allclose(candidate, jax.nn.softmax(three, axis=0)[-1], rtol=1e-5)


def test_take_rows_backward_equals_scatter() -> None:
    """Would break training with projection "distinct": sorted sums must equal the gather's own gradient."""
    rows, index = jax.random.normal(jax.random.key(0), (7, 3, 4)), jnp.array([2, 2, 0, 6, 2, 0])
    weights = jax.random.normal(jax.random.key(1), (6, 3, 4))
    ours = jax.grad(lambda r: (weights * take_rows(r, index)).sum())(rows)
    np.testing.assert_allclose(ours, jax.grad(lambda r: (weights * r[index]).sum())(rows), rtol=1e-6, atol=1e-6)


def test_projection_choice_follows_repetition() -> None:
    """Would break if a large catalogue were sorted for nothing, or a tiny one projected token by token."""
    assert choose_projection(np.ones(100_000), 800, 800) == "token"
    assert choose_projection(np.ones(50), 800, 800) == "table"
    popular = np.ones(100_000)
    popular[:5] = 1e7
    assert choose_projection(popular, 8000, 80) == "distinct"
