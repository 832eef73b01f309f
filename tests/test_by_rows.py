"""Results of products that are stored by rows, as SASRec has them on a GPU: the same numbers, forward and backward."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.backbones.sasrec import SASRec

WIDTH, LENGTH, MODELS = 8, 6, 2
SEGMENTS = jnp.asarray([[0, 0, 0, 1, 1, -1], [2, 2, 3, 3, 3, 3]])
POSITIONS = jnp.asarray([[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]])


def gradients(kernels: str, block: str) -> Any:
    """States, and gradients of parameters and vectors, of two models side by side with the same dropout."""
    module = SASRec(WIDTH, LENGTH, 1, 2, block=block, kernels=kernels)
    rng = np.random.default_rng(0)
    vectors = jnp.asarray(rng.standard_normal((MODELS, *SEGMENTS.shape, WIDTH)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), MODELS)

    def init(key: jax.Array) -> Any:
        return module.init(key, vectors[0], SEGMENTS, POSITIONS)

    def loss(params: Any, vectors: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        given = vectors, SEGMENTS, POSITIONS, jnp.float32(0.3)
        states = module.apply(params, *given, rngs={"dropout": key})
        return (states * jnp.arange(states.size).reshape(states.shape)).sum(), states

    grad = jax.vmap(jax.grad(loss, argnums=(0, 1), has_aux=True))
    run = jax.jit(lambda: grad(jax.vmap(init)(keys), vectors, keys))
    return run(), str(jax.make_jaxpr(run)())


@pytest.mark.parametrize("block", ["sasrec", "gpt"])
def test_numbers_are_the_same(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model would learn something else on a GPU, or the layout stand in a step on a CPU, where it has no use."""
    expected, program = gradients("auto", block)
    assert "layout_constraint" not in program
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        found, program = gradients("auto", block)
        assert program.count("layout_constraint") >= 8
        assert "layout_constraint" not in gradients("xla", block)[1]
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        largest = max(float(jnp.abs(theirs).max()), 1.0)
        assert float(jnp.abs(ours - theirs).max()) <= 1e-5 * largest
