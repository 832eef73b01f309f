"""Cross-entropy over the whole catalogue against its formula in float64."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.batch import BlockScores, CatalogueScores
from grasp_jax.parallel.blocks import rows_of_block
from grasp_jax.training.catalogue_loss import catalogue_cross_entropy
from grasp_jax.training.cross_entropy import CrossEntropy
from tests.command_line import on_devices, run

TARGETS, ITEMS, WIDTH = 23, 41, 6


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States, items, targets (one item is the target twice) and weights, some of them 0."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, ITEMS, TARGETS).astype(np.int32)
    targets[1] = targets[0]
    weights = rng.random(TARGETS) * (rng.random(TARGETS) < 0.7)
    states, items = 2 * rng.standard_normal((TARGETS, WIDTH)), rng.standard_normal((ITEMS, WIDTH))
    return states, items, targets, weights


def reference(
    states: np.ndarray,
    items: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    smoothing: float = 0.0,
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and both gradients in float64, over all scores at once."""
    scores = states @ items.T
    wanted = np.full(scores.shape, smoothing / (scores.shape[1] - 1))
    wanted[np.arange(len(targets)), targets] = 1.0 - smoothing
    log_softmax = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    by_scores = weights[:, None] * (np.exp(log_softmax) - wanted)
    loss = -(weights[:, None] * wanted * log_softmax).sum()
    return loss, by_scores @ items, by_scores.T @ states


def found_by(core: CrossEntropy, *given: Any, outer: float = 1.0) -> tuple[Any, Any, Any]:
    states, items, targets, weights = given
    loss, gradients = jax.jit(
        jax.value_and_grad(lambda *x: outer * core(*x, targets, weights), (0, 1))
    )(jnp.asarray(states, jnp.float32), jnp.asarray(items, jnp.float32))
    return loss, *gradients


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("by_column", [True, False])
def test_loss_and_gradients_by_formula(smoothing: float, rows: int, by_column: bool) -> None:
    """A block's rows would be lost or counted twice, or smoothing fall on the target itself; on CPUs or on accelerators alone."""
    given = drawn()
    core = CrossEntropy(smoothing, rows=rows, by_column=by_column)
    found = found_by(core, *given, outer=3.0)
    for ours, theirs in zip(found, reference(*given, smoothing), strict=True):
        np.testing.assert_allclose(ours, 3.0 * theirs, rtol=1e-4, atol=1e-5)


def test_large_scores() -> None:
    """Scores of hundreds would overflow, and a target that nobody doubts have a gradient."""
    states, items, targets, weights = drawn()
    loss, d_states, d_items = found_by(CrossEntropy(), 300 * states, items, targets, weights)
    scores = 300 * states @ items.T
    largest = scores.max(axis=1)
    expected = (weights * (largest - scores[np.arange(TARGETS), targets])).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert np.isfinite(d_states).all() and np.isfinite(d_items).all()


def test_bfloat16() -> None:
    """Sums of many numbers would lose what each has: products are of bfloat16 factors, sums of float32."""
    given = drawn()
    found = found_by(CrossEntropy(0.1, jnp.bfloat16, rows=7), *given)
    for ours, theirs in zip(found, reference(*given, 0.1), strict=True):
        assert np.asarray(ours).dtype == np.float32
        assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_several_models_at_once() -> None:
    """A model's loss would be another's."""
    each = [drawn(seed) for seed in range(3)]
    states, items, targets, weights = (
        jnp.asarray(np.stack(x).astype(np.int32 if x[0].dtype == np.int32 else np.float32))
        for x in zip(*each, strict=True)
    )
    core = CrossEntropy(0.1, rows=4)
    loss, gradients = jax.jit(jax.vmap(jax.value_and_grad(core, (0, 1))))(
        states, items, targets, weights
    )
    for m, given in enumerate(each):
        for ours, theirs in zip(
            (loss[m], gradients[0][m], gradients[1][m]), reference(*given, 0.1), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_no_array_holds_all_scores() -> None:
    """[P, V] would be stored after all, in the loss or for its gradient."""
    states, items, targets, weights = drawn()
    core = CrossEntropy(0.1, rows=5)
    program = jax.make_jaxpr(jax.value_and_grad(lambda *x: core(*x, targets, weights), (0, 1)))(
        jnp.asarray(states, jnp.float32), jnp.asarray(items, jnp.float32)
    )
    assert f"[5,{ITEMS}]" in str(program) and f"[{TARGETS},{ITEMS}]" not in str(program)


@pytest.mark.parametrize(
    ("targets", "items", "backend", "most_bytes"),
    [
        (900, 12_101, "cpu", 9 << 20),
        (900, 100_000, "cpu", 64 << 20),
        (900, 1_200_000, "cpu", 128 << 20),
        (900, 100_000, "gpu", 256 << 20),
        (3, 100_000_000, "cpu", 400 << 20),
    ],
)
def test_size_of_a_block(targets: int, items: int, backend: str, most_bytes: int) -> None:
    """Blocks would not fit into memory, or be so small that each item's gradient is written again and again."""
    rows = rows_of_block(targets, items, backend)
    assert 1 <= rows <= targets and rows * items * 4 <= most_bytes
    assert rows >= min(27, targets) or rows == 1


def as_scores(mask: np.ndarray, *towers: int) -> CatalogueScores:
    states, items, targets, _ = drawn()
    return CatalogueScores(
        jnp.asarray(states, jnp.float32),
        jnp.asarray(items, jnp.float32),
        jnp.asarray(targets),
        jnp.asarray(mask),
        jnp.float32(0.5),
        towers,
    )


def test_towers() -> None:
    """Each part would not be trained to rank alone, or the auxiliary loss count once for each."""
    mask = np.arange(TARGETS) % 3 > 0
    states, items, targets, _ = drawn()
    weights = mask / mask.sum()
    expected = sum(
        reference(states[:, part], items[:, part], targets, weights)[0]
        for part in (slice(0, 3), slice(3, 6))
    )
    loss = lambda scores: jax.jit(lambda: catalogue_cross_entropy(scores, CrossEntropy()))()  # noqa: E731
    found = loss(as_scores(mask, 3, 3))
    np.testing.assert_allclose(found, expected + 0.5, rtol=1e-5)
    one = loss(as_scores(mask))
    np.testing.assert_allclose(one, reference(states, items, targets, weights)[0] + 0.5, rtol=1e-5)
    nobody = loss(as_scores(np.zeros(TARGETS, bool), 3, 3))
    np.testing.assert_allclose(nobody, 0.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_scores_that_are_no_product(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gates a target would meet another's scores, or the last block's fill count."""
    monkeypatch.setattr("grasp_jax.training.catalogue_loss.rows_of_block", lambda *_: 4)
    states, items, targets, _ = drawn()
    mask = np.arange(TARGETS) % 3 > 0

    def loss(states: jax.Array, items: jax.Array) -> jax.Array:
        scores = BlockScores(
            lambda rows: rows @ items.T,
            states,
            jnp.asarray(targets),
            jnp.asarray(mask),
            jnp.float32(0.0),
        )
        return catalogue_cross_entropy(scores, CrossEntropy(smoothing))

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(
        jnp.asarray(states, jnp.float32), jnp.asarray(items, jnp.float32)
    )
    expected = reference(states, items, targets, mask / mask.sum(), smoothing)
    for ours, theirs in zip((value, *gradients), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# In a process of its own, for devices are counted once.
PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.training.cross_entropy import CrossEntropy
from tests.test_cross_entropy import drawn, found_by, reference

for data, table in ((1, 8), (4, 2), (8, 1)):
    for smoothing in (0.0, 0.2):
        core = CrossEntropy(smoothing, mesh=make_mesh(data, table), rows=2)
        found = found_by(core, *drawn())
        for ours, theirs in zip(found, reference(*drawn(), smoothing), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    several = [jnp.stack([jnp.asarray(x)] * 2).astype(x.dtype if x.dtype == np.int32 else np.float32) for x in drawn()]
    loss, _ = jax.jit(jax.vmap(jax.value_and_grad(core, (0, 1))))(*several)
    np.testing.assert_allclose(loss, [reference(*drawn(), smoothing)[0]] * 2, rtol=1e-5)
print("all equal")
"""


def test_on_a_mesh() -> None:
    """Items that several devices share out would be left out of a target's normaliser, or a gradient miss a device's targets."""
    result = run([sys.executable, "-c", PROGRAM], **on_devices(8))
    assert result.returncode == 0 and "all equal" in result.stdout, result.stderr[-3000:]
