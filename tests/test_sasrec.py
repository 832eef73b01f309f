"""The packed SASRec: which positions attend to which, and values compared with NumPy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.models.backbones.sasrec import Dropout, SASRec, SelfAttention
from tests.random_params import random_params

FEATURES, LENGTH, MAX_LENGTH = 8, 10, 9
SEGMENTS = np.array([[5, 5, 5, 5, 2, 2, 2, 0, -1, -1], [7, 7, 7, 7, 7, 7, 7, 7, 7, -1]])
POSITIONS = np.array([[0, 1, 2, 3, 0, 1, 2, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]])


def backbone(num_heads: int = 2, causal: bool = True, num_layers: int = 2) -> SASRec:
    return SASRec(FEATURES, MAX_LENGTH, num_layers, num_heads, causal)


@functools.cache
def parameters(num_layers: int = 2) -> Any:
    """Random everywhere: also biases and LayerNorm scales, which start as zeros and ones."""
    model = backbone(num_layers=num_layers)
    return jax.tree.map(jnp.asarray, random_params(model, item_vectors(), SEGMENTS, POSITIONS))


def item_vectors(seed: int = 0) -> jax.Array:
    return jnp.asarray(
        np.random.default_rng(seed).standard_normal((*SEGMENTS.shape, FEATURES)), jnp.float32
    )


@functools.partial(jax.jit, static_argnums=0)
def forward(
    model: SASRec, params: Any, vectors: jax.Array, segments: jax.Array, positions: jax.Array
) -> jax.Array:
    return model.apply({"params": params}, vectors, segments, positions)


def test_mask_by_hand() -> None:
    """A position would see the future, a neighbour in its row, or, where empty, nothing at all (a softmax over nothing is NaN)."""
    allowed = attention_mask(jnp.array([[3, 3, 1, -1]]), causal=True)[0]
    np.testing.assert_array_equal(allowed, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    both_ways = attention_mask(jnp.array([[3, 3, 1, -1]]), causal=False)[0]
    np.testing.assert_array_equal(
        both_ways, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("causal", [True, False])
def test_packed_users_equal_users_alone(causal: bool, num_heads: int) -> None:
    """Packing would change the model: a user's states must not depend on who shares the row, or on where in the row they lie."""
    model, vectors = backbone(num_heads, causal), item_vectors()
    packed = forward(model, parameters(), vectors, jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS))
    for user in np.unique(SEGMENTS[SEGMENTS >= 0]):
        at, count = user == SEGMENTS, (user == SEGMENTS).sum()
        alone = jnp.zeros_like(vectors).at[0, :count].set(vectors[at])
        segments, positions = np.full_like(SEGMENTS, -1), np.zeros_like(POSITIONS)
        segments[0, :count], positions[0, :count] = user, np.arange(count)
        expected = forward(
            model, parameters(), alone, jnp.asarray(segments), jnp.asarray(positions)
        )[0, :count]
        np.testing.assert_allclose(packed[at], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_changing_a_later_item(causal: bool) -> None:
    """Training would read its own targets if a causal state moved with a later item; without the mask it must move (LLM-ESR)."""
    model, vectors, changed = backbone(causal=causal), item_vectors(), 5
    other = vectors.at[1, changed].set(item_vectors(seed=9)[1, changed])
    before, after = (
        np.asarray(forward(model, parameters(), v, jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS)))
        for v in (vectors, other)
    )
    moved = np.abs(before[1] - after[1]).max(axis=1)
    assert (moved[changed:9] > 1e-3).all()
    if causal:
        np.testing.assert_array_equal(before[1, :changed], after[1, :changed])
    else:
        assert (moved[:changed] > 1e-3).all()


@pytest.mark.parametrize("causal", [True, False])
def test_derivatives_stay_inside_the_mask(causal: bool) -> None:
    """One user's items would leak into another's states by some path other than attention, or a user's own would not reach them."""
    model = backbone(causal=causal)

    @jax.jit
    def jacobian(vectors: jax.Array) -> jax.Array:
        variables = {"params": parameters()}
        return jax.jacrev(
            lambda v: model.apply(variables, v, jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS))
        )(vectors)

    parameters()  # outside of the trace
    reach = np.abs(np.asarray(jacobian(item_vectors()))).max(
        axis=(2, 5)
    )  # [row, position] of the state, [row, position] of the item
    expected = np.zeros_like(reach, dtype=bool)
    for row, allowed in enumerate(np.asarray(attention_mask(jnp.asarray(SEGMENTS), causal))):
        expected[row, :, row] = allowed
    np.testing.assert_array_equal(reach > 0, expected)


def test_positions_count_within_the_history() -> None:
    """Order would be lost: a state must depend on the position embedding of its own place."""
    moved = POSITIONS.copy()
    moved[1, 8] = 3
    before, after = (
        forward(backbone(), parameters(), item_vectors(), jnp.asarray(SEGMENTS), jnp.asarray(p))
        for p in (POSITIONS, moved)
    )
    assert np.abs(np.asarray(before - after))[1, 8].max() > 1e-3
    np.testing.assert_array_equal(before[0], after[0])


def layer_norm(x: np.ndarray, params: dict) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-8) * params["scale"]
        + params["bias"]
    )


def dense(x: np.ndarray, params: dict) -> np.ndarray:
    return x @ params["kernel"] + params["bias"]


def oracle(params: dict, vectors: np.ndarray, zeros: int = 0, causal: bool = True) -> np.ndarray:
    """One-head SASRec of one user's [n, D] item vectors, as published: normalised queries, raw keys and values.

    `zeros` rows of padding stand before the history and are looked at, as LLM-ESR's code has it.
    """
    n = len(vectors)
    x = vectors * np.sqrt(FEATURES) + params["positions"][:n]
    for layer in range(2):
        attention = params[f"SelfAttention_{layer}"]
        q = layer_norm(x, params[f"LayerNorm_{2 * layer}"])
        attended = np.zeros_like(x)
        for t in range(n):
            seen = np.concatenate([np.zeros((zeros, FEATURES)), x[: t + 1] if causal else x])
            logits = (
                dense(q[t], attention["query"])
                @ dense(seen, attention["key"]).T
                / np.sqrt(FEATURES)
            )
            weights = np.exp(logits - logits.max())
            attended[t] = (weights / weights.sum()) @ dense(seen, attention["value"])
        x = layer_norm(q + dense(attended, attention["out"]), params[f"LayerNorm_{2 * layer + 1}"])
        x = x + dense(
            np.maximum(dense(x, params[f"Dense_{2 * layer}"]), 0), params[f"Dense_{2 * layer + 1}"]
        )
    return layer_norm(x, params["LayerNorm_4"])


@pytest.mark.parametrize("causal", [True, False])
def test_padding_that_is_looked_at(causal: bool) -> None:
    """LLM-ESR's protocol would see other padding than its zeros before each history, or the wrong number of them."""
    model = SASRec(FEATURES, MAX_LENGTH, 2, 1, causal, padded_length=7)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters())
    states = np.asarray(
        forward(model, parameters(), item_vectors(), jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS))
    )
    for user in np.unique(SEGMENTS[SEGMENTS >= 0]):
        vectors = np.asarray(item_vectors(), np.float64)[user == SEGMENTS]
        expected = oracle(params, vectors, max(7 - len(vectors), 0), causal)
        np.testing.assert_allclose(states[user == SEGMENTS], expected, rtol=1e-4, atol=1e-4)


def test_forward_equals_a_numpy_oracle() -> None:
    """The backbone would not be SASRec: every user's packed states against a float64 loop over positions."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters())
    states = np.asarray(
        forward(
            backbone(num_heads=1),
            parameters(),
            item_vectors(),
            jnp.asarray(SEGMENTS),
            jnp.asarray(POSITIONS),
        )
    )
    for user in np.unique(SEGMENTS[SEGMENTS >= 0]):
        expected = oracle(params, np.asarray(item_vectors(), np.float64)[user == SEGMENTS])
        np.testing.assert_allclose(states[user == SEGMENTS], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("block", "causal", "padded_length"),
    [
        ("sasrec", True, 0),
        ("sasrec", False, 7),
        ("prenorm", True, 7),
        ("prenorm", False, 0),
    ],
)
def test_states_of_asked_places(block: str, causal: bool, padded_length: int) -> None:
    """Ranking would see other states than training: of a few places alone, also where a user's number comes again in another row."""
    model = SASRec(FEATURES, MAX_LENGTH, 2, 2, causal, block=block, padded_length=padded_length)
    arguments = (
        item_vectors(),
        jnp.asarray(np.where(SEGMENTS == 7, 5, SEGMENTS)),
        jnp.asarray(POSITIONS),
    )
    params = random_params(model, *arguments)
    asked = jnp.array([3, 6, 9, 18, 12, 0])  # 9 is empty
    few = jax.jit(lambda params: model.apply({"params": params}, *arguments, None, asked))(params)
    every = forward(model, params, *arguments).reshape(-1, FEATURES)
    np.testing.assert_allclose(few, every[asked], rtol=1e-5, atol=1e-5)


def rms_norm(x: np.ndarray, params: dict) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * params["scale"]


def swiglu(x: np.ndarray, first: dict, second: dict) -> np.ndarray:
    gate, value = np.split(dense(x, first), 2, axis=-1)
    return dense(gate / (1 + np.exp(-gate)) * value, second)


def test_prenorm_block_equals_a_numpy_oracle() -> None:
    """The block would normalise in another place, or have another function, than its source."""
    model = SASRec(FEATURES, MAX_LENGTH, 2, 1, block="prenorm")
    arguments = item_vectors(), jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS)
    params = random_params(model, *arguments)
    states = np.asarray(forward(model, params, *arguments))
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for user in np.unique(SEGMENTS[SEGMENTS >= 0]):
        vectors = np.asarray(item_vectors(), np.float64)[user == SEGMENTS]
        x = vectors * np.sqrt(FEATURES) + exact["positions"][: len(vectors)]
        for layer in range(2):
            attention, y = (
                exact[f"SelfAttention_{layer}"],
                rms_norm(x, exact[f"RMSNorm_{2 * layer}"]),
            )
            attended = np.zeros_like(x)
            for t in range(len(x)):
                weights = np.exp(
                    dense(y[t], attention["query"])
                    @ dense(y[: t + 1], attention["key"]).T
                    / np.sqrt(FEATURES)
                )
                attended[t] = (weights / weights.sum()) @ dense(y[: t + 1], attention["value"])
            x = x + dense(attended, attention["out"])
            layers = exact[f"Dense_{2 * layer}"], exact[f"Dense_{2 * layer + 1}"]
            x = x + swiglu(rms_norm(x, exact[f"RMSNorm_{2 * layer + 1}"]), *layers)
        np.testing.assert_allclose(
            states[user == SEGMENTS], rms_norm(x, exact["RMSNorm_4"]), rtol=1e-4, atol=1e-4
        )


def test_heads_matter() -> None:
    """`num_heads` would be ignored: two heads of the same parameters are another function."""
    one, two = (
        forward(
            backbone(n), parameters(), item_vectors(), jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS)
        )
        for n in (1, 2)
    )
    assert np.abs(np.asarray(one - two)).max() > 1e-3


def test_dropout_none_is_deterministic() -> None:
    """Evaluation would be noisy: None needs no random stream and equals a rate of zero."""
    arguments = (
        {"params": parameters()},
        item_vectors(),
        jnp.asarray(SEGMENTS),
        jnp.asarray(POSITIONS),
    )
    apply = jax.jit(lambda rate, key: backbone().apply(*arguments, rate, rngs={"dropout": key}))
    without = forward(
        backbone(), parameters(), item_vectors(), jnp.asarray(SEGMENTS), jnp.asarray(POSITIONS)
    )
    np.testing.assert_allclose(
        without, apply(jnp.float32(0.0), jax.random.key(0)), rtol=1e-5, atol=1e-5
    )
    first, again, other = (apply(jnp.float32(0.4), jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.asarray(first - other)).max() > 1e-2


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_keeps_the_mean(rate: float) -> None:
    """Training and evaluation would see inputs of different size: a share `rate` becomes zero, the rest grows by 1 / (1 - rate)."""
    x = jnp.ones((200, 500))
    dropped = np.asarray(
        Dropout().apply({}, x, jnp.float32(rate), rngs={"dropout": jax.random.key(3)})
    )
    kept = dropped > 0
    np.testing.assert_allclose(dropped[kept], 1 / (1 - rate), rtol=1e-6)
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs((~kept).mean() - rate) < 4 * deviation
    assert abs(dropped.mean() - 1) < 4 * deviation / (1 - rate)
    assert (
        kept.any(axis=0).mean() > 0 and kept.mean(axis=0).std() < 0.1
    )  # no whole column is dropped at once


def test_dropout_leaves_the_padding_its_mean() -> None:
    """Some two hundred equal keys would be dropped all together, where each of them is dropped alone."""
    attention = SelfAttention(FEATURES, 1, jnp.float32, causal=False)
    inputs = jnp.zeros((1, 4, FEATURES)), jnp.zeros((1, 4, FEATURES)), jnp.zeros((1, 4), jnp.int32)
    padding = jnp.full((1, 4), 196.0)
    params = {"params": parameters(1)["SelfAttention_0"]}
    expected = np.asarray(jax.jit(attention.apply)(params, *inputs, None, padding))
    dropped = jax.jit(
        lambda key: attention.apply(
            params, *inputs, jnp.float32(0.5), padding, rngs={"dropout": key}
        )
    )
    drawn = [dropped(jax.random.key(k)) for k in range(20)]
    assert np.abs(np.stack(drawn) - expected).max() < 0.1 * np.abs(expected).max()
