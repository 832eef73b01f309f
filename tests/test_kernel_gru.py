"""The recurrent kernels against the scan over positions, and that scan against the model's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.kernels import gru as kernel_file
from grasp_jax.kernels.gru import BLOCK, gru, gru_scan
from tests.triton_lowering import kernels_lowered

ROWS, LENGTH, FEATURES = (
    BLOCK + 3,
    11,
    12,
)  # two blocks of rows, one of them half empty; no power of two
NAMES = ("states", "d from_input", "d recurrent", "d start")


def random_inputs(
    rows: int = ROWS, length: int = LENGTH, features: int = FEATURES
) -> tuple[jax.Array, ...]:
    """from_input, recurrent, first, start, and the direction [R, L, D] of the gradient.

    Histories begin in the middle of rows, some rows hold one history, and none but the first begins where its row does.
    """
    rng = np.random.default_rng(0)
    first = rng.random((rows, length)) < 0.25
    first[:, 0] = np.arange(rows) == 0
    first[: rows // 4, 1:] = False
    arrays = [
        rng.standard_normal(shape)
        for shape in ((rows, length, 3 * features), (features, 3 * features), (features,))
    ]
    from_input, recurrent, start = (jnp.asarray(given, jnp.float32) for given in arrays)
    along = jnp.asarray(rng.standard_normal((rows, length, features)), jnp.float32)
    return from_input, 1.5 * recurrent / features**0.5, jnp.asarray(first), start, along


def with_gradients(
    unit: Callable[..., jax.Array], inputs: tuple[jax.Array, ...]
) -> list[jax.Array]:
    """States, and the gradients of from_input, recurrent and start."""

    @jax.jit
    def run(
        from_input: jax.Array,
        recurrent: jax.Array,
        first: jax.Array,
        start: jax.Array,
        along: jax.Array,
    ) -> list[jax.Array]:
        states, pull_back = jax.vjp(
            lambda share, weights, begin: unit(share, weights, first, begin),
            from_input,
            recurrent,
            start,
        )
        return [states, *pull_back(along)]

    return run(*inputs)


def assert_close(
    found: list[jax.Array], expected: list[jax.Array], tolerance: float = 1e-5
) -> None:
    """Each array of the same type, and within `tolerance` of the largest value that is expected of it."""
    for name, ours, theirs in zip(NAMES, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        error = (
            np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max()
            / np.abs(np.asarray(theirs, np.float64)).max()
        )
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.parametrize("on_chip", [True, False])
@pytest.mark.parametrize("length", [LENGTH, 1])
def test_states_and_gradients(length: int, on_chip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state would run on into the next history, a gradient back into the one before, or a block of rows be left out of a sum."""
    if not on_chip:  # the weights of a wide unit are read at each position
        monkeypatch.setattr(kernel_file, "ON_CHIP", 0)
    inputs = random_inputs(length=length)
    assert_close(with_gradients(gru, inputs), with_gradients(gru_scan, inputs))


def test_histories_of_a_row_are_those_of_their_own_rows() -> None:
    """A history's states would depend on who shares its row."""
    from_input, recurrent, _, start, _ = random_inputs(rows=1)
    begins = [0, 4, 5]
    packed = jax.jit(gru)(
        from_input,
        recurrent,
        jnp.zeros((1, LENGTH), bool).at[0, jnp.array(begins)].set(True),
        start,
    )[0]
    for begin, end in zip(begins, [*begins[1:], LENGTH], strict=True):
        alone = gru_scan(
            from_input[:, begin:end], recurrent, jnp.zeros((1, end - begin), bool), start
        )[0]
        np.testing.assert_allclose(packed[begin:end], alone, atol=1e-6)


def test_bfloat16_is_within_its_rounding() -> None:
    """A state kept in bfloat16 would lose small updates; gradients of another type would change the optimiser's state."""
    from_input, recurrent, *others = random_inputs()
    lowered = [given.astype(jnp.bfloat16) for given in (from_input, recurrent)]
    found = with_gradients(gru, (lowered[0], recurrent, *others))
    assert [own.dtype for own in found] == [jnp.float32, jnp.bfloat16, jnp.float32, jnp.float32]
    exact = with_gradients(gru_scan, (*(given.astype(jnp.float32) for given in lowered), *others))
    assert_close([own.astype(jnp.float32) for own in found], exact, 2.0**-7)


def test_models_side_by_side_in_a_loop() -> None:
    """The kernels would refuse `vmap` within `scan`, or models share their weights."""
    from_input, recurrent, first, start, _ = random_inputs()
    stacked = [jnp.stack([given, -0.5 * given]) for given in (from_input, recurrent, start)]

    def run(unit: Callable[..., jax.Array]) -> Any:
        def loss(parameters: list[jax.Array]) -> jax.Array:
            states = jax.vmap(lambda share, weights, begin: unit(share, weights, first, begin))(
                *parameters
            )
            return (states**2).sum()

        def step(parameters: list[jax.Array], _: None) -> tuple[list[jax.Array], None]:
            gradient = jax.grad(loss)(parameters)
            return [
                leaf - 0.01 * slope for leaf, slope in zip(parameters, gradient, strict=True)
            ], None

        return jax.lax.scan(step, stacked, None, length=2)[0]

    found, expected = jax.jit(run, static_argnums=0)(gru), jax.jit(run, static_argnums=0)(gru_scan)
    for before, ours, theirs in zip(stacked, found, expected, strict=True):
        moved = np.abs(np.asarray(theirs - before)).max()
        np.testing.assert_allclose(ours - before, theirs - before, atol=1e-4 * moved)


@pytest.mark.parametrize("features", [16, 48, 64, 100])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_kernels_lower_for_a_gpu(
    dtype: Any, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton would refuse a shape or an operation that interpreting accepts."""
    from_input, recurrent, first, start, _ = random_inputs(features=features)
    from_input = from_input.astype(dtype)

    def gradients(
        from_input: jax.Array, recurrent: jax.Array, first: jax.Array, start: jax.Array
    ) -> Any:
        return jax.value_and_grad(
            lambda *given: gru(*given[:2], first, given[2]).sum(), argnums=(0, 1, 2)
        )(from_input, recurrent, start)

    assert kernels_lowered(monkeypatch, gradients, from_input, recurrent, first, start) == 2
    both = jax.vmap(gradients, in_axes=(0, 0, None, 0))
    stacked = [jnp.stack([given, given]) for given in (from_input, recurrent, start)]
    assert kernels_lowered(monkeypatch, both, stacked[0], stacked[1], first, stacked[2]) == 2


@pytest.mark.parametrize("rows, length", [(0, 4), (2, 0)])
def test_nothing_gives_nothing(rows: int, length: int) -> None:
    """An empty batch would end in an error of Pallas that names neither the kernel nor the shape."""
    inputs = tuple(
        jnp.zeros(shape) for shape in ((rows, length, 48), (16, 48), (rows, length), (16,))
    )
    from_input, recurrent, first, start = inputs

    def total(from_input: jax.Array, recurrent: jax.Array, start: jax.Array) -> jax.Array:
        return gru(from_input, recurrent, first.astype(bool), start).sum()

    assert gru(from_input, recurrent, first.astype(bool), start).shape == (rows, length, 16)
    gradients = jax.grad(total, argnums=(0, 1, 2))(from_input, recurrent, start)
    assert not any(np.asarray(gradient).any() for gradient in gradients)
