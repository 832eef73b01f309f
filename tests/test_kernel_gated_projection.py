"""The kernel that gathers, gates and projects, against its einsum form: values, gradients, and what is never stored."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from benchmarks.kernels.gated_projection import (
    Tokens,
    Weights,
    gated_projection,
    gated_projection_reference,
)
from grasp_jax.kernels import backend
from grasp_jax.models.encoders.holistic import HolisticEncoder, combine

Arrays = tuple[jax.Array, ...]
Projection = Callable[..., jax.Array]
GRADIENTS = ("gates", "own_kernel", "similar_kernel", "bias")


def inputs(
    tokens: int,
    items: int,
    width: int,
    hidden: int,
    table: str = "float32",
    kernel: str = "float32",
) -> tuple[Arrays, Arrays]:
    """Frozen (tables, ids) and trained (gates, kernels, bias) arguments; ids repeat and hold the first and the last item."""
    rng = np.random.default_rng(tokens)

    def normal(*shape: int, dtype: str = "float32") -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), dtype)

    ids = np.r_[items - 1, 0, rng.integers(0, items, tokens)][:tokens]
    frozen = (
        normal(items, width, dtype=table),
        normal(items, width, dtype=table),
        jnp.asarray(ids, jnp.int32),
    )
    own, similar = (normal(2, width, hidden, dtype=kernel) / width**0.5 for _ in range(2))
    return frozen, (normal(tokens, 3), own, similar, normal(hidden))


def loss_of(
    projection: Projection, frozen: Arrays
) -> Callable[[Arrays], tuple[jax.Array, jax.Array]]:
    """A loss whose gradient differs from token to token and needs the projection's value."""

    def loss(trained: Arrays) -> tuple[jax.Array, jax.Array]:
        gates, *weights = trained
        x = projection(Tokens(*frozen), gates, Weights(*weights))
        return (jnp.sin(x) * jnp.arange(1.0, 1 + x.size).reshape(x.shape) / x.size).sum(), x

    return loss


def value_and_gradients(
    projection: Projection, frozen: Arrays, trained: Arrays
) -> dict[str, jax.Array]:
    (_, x), gradients = jax.jit(jax.value_and_grad(loss_of(projection, frozen), has_aux=True))(
        trained
    )
    return {"x": x, **dict(zip(GRADIENTS, gradients, strict=True))}


def assert_close(
    ours: dict[str, jax.Array],
    expected: dict[str, jax.Array],
    tolerance: dict[str, float] | float = 1e-5,
) -> None:
    """Relative to the largest value of each array."""
    for name, right in expected.items():
        limit = tolerance if isinstance(tolerance, float) else tolerance[name]
        largest = np.abs(np.asarray(right, np.float32)).max()
        difference = np.abs(
            np.asarray(ours[name], np.float32) - np.asarray(right, np.float32)
        ).max()
        assert ours[name].shape == right.shape
        assert largest > 1e-3 and difference <= limit * largest, (
            f"{name}: {difference / largest:.1e}"
        )


@pytest.mark.parametrize(
    ("tokens", "items", "width", "hidden"), [(1, 2, 16, 16), (37, 11, 20, 20), (70, 50, 384, 100)]
)
def test_value_and_gradients_are_those_of_the_einsum(
    tokens: int, items: int, width: int, hidden: int
) -> None:
    """Would break by a wrong edge of a block, a dropped term of the sum, or gates and kernels put together crosswise."""
    frozen, trained = inputs(tokens, items, width, hidden)
    ours = value_and_gradients(gated_projection, frozen, trained)
    assert ours["x"].dtype == jnp.float32
    assert_close(ours, value_and_gradients(gated_projection_reference, frozen, trained))


@pytest.mark.parametrize("table", ["bfloat16", "float16"])
def test_bfloat16_is_within_its_rounding(table: str) -> None:
    """Would break if sums, not only operands, were bfloat16, or if tables were read as another type than they have."""
    frozen, trained = inputs(45, 13, 96, 20, table, "bfloat16")
    ours = value_and_gradients(gated_projection, frozen, trained)
    assert [ours[name].dtype for name in GRADIENTS] == [
        jnp.float32,
        jnp.bfloat16,
        jnp.bfloat16,
        jnp.float32,
    ]
    rounded = tuple(table.astype(jnp.bfloat16).astype(jnp.float32) for table in frozen[:2])
    exact = value_and_gradients(
        gated_projection_reference,
        (*rounded, frozen[2]),
        tuple(leaf.astype(jnp.float32) for leaf in trained),
    )
    once, twice = (
        2.0**-8,
        2.0**-7,
    )  # the kernels' gradients round the gated gradient and their own sum
    assert_close(
        ours,
        exact,
        {"x": 1e-5, "gates": 1e-5, "own_kernel": twice, "similar_kernel": twice, "bias": once},
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_agrees_with_the_holistic_encoder(dtype: str) -> None:
    """Would break if (Wa, Wc) and (Wb, Wd) were not the encoder's order of kernels, so that wiring it in would change the model."""
    frozen, (gates, own, similar, bias) = inputs(37, 11, 20, 20)
    encoder = HolisticEncoder(
        width=20, features=8, hidden=(20,), row_norm=1.7, dtype=jnp.dtype(dtype)
    )

    def from_encoder(tokens: Tokens, gates: jax.Array, weights: Weights) -> jax.Array:
        names = "own_kernel", "similar_kernel", "first_bias"
        module = encoder.bind({"params": dict(zip(names, weights, strict=True))})
        projected = module.project(*(table[tokens.ids] for table in tokens[:2]))
        return combine(projected, gates, weights.bias)

    def from_kernel(tokens: Tokens, gates: jax.Array, weights: Weights) -> jax.Array:
        kernels = ((encoder.row_norm * kernel).astype(dtype) for kernel in weights[:2])
        return gated_projection(tokens, gates, Weights(*kernels, weights.bias))

    trained = (gates, own, similar, bias)
    expected = value_and_gradients(from_encoder, frozen, trained)
    assert_close(
        value_and_gradients(from_kernel, frozen, trained),
        expected,
        1e-5 if dtype == "float32" else 2.0**-7,
    )


def test_vmap_over_models_is_a_loop_over_models() -> None:
    """Would break if batching gave a model another one's kernels, gates or ids."""
    (items, similar, _), _ = inputs(37, 11, 20, 20)
    models = [inputs(37 + seed, 11, 20, 20) for seed in range(3)]
    ids = jnp.stack([frozen[2][:37] for frozen, _ in models])
    trained = [(gates[:37], *rest) for _, (gates, *rest) in models]

    def one(ids: jax.Array, trained: Arrays) -> tuple[Any, Any]:
        return jax.value_and_grad(loss_of(gated_projection, (items, similar, ids)), has_aux=True)(
            trained
        )

    (_, x), gradients = jax.jit(jax.vmap(one))(
        ids, jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)
    )
    for k in range(3):
        ours = {
            "x": x[k],
            **{name: leaf[k] for name, leaf in zip(GRADIENTS, gradients, strict=True)},
        }
        assert_close(
            ours,
            value_and_gradients(gated_projection_reference, (items, similar, ids[k]), trained[k]),
        )


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """All equations, those of inner functions included; a kernel is one equation."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner) and equation.primitive.name != "pallas_call":
                yield from equations(getattr(inner, "jaxpr", inner))


def is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def stored_shapes(projection: Projection, models: int) -> set[tuple[int, ...]]:
    """Last two sizes of every array that a step over several models makes outside of the kernels."""
    (items, similar, ids), trained = inputs(37, 11, 24, 20)

    def step(items: jax.Array, similar: jax.Array, ids: jax.Array, trained: Arrays) -> Arrays:
        return jax.grad(loss_of(projection, (items, similar, ids)), has_aux=True)(trained)[0]

    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * models), (ids, trained))
    jaxpr = jax.make_jaxpr(jax.vmap(step, in_axes=(None, None, 0, 0)))(items, similar, *stacked)
    return {
        tuple(out.aval.shape[-2:])
        for equation in equations(jaxpr.jaxpr)
        for out in equation.outvars
    }


def test_no_rows_projections_or_copies_of_tables_are_stored() -> None:
    """Would break if the tables were copied per model, got zeros for a gradient, or if gathered rows or projections reached memory."""
    table, rows, projections = (11, 24), (37, 24), (3, 20)
    shapes = stored_shapes(gated_projection, 4)
    assert (37, 20) in shapes  # the result itself
    assert not shapes & {table, rows, projections}
    assert rows in stored_shapes(
        gated_projection_reference, 4
    )  # so that the search can find what it looks for


@pytest.fixture
def lowered_for_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """StableHLO of a function lowered for a GPU that need not be there: kernels go through Pallas' Triton lowering, dead code is gone."""
    monkeypatch.setattr(backend, "interpret", lambda: False)

    def lower(function: Callable[..., Any], *arguments: Any) -> str:
        try:
            return str(
                jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
            )
        except RuntimeError as error:
            if "Triton compilation handler" in str(
                error
            ):  # newer versions compile here, with a part of the GPU plugin
                pytest.skip("this jax lowers Triton kernels only with its GPU plugin")
            raise

    return lower


PROGRAMS = ("_forward_program", "_kernel_gradient_program", "_gate_gradient_program")


def launches(text: str) -> tuple[int, ...]:
    return tuple(text.count(f'name = "{program}"') for program in PROGRAMS)


@pytest.mark.parametrize(
    ("table", "kernel"),
    [
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("float16", "bfloat16"),
        ("float16", "float32"),
    ],
)
@pytest.mark.parametrize(
    ("tokens", "items", "width", "hidden"),
    [(1, 2, 20, 20), (70, 50, 384, 100), (2100, 300, 1536, 256)],
)
def test_lowers_for_a_gpu(
    tokens: int,
    items: int,
    width: int,
    hidden: int,
    table: str,
    kernel: str,
    lowered_for_cuda: Callable[..., str],
) -> None:
    """Would break where a kernel asks for what Triton has not: sizes no power of two, small products, casts that do not exist."""
    frozen, trained = inputs(tokens, items, width, hidden, table, kernel)

    def step(frozen: Arrays, trained: Arrays) -> Any:
        return jax.value_and_grad(loss_of(gated_projection, frozen), has_aux=True)(trained)

    assert launches(lowered_for_cuda(step, frozen, trained)) == (1, 1, 1)


@pytest.mark.parametrize("batched", [False, True])
def test_gate_gradients_cost_nothing_unless_asked_for(
    batched: bool, lowered_for_cuda: Callable[..., str]
) -> None:
    """Would break if training with frozen gates projected all tokens a second time, also in a scan over steps of several models."""
    (items, similar, ids), (gates, *weights) = inputs(37, 11, 24, 20)

    def one(gates: jax.Array, *weights: jax.Array) -> Arrays:
        frozen = (items, similar, ids)
        return jax.grad(
            lambda *weights: loss_of(gated_projection, frozen)((gates, *weights))[0],
            argnums=(0, 1, 2),
        )(*weights)

    def steps(gates: jax.Array, weights: Arrays) -> Any:
        update = jax.vmap(one) if batched else one
        return jax.lax.scan(lambda carry, _: (update(gates, *carry), None), weights, None, length=4)

    stacked = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * 3) if batched else leaf, (gates, tuple(weights))
    )
    assert launches(lowered_for_cuda(steps, *stacked)) == (1, 1, 0)


def test_training_in_a_scan_follows_the_einsum() -> None:
    """Would break if the kernel could not stand in a training loop, or its gradients went astray over steps."""
    frozen, (gates, *weights) = inputs(37, 11, 20, 20)

    def trained(projection: Projection) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            gradients = jax.grad(lambda weights: loss_of(projection, frozen)((gates, *weights))[0])(
                carry
            )
            return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, carry, gradients), None

        return jax.jit(lambda: jax.lax.scan(step, weights, None, length=3)[0])()

    for ours, expected, start in zip(
        trained(gated_projection), trained(gated_projection_reference), weights, strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=2e-5)
        assert np.abs(expected - start).max() > 1e-3


def test_only_rows_that_are_asked_for_are_read() -> None:
    """Would break if an id that is none, or an empty place of a block, read a row: a broken one would spoil every kernel's gradient."""
    (items, similar, ids), trained = inputs(37, 11, 20, 20)
    ends = jnp.array([0, 10])
    broken, broken_similar = items.at[ends].set(jnp.nan), similar.at[ends].set(jnp.nan)
    frozen = (broken, broken_similar, ids.clip(1, 9).at[jnp.array([2, 3])].set(jnp.array([-1, 11])))
    ours = value_and_gradients(gated_projection, frozen, trained)
    np.testing.assert_array_equal(ours["x"][2:4], jnp.stack([trained[-1]] * 2))  # the bias alone
    assert_close(ours, value_and_gradients(gated_projection_reference, frozen, trained))


@pytest.mark.parametrize("name", ["items_similar", "gates", "own", "similar", "dtype"])
def test_arguments_that_do_not_fit_are_refused(name: str) -> None:
    """Would break if the kernel read past an array that is too small."""
    frozen, (gates, *kernels) = inputs(37, 11, 20, 20)
    tokens, weights, message = Tokens(*frozen), Weights(*kernels), f"{name} has shape"
    if name == "dtype":
        weights = weights._replace(own=weights.own.astype(jnp.float16))
        message = "both float32 or both bfloat16"
    elif name == "items_similar":
        tokens = tokens._replace(items_similar=tokens.items_similar[:-1])
    elif name == "gates":
        gates = gates[:-1]
    else:
        weights = weights._replace(**{name: getattr(weights, name)[:-1]})
    with pytest.raises(ValueError, match=message):
        gated_projection(tokens, gates, weights)
