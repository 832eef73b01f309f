"""Times exact search over many item vectors, and search with smaller number types whose best items are scored again in float32.

    python -m benchmarks.item_types [--quick] [--out=JSON] [--items=1200000]

Random vectors, D=64, for 16 people at a time. As in `grasp_jax.evaluation.top_k.top_products`, only the highest score of each group of 16
items is stored, and the items of the leading groups are scored in float32. Here the scores of the groups may come from vectors in bfloat16,
float16 or int8 (one scale for each item; people are rounded too). Recall is the share of the ten best items that the search finds.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from grasp_jax.evaluation.top_k import BLOCK, GROUP

PEOPLE, WIDTH, K, SPARE, ROUNDS = 16, 64, 10, 8, 9
EXACT = "float32"
TYPES = (EXACT, "bfloat16", "float16", "int8")
Rows = tuple[jax.Array, jax.Array]  # [n, D] numbers, and [n] their scales


def in_type(rows: jax.Array, name: str) -> Rows:
    """Rows in a number type; int8 has one scale for each row, other types have scales of one."""
    if name != "int8":
        return rows.astype(name), jnp.ones(len(rows))
    scale = jnp.abs(rows).max(axis=1) / 127
    return jnp.round(rows / scale[:, None]).astype(jnp.int8), scale


@functools.partial(jax.jit, static_argnames="name")
def best(states: jax.Array, vectors: jax.Array, stored: Rows, name: str) -> jax.Array:
    """[b, K] rows of the best items, best first.

    Args:
      states: [b, D] float32.
      vectors: [V, D] float32, V a multiple of `BLOCK`.
      stored: `in_type` of the vectors.
      name: the number type.
    """
    people, factor = in_type(states, name)
    total = jnp.int32 if name == "int8" else jnp.float32

    def highest(n: jax.Array) -> jax.Array:
        rows, scale = (jax.lax.dynamic_slice_in_dim(own, n * BLOCK, BLOCK) for own in stored)
        scores = jnp.einsum("bd,nd->bn", people, rows, preferred_element_type=total)
        scaled = scores * scale * factor[:, None] if name == "int8" else scores
        return scaled.reshape(len(states), -1, GROUP).max(axis=-1)

    maxima = jnp.moveaxis(jax.lax.map(highest, jnp.arange(len(vectors) // BLOCK)), 0, 1)
    leading = jax.lax.top_k(maxima.reshape(len(states), -1), K + SPARE)[1]
    rows = (leading[:, :, None] * GROUP + jnp.arange(GROUP)).reshape(len(states), -1)
    scores = jnp.einsum("bd,bnd->bn", states, vectors[rows])
    return jnp.take_along_axis(rows, jax.lax.top_k(scores, K)[1], axis=1)


def measure(num_items: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of a batch and recall, for each number type; `num_items` is rounded up to whole blocks."""
    keys = jax.random.split(jax.random.key(0))
    vectors = jax.random.normal(keys[0], (-(-num_items // BLOCK) * BLOCK, WIDTH))
    states = jax.random.normal(keys[1], (PEOPLE, WIDTH))
    ways: dict[str, Callable[[], Any]] = {
        name: functools.partial(best, states, vectors, in_type(vectors, name), name)
        for name in TYPES
    }
    times = interleaved(ways, rounds)
    right = np.asarray(jax.lax.top_k(states @ vectors.T, K)[1])
    return [
        {
            "type": name,
            "recall": float(
                np.mean([np.isin(a, b) for a, b in zip(right, np.asarray(way()), strict=True)])
            ),
            **spread(times[name], 1),
        }
        for name, way in ways.items()
    ]


def main() -> None:
    """Measures, prints and stores."""
    parser = parser_of("item_types", __doc__)
    parser.add_argument("--items", type=int, default=1_200_000, help="items of the catalogue")
    given, contention = parser.parse_args(), Contention()
    found = measure(BLOCK * 2 if given.quick else given.items, 3 if given.quick else ROUNDS)
    rows = [[own["type"], f"{own['median_ms']:.1f}", f"{own['recall']:.3f}"] for own in found]
    print(table(["item vectors", "ms for 16 people", "recall@10"], rows))
    fastest = min(found[1:], key=lambda own: own["median_ms"])
    said = f"{fastest['type']} takes {fastest['median_ms'] / found[0]['median_ms']:.2f} times as long as {EXACT}"
    keep("item_types", {"items": given.items, "types": found}, contention, given, said)


if __name__ == "__main__":
    run(main)
