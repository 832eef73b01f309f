"""Adam's update of an ID table alone: rows that a step reads, deferred, against all rows (optax), by size of the catalogue.

    python -m benchmarks.id_table [--quick] [--out=JSON]

Where the ratio crosses 1 is what `training.deferred_adam.DEFER_ABOVE` is set by.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.record import Contention, keep, table
from benchmarks.timing import alone
from grasp_jax.training import deferred_adam

NUM_IDS, FEATURES, STEPS, REPEATS = 1652, 64, 100, 5  # ids of a batch of the paper's Beauty: history items and negatives
CATALOGUES = (2_000, 4_000, 8_000, 12_000, 24_000, 57_289, 200_000)
LEARNING_RATE, EPSILON = 1e-3, 1e-8


def deferred(params: Any, adam: optax.ScaleByAdamState, ids: jax.Array, gradients: jax.Array) -> tuple[Any, Any]:
    """STEPS updates as training makes them."""
    params, adam, rows_of = deferred_adam.without_table(params, adam)
    num_items = len(rows_of.rows)

    def step(carry: Any, own: jax.Array) -> tuple[Any, None]:
        held, count = carry
        rows, places = deferred_adam.distinct(own, num_items)
        read = deferred_adam.read_rows(held, rows, count, LEARNING_RATE, EPSILON)
        gradient = jnp.zeros((len(own), FEATURES)).at[places].add(gradients)
        return (deferred_adam.update_rows(held, rows, read, gradient, count + 1, LEARNING_RATE, EPSILON), count + 1), None

    (rows_of, count), _ = jax.lax.scan(step, (rows_of, adam.count), ids)
    return deferred_adam.with_table(params, adam._replace(count=count), rows_of, LEARNING_RATE, EPSILON)


def dense(params: Any, adam: optax.ScaleByAdamState, ids: jax.Array, gradients: jax.Array) -> tuple[Any, Any]:
    """STEPS updates of every row."""
    optimiser = optax.scale_by_adam(eps=EPSILON)

    def step(carry: Any, own: jax.Array) -> tuple[Any, None]:
        params, adam = carry
        gradient = jax.tree.map(lambda leaf: jnp.zeros_like(leaf).at[own].add(gradients), params)
        direction, adam = optimiser.update(gradient, adam)
        return (jax.tree.map(lambda leaf, way: leaf - LEARNING_RATE * way, params, direction), adam), None

    return jax.lax.scan(step, (params, adam), ids)[0]


def milliseconds(update: Callable[..., tuple[Any, Any]], num_items: int) -> list[float]:
    """Of one step, REPEATS times."""
    rng = np.random.default_rng(0)
    params = {"encoder": {"table": jnp.asarray(rng.normal(size=(num_items, FEATURES)), jnp.float32)}}
    ids = jnp.asarray(rng.integers(0, num_items, (STEPS, NUM_IDS)))
    gradients = jnp.asarray(rng.normal(size=(NUM_IDS, FEATURES)), jnp.float32)
    run = jax.jit(update, donate_argnums=(0, 1))
    state, times = run(params, optax.scale_by_adam().init(params), ids, gradients), []
    with alone():
        for _ in range(REPEATS):
            jax.block_until_ready(state)
            started = time.perf_counter()
            state = run(*state, ids, gradients)
            jax.block_until_ready(state)
            times.append(1e3 * (time.perf_counter() - started) / STEPS)
    return times


def main() -> None:
    """Prints a line for each catalogue and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two smallest catalogues; writes nothing unless --out is given")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    given = parser.parse_args()
    contention, rows, lines = Contention(), [], []
    for num_items in CATALOGUES[:2] if given.quick else CATALOGUES:
        times = {name: milliseconds(update, num_items) for name, update in (("deferred", deferred), ("dense", dense))}
        medians = {name: statistics.median(own) for name, own in times.items()}
        speed_up, per_id = medians["dense"] / medians["deferred"], num_items / NUM_IDS
        rows.append({"items": num_items, "items_per_id": per_id, "ms": times, "speed_up": speed_up})
        lines.append([f"{num_items:,}", f"{per_id:.1f}", *(f"{median:.2f}" for median in medians.values()), f"{speed_up:.1f}x"])
    print(table(["items", "items per id", "deferred, ms", "dense, ms", "speed-up"], lines))
    sizes = {"num_ids": NUM_IDS, "features": FEATURES, "steps": STEPS}
    keep("id_table", {"sizes": sizes, "rows": rows}, contention, given.out, given.quick)


if __name__ == "__main__":
    main()
