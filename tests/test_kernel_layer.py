"""The fused layers of SASRec against the layers written out, and against the model that XLA computes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.kernels.counter_bits import SeededDropout
from grasp_jax.kernels.sasrec_layer import (
    Layer,
    LayersForm,
    sasrec_layers,
    sasrec_layers_reference,
)
from grasp_jax.kernels.sasrec_layer_kernels import Finish, Project
from grasp_jax.models.backbones.sasrec import SASRec
from tests.random_params import random_params
from tests.test_kernel_attention import SEGMENTS
from tests.triton_lowering import kernels_lowered

WIDTH, SEED = 16, jnp.uint32(11)
Layers = Callable[..., jax.Array]


def random_layer(seed: int) -> Layer:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32)

    matrices, vectors = [draw(WIDTH, WIDTH) for _ in range(6)], [draw(WIDTH) for _ in range(12)]
    return (
        Project(*matrices[:3], *vectors[:3], 1 + vectors[3], vectors[4]),
        Finish(
            *matrices[3:], *vectors[5:8], 1 + vectors[8], vectors[9], 1 + vectors[10], vectors[11]
        ),
    )


LAYERS = [random_layer(0), random_layer(1)]


def random_rows(seed: int) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((*SEGMENTS.shape, WIDTH)), jnp.float32)


def with_gradients(layers: Layers, count: int, *options: Any) -> Any:
    """States after so many layers, and the gradients of the input and of every parameter."""

    @jax.jit
    def run(x: jax.Array, given: list[Layer], along: jax.Array) -> Any:
        out, pull_back = jax.vjp(
            lambda x, given: layers(x, given, jnp.asarray(SEGMENTS), *options), x, given
        )
        return out, pull_back(along)

    return run(random_rows(2), LAYERS[:count], random_rows(3))


# One layer has each kernel; in the first case two hand on to each other.
@pytest.mark.parametrize(
    ("causal", "heads", "rate", "count"),
    [
        (True, 1, 0.3, 2),
        (False, 2, 0.3, 1),
        # without dropout: test_stands_in_for_the_models_layers
        pytest.param(True, 4, None, 1, marks=pytest.mark.slow),
    ],
)
def test_states_and_gradients(causal: bool, heads: int, rate: float | None, count: int) -> None:
    """A wrong mask, head, block or norm, dropout that differs between the passes, or a gradient of another parameter."""
    dropout = None if rate is None else SeededDropout(jnp.float32(rate), SEED)
    options = LayersForm(heads, causal), dropout
    found = with_gradients(sasrec_layers, count, *options)
    expected = with_gradients(sasrec_layers_reference, count, *options)
    for (path, theirs), ours in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        scale = max(1.0, float(jnp.abs(theirs).max()))  # keys' biases have no gradient but rounding
        error = float(jnp.abs(ours - theirs).max()) / scale
        assert error < 3e-5, f"{jax.tree_util.keystr(path)}: {error}"


@pytest.mark.parametrize(("input_stage", "count"), [(True, 2), (False, 1)])
def test_stands_in_for_the_models_layers(input_stage: bool, count: int) -> None:
    """SASRec would change with its kernels, or have other parameters."""
    segments, x = jnp.asarray(SEGMENTS), random_rows(5)
    place = jnp.broadcast_to(jnp.arange(SEGMENTS.shape[1]), SEGMENTS.shape)
    plain, ours = (
        SASRec(WIDTH, SEGMENTS.shape[1], count, 2, kernels=kernels, input_stage=input_stage)
        for kernels in ("xla", "backbone")
    )
    drawn = random_params(plain, x, segments, place, spread=0.2)
    params = {"params": jax.tree.map(jnp.asarray, drawn)}
    shapes = jax.eval_shape(ours.init, jax.random.key(2), x, segments, place)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)

    def gradients(module: SASRec) -> Any:
        def loss(params: Any, x: jax.Array) -> jax.Array:
            return (module.apply(params, x, segments, place) ** 3).sum()

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    found, expected = gradients(ours), gradients(plain)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[1]))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for theirs, own in zip(jax.tree.leaves(expected[1]), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_allclose(own, theirs, atol=1e-5 * largest)
    program = str(jax.make_jaxpr(lambda: ours.apply(params, x, segments, place))())
    assert "sasrec_finish" in program


def test_dropout_keeps_the_mean_and_follows_its_seed() -> None:
    """Every step would drop the same units, one place would drop with another, or dropout would shrink what it keeps."""
    given = random_rows(6), LAYERS[:1], jnp.asarray(SEGMENTS), LayersForm(2, causal=True)

    @jax.jit
    def run(rate: jax.Array, seed: jax.Array) -> jax.Array:
        return sasrec_layers_reference(*given, SeededDropout(rate, seed))

    clean = jax.jit(lambda: sasrec_layers_reference(*given))()
    np.testing.assert_allclose(run(jnp.float32(0), SEED), clean, atol=1e-5)
    few = np.stack([run(jnp.float32(0.02), jnp.uint32(seed)) for seed in range(200)])
    assert np.abs(few[0] - few[1]).max() > 0.1
    assert np.abs(few.mean(axis=0) - clean).mean() < 2.5 * (few.std(axis=0) / 200**0.5).mean()


def test_models_side_by_side_in_a_loop() -> None:
    """Models trained side by side would share parameters, a rate or a seed, or the kernels refuse `vmap` within `scan`."""
    segments = jnp.asarray(SEGMENTS)
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), LAYERS[:1], LAYERS[1:])
    rates, seeds = jnp.array([0.1, 0.5]), jnp.array([1, 2**32 - 1], jnp.uint32)
    x = jnp.stack([random_rows(7), random_rows(8)])

    def run(layers: Layers) -> jax.Array:
        def one(x: jax.Array, given: list[Layer], rate: jax.Array, seed: jax.Array) -> jax.Array:
            return layers(x, given, segments, LayersForm(1, True), SeededDropout(rate, seed))

        def step(given: list[Layer], turn: jax.Array) -> tuple[list[Layer], jax.Array]:
            def loss(given: list[Layer]) -> jax.Array:
                return (jax.vmap(one)(x, given, rates, seeds + turn) ** 3).sum()

            value, gradient = jax.value_and_grad(loss)(given)
            return jax.tree.map(lambda leaf, slope: leaf - 1e-4 * slope, given, gradient), value

        return jax.lax.scan(step, many, jnp.arange(2, dtype=jnp.uint32))[1]

    found, expected = (
        jax.jit(run, static_argnums=0)(form) for form in (sasrec_layers, sasrec_layers_reference)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_lowers_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton would refuse a shape or an operation that interpreting accepts, or a layer have more kernels than four."""

    def gradients(x: jax.Array, layers: list[Layer], rate: jax.Array, seed: jax.Array) -> Any:
        def loss(x: jax.Array, layers: list[Layer]) -> jax.Array:
            given = LayersForm(2, causal=True), SeededDropout(rate, seed)
            return sasrec_layers(x, layers, jnp.asarray(SEGMENTS), *given).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(x, layers)

    one = random_rows(9), LAYERS[:1], jnp.float32(0.2), SEED
    assert kernels_lowered(monkeypatch, gradients, *one) == 4
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)
    assert kernels_lowered(monkeypatch, jax.vmap(gradients), *both) == 4


def test_what_the_kernels_lack_is_refused() -> None:
    """A width that Triton cannot multiply would fail within its compiler."""
    x, segments = random_rows(4), jnp.asarray(SEGMENTS)
    with pytest.raises(ValueError, match="12 features in 1 heads"):
        sasrec_layers(x[..., :12], LAYERS, segments, LayersForm(1, causal=True))
