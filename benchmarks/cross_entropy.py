"""Times cross-entropy over the whole catalogue with its gradients in three forms: all scores at once, scores computed twice, and in blocks.

    python -m benchmarks.cross_entropy [--quick] [--out=JSON] [--items=12101,100000]

P targets of 900 are a batch of 128 users of Beauty 5-core, D=64. "all at once" is automatic differentiation of a logsumexp of [P, V];
"made twice" keeps one number for each target and computes each block of items again in the backward pass (cut cross-entropy, arXiv
2411.09009); "in blocks" is `grasp_jax.training.cross_entropy`. Before anything is timed, losses and gradients must agree.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from benchmarks.workload import temporary_bytes
from grasp_jax.core.errors import UserError
from grasp_jax.training.cross_entropy import CrossEntropy

TARGETS, WIDTH, ROUNDS = 900, 64, 7
ITEM_BLOCK = 4096
BASE, OURS = "all at once", "in blocks"
PARITY_LIMIT = 1e-4  # of the largest value
Form = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def at_once(states: jax.Array, items: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean loss, from all scores [P, V] at once."""
    scores = states @ items.T
    asked = jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(scores, axis=1) - asked).mean()


def made_twice(states: jax.Array, items: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean loss, computed in blocks of items; each block is computed again in the backward pass."""
    fill = -len(items) % ITEM_BLOCK
    blocks = jnp.pad(items, ((0, fill), (0, 0))).reshape(-1, ITEM_BLOCK, items.shape[1])
    exists = (jnp.arange(len(items) + fill) < len(items)).reshape(-1, ITEM_BLOCK)

    @jax.checkpoint
    def of_block(states: jax.Array, block: jax.Array, exists: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(jnp.where(exists, states @ block.T, -jnp.inf), axis=1)

    def add(total: jax.Array, block: Any) -> tuple[jax.Array, None]:
        return jnp.logaddexp(total, of_block(states, *block)), None

    total, _ = jax.lax.scan(add, jnp.full(len(states), -1e30), (blocks, exists))
    return (total - (states * items[targets]).sum(axis=1)).mean()


def in_blocks(states: jax.Array, items: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean loss, as training computes it."""
    return CrossEntropy()(states, items, targets, jnp.full(len(states), 1 / len(states)))


FORMS: dict[str, Form] = {BASE: at_once, "made twice": made_twice, OURS: in_blocks}


def measure(num_items: int, targets: int, rounds: int) -> dict[str, Any]:
    """Figures of each form for one size of the catalogue.

    Raises:
      UserError: a form does not compute the same function.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.random.normal(keys[0], (targets, WIDTH))
    items = 0.3 * jax.random.normal(keys[1], (num_items, WIDTH))
    asked = jax.random.randint(keys[2], (targets,), 0, num_items)
    compiled = {
        name: jax.jit(jax.value_and_grad(form, (0, 1))).lower(states, items, asked).compile()
        for name, form in FORMS.items()
    }
    expected = compiled[BASE](states, items, asked)
    for name, own in compiled.items():
        for ours, theirs in zip(
            jax.tree.leaves(own(states, items, asked)), jax.tree.leaves(expected), strict=True
        ):
            if not (worst := float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())) <= (
                PARITY_LIMIT
            ):
                raise UserError(f"{name} differs by {worst:.1e}; its times mean nothing")
    times = interleaved(
        {name: functools.partial(own, states, items, asked) for name, own in compiled.items()},
        rounds,
    )
    return {
        name: spread(own, 1) | {"temporary_bytes": temporary_bytes(compiled[name])}
        for name, own in times.items()
    }


def main() -> None:
    """Prints a line for each size and form, and writes all as JSON."""
    parser = parser_of("cross_entropy", __doc__)
    parser.add_argument("--items", default="12101,100000", help="numbers of items, comma separated")
    given = parser.parse_args()
    sizes = [300] if given.quick else [int(size) for size in given.items.split(",")]
    contention, targets = Contention(), 30 if given.quick else TARGETS
    cases = {str(size): measure(size, targets, 2 if given.quick else ROUNDS) for size in sizes}
    lines = [
        [
            f"V={size}, {name}",
            *(f"{own[key]:.1f}" for key in ("median_ms", "p10_ms", "p90_ms")),
            f"{own['temporary_bytes'] / 2**20:.0f}",
        ]
        for size, forms in cases.items()
        for name, own in forms.items()
    ]
    print(table(["loss and gradients", "median ms", "p10", "p90", "temporary MiB"], lines))
    first = cases[str(sizes[0])]
    ratio = first[BASE]["median_ms"] / first[OURS]["median_ms"]
    found = f"{OURS} is {ratio:.1f}x as fast as {BASE}, with V={sizes[0]}"
    keep(
        "cross_entropy",
        {"targets": targets, "width": WIDTH, "cases": cases},
        contention,
        given,
        found,
    )


if __name__ == "__main__":
    run(main)
