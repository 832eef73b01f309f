"""The factorised holistic attention against Eq. 3-5 as written, in value and gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config.model import GATES
from grasp_jax.models.encoders.holistic import HolisticEncoder, holistic_attention
from grasp_jax.models.gates import history_normaliser, pair_gates, pair_logits
from grasp_jax.models.projection import choose_projection
from tests.random_params import random_params

WIDTH, FEATURES, PAIRS = 12, 5, 30
ROW_NORM = 3.0


def unit_rows(seed: int, rows: int = PAIRS) -> jax.Array:
    x = jax.random.normal(jax.random.key(seed), (rows, WIDTH))
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def plain_reference(
    params: dict, gates: jax.Array, i: jax.Array, ibar: jax.Array, hidden: tuple[int, ...]
) -> jax.Array:
    """[g1 i | g2 ibar | g3 i | g3 ibar], then a dense MLP on all 4E numbers."""
    x = jnp.concatenate(
        [gates[:, 0:1] * i, gates[:, 1:2] * ibar, gates[:, 2:3] * i, gates[:, 2:3] * ibar], axis=1
    )
    own, similar = params["own_kernel"], params["similar_kernel"]
    kernel = jnp.concatenate([own[0], similar[0], own[1], similar[1]], axis=0)
    x = x @ kernel + params["first_bias"]
    for k in range(len(hidden)):
        layer = params[f"layers_{k}"]
        x = jax.nn.gelu(x, approximate=True) @ layer["kernel"] + layer["bias"]
    return x


@pytest.mark.parametrize("gate", GATES.names)
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_factorised_equals_the_equations(gate: str, hidden: tuple[int, ...]) -> None:
    """Would break if projecting first and gating after were not the same function, or had another gradient."""
    u, ubar, i, ibar = (unit_rows(seed) for seed in range(4))
    encoder = HolisticEncoder(WIDTH, FEATURES, hidden, gate)
    logits = 8 * pair_logits(u, ubar, i, ibar)  # gates far from one half
    normaliser = jnp.full((PAIRS, 3), 1.5)

    def fast(params: dict) -> jax.Array:
        module = encoder.bind({"params": params})
        return module(module.project(i, ibar), module.gates(logits, normaliser))

    params = random_parameters(encoder)

    def slow(params: dict) -> jax.Array:
        gates = pair_gates(
            gate, logits, params.get("temperature"), params.get("gate_bias"), normaliser
        )
        return plain_reference(params, gates, i, ibar, hidden)

    weights = jax.random.normal(jax.random.key(5), (PAIRS, FEATURES)) / PAIRS

    def weighted(
        function: Callable[[dict], jax.Array],
    ) -> Callable[[dict], tuple[jax.Array, jax.Array]]:
        def total(params: dict) -> tuple[jax.Array, jax.Array]:
            vectors = function(params)
            return (weights * vectors).sum(), vectors

        return jax.jit(jax.value_and_grad(total, has_aux=True))

    (_, ours), one = weighted(fast)(params)
    (_, expected), two = weighted(slow)(params)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert (
            np.abs(b).max() > 1e-4
        )  # every parameter takes part, temperature and bias of the learned gate too


def random_parameters(encoder: HolisticEncoder) -> dict:
    """Random values also for parameters that begin as ones or zeros: biases, and temperature and bias of the learned gate."""
    first = (*encoder.hidden, FEATURES)[0]
    drawn = random_params(encoder, np.zeros((1, 3, first)), np.zeros((1, 3)), spread=0.4)
    params: dict = jax.device_put(drawn)
    return params


def oracle(
    params: dict,
    gate: str,
    segments: np.ndarray,
    u: np.ndarray,
    ubar: np.ndarray,
    i: np.ndarray,
    ibar: np.ndarray,
) -> np.ndarray:
    """Eq. 3-5 in float64, pair by pair: three attended vectors side by side, [Wa; Wb; Wc; Wd], and the rest of the MLP."""
    dots = np.stack(
        [(u * i).sum(-1), (ubar * ibar).sum(-1), (u * i + ubar * ibar).sum(-1) / np.sqrt(2)],
        axis=-1,
    ) / np.sqrt(WIDTH)
    if gate == "none":
        gates = np.ones_like(dots)
    elif gate == "softmax":  # over the items of one history so far
        gates = np.concatenate(
            [
                np.exp(dots[segments == s]) / np.exp(dots[segments == s]).cumsum(axis=0)
                for s in np.unique(segments)
            ]
        )
    else:
        gates = 1 / (
            1
            + np.exp(
                -(dots * params["temperature"] + params["gate_bias"] if gate == "learned" else dots)
            )
        )
    own, similar = params["own_kernel"], params["similar_kernel"]
    kernel = np.concatenate([own[0], similar[0], own[1], similar[1]]) * ROW_NORM
    attended = [
        gates[:, :1] * i,
        gates[:, 1:2] * ibar,
        gates[:, 2:] * np.concatenate([i, ibar], axis=1),
    ]
    x = np.concatenate(attended, axis=1) @ kernel + params["first_bias"]
    for k in range(sum(name.startswith("layers_") for name in params)):
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        x = x @ params[f"layers_{k}"]["kernel"] + params[f"layers_{k}"]["bias"]
    return x


@pytest.mark.parametrize("gate", GATES.names)
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_item_vectors_equal_a_float64_oracle(gate: str, hidden: tuple[int, ...]) -> None:
    """Would break if logits, gates, weights and MLP, each right by itself, were put together in another way than Eq. 3-5."""
    segments = np.repeat([4, 6, 7], [5, 14, 11])
    tables = [3 * np.asarray(unit_rows(seed), np.float64) for seed in range(4)]
    encoder = HolisticEncoder(WIDTH, FEATURES, hidden, gate, ROW_NORM)
    params = random_parameters(encoder)

    @jax.jit
    def vectors(
        params: dict, u: jax.Array, ubar: jax.Array, i: jax.Array, ibar: jax.Array
    ) -> jax.Array:
        module = encoder.bind({"params": params})
        logits = pair_logits(u, ubar, i, ibar)
        normaliser = history_normaliser(logits[None], jnp.asarray(segments)[None])[0]
        return module(module.project(i, ibar), module.gates(logits, normaliser))

    expected = oracle(
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params), gate, segments, *tables
    )
    np.testing.assert_allclose(
        vectors(params, *(jnp.asarray(t, jnp.float32) for t in tables)),
        expected,
        rtol=1e-5,
        atol=1e-5,
    )


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
    np.testing.assert_allclose(
        holistic_attention(*map(jnp.float32, (u, ubar, i, ibar))), expected, atol=1e-6
    )
    gates = pair_gates("paper", pair_logits(*map(jnp.float32, (u, ubar, i, ibar))))
    np.testing.assert_allclose(
        gates[:, 2], sigmoid((together * items).sum(1) / np.sqrt(2 * WIDTH)), atol=1e-6
    )


def test_projection_choice() -> None:
    """Would break if a large catalogue were projected at every step, or a tiny one token by token."""
    assert choose_projection(num_items=100_000, num_ids=1600) == "token"
    assert choose_projection(num_items=500, num_ids=1600) == "table"
