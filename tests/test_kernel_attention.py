"""The packed attention kernels against the weights written out: every gradient, form of attention and shape of a row."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.kernels.packed_attention import (
    AttentionForm,
    packed_attention,
    packed_attention_reference,
    visible,
)
from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.kernels.counter_bits import SeededDropout
from tests.triton_lowering import kernels_lowered

LENGTH, HEADS, WIDTH = 75, 2, 12  # neither a multiple of a block nor a power of two
SEED = jnp.uint32(11)


def packed_rows() -> np.ndarray:
    """[4, 75]: one history over the whole row; histories of one; gaps at the begin, in the middle and at the end; nothing at all."""
    rows = np.full((4, LENGTH), -1, np.int32)
    rows[0] = 6
    rows[1] = np.arange(LENGTH)
    for user, (begin, end) in enumerate([(2, 9), (9, 10), (10, 45), (47, 64), (64, 70)]):
        rows[2, begin:end] = user
    return rows


SEGMENTS = packed_rows()


def random_inputs(
    count: int = 4, shape: tuple[int, ...] = (*SEGMENTS.shape, HEADS, WIDTH), seed: int = 0
) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(1.5 * rng.standard_normal(shape), jnp.float32) for _ in range(count)]


def with_gradients(
    attend: Callable[..., jax.Array],
    inputs: list[jax.Array],
    segments: np.ndarray,
    form: AttentionForm,
) -> list[jax.Array]:
    """Attended values and the gradients of queries, keys and values, along the last of `inputs`."""

    @jax.jit
    def run(
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
        along: jax.Array,
        dropout: SeededDropout | None,
    ) -> list[jax.Array]:
        def attended(*given: jax.Array) -> jax.Array:
            return attend(*given, jnp.asarray(segments), form._replace(dropout=dropout))

        out, pull_back = jax.vjp(attended, queries, keys, values)
        return [out, *pull_back(along.astype(out.dtype))]

    return run(*inputs, form.dropout)


def assert_close(
    found: list[jax.Array], expected: list[jax.Array], tolerance: float = 1e-5
) -> None:
    """Each array within `tolerance` of the largest value that is expected of it."""
    for name, ours, theirs in zip(
        ("out", "d queries", "d keys", "d values"), found, expected, strict=True
    ):
        error = (
            np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max()
            / np.abs(theirs).max()
        )
        assert error < tolerance, f"{name}: {error}"


FORMS = [
    (True, "softmax", 0.3),
    (False, "softmax", None),
    (True, "sigmoid", None),
    (False, "sigmoid", 0.3),
]


@pytest.mark.parametrize(("causal", "normaliser", "rate"), FORMS)
def test_outputs_and_gradients(causal: bool, normaliser: str, rate: float | None) -> None:
    """A wrong mask, a block left out at an interval's edge, or a dropped term of a gradient would train another model."""
    dropout = None if rate is None else SeededDropout(jnp.float32(rate), SEED)
    form, inputs = AttentionForm(causal, normaliser, dropout), random_inputs()
    found, expected = (
        with_gradients(attend, inputs, SEGMENTS, form)
        for attend in (packed_attention, packed_attention_reference)
    )
    assert_close(found, expected)
    if rate is None and normaliser == "softmax":
        lonely = SEGMENTS < 0
        np.testing.assert_allclose(found[0][lonely], inputs[2][lonely], rtol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_intervals_are_those_of_the_mask(causal: bool) -> None:
    """A position would see beyond its history, or a key's gradient miss a query."""
    rng = np.random.default_rng(0)
    random_rows = np.repeat(np.cumsum(rng.integers(1, 3, (6, 25)), axis=1), 3, axis=1)
    random_rows[rng.random(random_rows.shape) < 0.1] = -1
    rows = np.concatenate([SEGMENTS, random_rows])
    # A gap within a history makes two of it, which packing never does; so ids change at gaps.
    rows = np.where(rows >= 0, 100 * np.cumsum(rows < 0, axis=1) + rows, -1)
    begin, end, seen_begin, seen_end = (
        np.asarray(own)[:, :, None] for own in visible(jnp.asarray(rows), causal)
    )
    allowed, place = np.asarray(attention_mask(jnp.asarray(rows), causal)), np.arange(LENGTH)
    np.testing.assert_array_equal((begin <= place) & (place < end), allowed)
    np.testing.assert_array_equal(
        (seen_begin <= place) & (place < seen_end), allowed.swapaxes(1, 2)
    )


def test_blocks_of_other_histories_are_not_read() -> None:
    """The kernels would compute the whole [L, L]: a NaN in a block that nobody may see shows that it was touched."""
    segments = np.repeat([[0, 1, 2]], 32, axis=1).reshape(1, 96)
    inputs = random_inputs(4, (1, 96, 1, 16))
    poisoned = [given.at[:, 32:64].set(jnp.nan) for given in inputs]
    for found in with_gradients(packed_attention, poisoned, segments, AttentionForm(causal=False)):
        assert np.isnan(found[:, 32:64]).all()
        assert np.isfinite(found[:, :32]).all() and np.isfinite(found[:, 64:]).all()


@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
def test_bfloat16_is_within_its_rounding(normaliser: str) -> None:
    """Sums in bfloat16 would lose the small weights of a long history; results of another type would change the model's."""
    inputs = [given.astype(jnp.bfloat16) for given in random_inputs()]
    wide = [given.astype(jnp.float32) for given in inputs]
    form = AttentionForm(True, normaliser)
    found = with_gradients(packed_attention, inputs, SEGMENTS, form)
    expected = with_gradients(packed_attention_reference, wide, SEGMENTS, form)
    assert {own.dtype for own in found} == {jnp.dtype(jnp.bfloat16)}
    assert_close([own.astype(jnp.float32) for own in found], expected, 2.0**-7)


def test_models_side_by_side_in_a_loop() -> None:
    """Models trained side by side would share a rate or a seed, or the kernels refuse `vmap` within `scan`."""
    shape = (3, *SEGMENTS.shape, 1, 16)
    queries, keys, values = random_inputs(3, shape)
    rates, seeds = jnp.array([0.0, 0.2, 0.6]), jnp.array([1, 1, 2**32 - 1], jnp.uint32)

    def run(attend: Callable[..., jax.Array]) -> jax.Array:
        def one(
            queries: jax.Array, keys: jax.Array, values: jax.Array, rate: jax.Array, seed: jax.Array
        ) -> jax.Array:
            form = AttentionForm(True, dropout=SeededDropout(rate, seed))
            return attend(queries, keys, values, jnp.asarray(SEGMENTS), form)

        def step(keys: jax.Array, round_: jax.Array) -> tuple[jax.Array, jax.Array]:
            def loss(keys: jax.Array) -> jax.Array:
                return (jax.vmap(one)(queries, keys, values, rates, seeds + round_) ** 2).sum()

            value, gradient = jax.value_and_grad(loss)(keys)
            return keys - 0.1 * gradient, value

        return jax.lax.scan(step, keys, jnp.arange(2, dtype=jnp.uint32))[0]

    found, expected = (
        jax.jit(run, static_argnums=0)(packed_attention),
        jax.jit(run, static_argnums=0)(packed_attention_reference),
    )
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_dropout_follows_its_seed_and_keeps_the_mean() -> None:
    """Every step would drop the same weights, or dropout at a rate of zero would drop some."""
    inputs = *random_inputs(3, (1, LENGTH, 1, 16)), jnp.zeros((1, LENGTH), jnp.int32)

    @jax.jit
    def attended(rate: jax.Array, seed: jax.Array) -> jax.Array:
        form = AttentionForm(False, dropout=SeededDropout(rate, seed))
        return packed_attention_reference(*inputs, form)

    none = attended(jnp.float32(0), SEED)
    many = np.stack([attended(jnp.float32(0.5), jnp.uint32(seed)) for seed in range(400)])
    assert np.abs(many[0] - many[1]).max() > 0.1
    deviation = many.std(axis=0) / np.sqrt(len(many))
    assert np.abs(many.mean(axis=0) - none).max() < (5 * deviation + 1e-5).max()
    plain = packed_attention_reference(*inputs, AttentionForm(causal=False))
    np.testing.assert_allclose(none, plain, atol=1e-6 * float(jnp.abs(plain).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("causal", "normaliser", "rate"), FORMS)
def test_kernels_lower_for_a_gpu(
    causal: bool, normaliser: str, rate: float | None, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton would refuse a shape or an operation that interpreting accepts."""

    def gradients(
        queries: jax.Array, keys: jax.Array, values: jax.Array, segments: jax.Array, seed: jax.Array
    ) -> Any:
        def loss(*given: jax.Array) -> jax.Array:
            dropout = None if rate is None else SeededDropout(jnp.float32(rate), seed)
            attended = packed_attention(
                *given, segments, AttentionForm(causal, normaliser, dropout)
            )
            return attended.astype(jnp.float32).sum()

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(queries, keys, values)

    inputs = [given.astype(dtype) for given in random_inputs(3)]
    assert kernels_lowered(monkeypatch, gradients, *inputs, jnp.asarray(SEGMENTS), SEED) == 3
    stacked = [jnp.stack([given, given]) for given in inputs]
    both = jax.vmap(gradients, in_axes=(0, 0, 0, None, 0))
    assert (
        kernels_lowered(monkeypatch, both, *stacked, jnp.asarray(SEGMENTS), jnp.stack([SEED, SEED]))
        == 3
    )


def test_what_cannot_be_is_refused() -> None:
    """A misspelt normaliser would be a sigmoid, or mixed types fail deep in a kernel."""
    queries, keys, values = random_inputs(3)
    segments = jnp.asarray(SEGMENTS)
    with pytest.raises(ValueError, match="'softmin' is not one of softmax, sigmoid"):
        packed_attention(queries, keys, values, segments, AttentionForm(True, "softmin"))
    with pytest.raises(ValueError, match="differ in type: float32, bfloat16, float32"):
        packed_attention(queries, keys.astype(jnp.bfloat16), values, segments, AttentionForm(True))
