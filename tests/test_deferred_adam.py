"""Adam that updates rows of the ID table when they are read, against Adam that updates all of them at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grasp_jax.models.id_table_params import has_id_table
from grasp_jax.training.optim import deferred_adam

NUM_ITEMS, FEATURES, STEPS, READ = 40, 3, 120, 6


def run_both(first_step: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Table and moments after STEPS steps in which most rows are seldom read: deferred, and with optax on the dense gradient."""
    rng = np.random.default_rng(0)
    moments = np.abs(rng.normal(size=(2, NUM_ITEMS, FEATURES))).astype(np.float32) * (
        first_step > 0
    )
    params = {
        "encoder": {"table": jnp.asarray(rng.normal(size=(NUM_ITEMS, FEATURES)), jnp.float32)},
        "other": jnp.ones(2),
    }
    tree = [{"encoder": {"table": jnp.asarray(x)}, "other": jnp.zeros(2)} for x in moments]
    state = optax.ScaleByAdamState(jnp.int32(first_step), *tree)
    ids = np.where(
        rng.random((STEPS, READ)) < 0.7,
        rng.integers(0, 4, (STEPS, READ)),
        rng.integers(0, NUM_ITEMS - 5, (STEPS, READ)),
    )
    gradients = rng.normal(size=(STEPS, READ, FEATURES)).astype(np.float32)
    rates = (1e-2, 1e-8)

    def deferred(params, state):  # type: ignore[no-untyped-def]
        rest, adam, table = deferred_adam.without_table(params, state)
        assert not has_id_table(rest)

        def step(carry, given):  # type: ignore[no-untyped-def]
            table, count = carry
            rows, places = deferred_adam.distinct(given[0], NUM_ITEMS)
            read = deferred_adam.read_rows(table, rows, count, *rates)
            gradient = jnp.zeros((READ, FEATURES)).at[places].add(given[1])
            return (
                deferred_adam.update_rows(table, rows, read, gradient, count + 1, *rates),
                count + 1,
            ), read[:, :FEATURES][places]

        (table, count), seen = jax.lax.scan(
            step, (table, adam.count), (jnp.asarray(ids), jnp.asarray(gradients))
        )
        params, adam = deferred_adam.with_table(rest, adam._replace(count=count), table, *rates)
        return (
            params["encoder"]["table"],
            adam.mu["encoder"]["table"],
            adam.nu["encoder"]["table"],
            seen,
        )

    def dense(params, state):  # type: ignore[no-untyped-def]
        optimiser = optax.scale_by_adam(eps=rates[1])

        def step(carry, given):  # type: ignore[no-untyped-def]
            params, state = carry
            table = params["encoder"]["table"]
            gradient = {
                "encoder": {"table": jnp.zeros_like(table).at[given[0]].add(given[1])},
                "other": jnp.zeros(2),
            }
            direction, state = optimiser.update(gradient, state)
            return (
                jax.tree.map(lambda leaf, way: leaf - rates[0] * way, params, direction),
                state,
            ), table[given[0]]

        (params, state), seen = jax.lax.scan(
            step, (params, state), (jnp.asarray(ids), jnp.asarray(gradients))
        )
        return (
            params["encoder"]["table"],
            state.mu["encoder"]["table"],
            state.nu["encoder"]["table"],
            seen,
        )

    return [list(map(np.asarray, jax.jit(run)(params, state))) for run in (deferred, dense)]  # type: ignore[return-value]


@pytest.mark.parametrize("first_step", [0, 7, 30_000])
def test_deferred_equals_dense(first_step: int) -> None:
    """Rows that a step does not read would stand still, or be read stale; from a fresh start, a resumed run and a long one."""
    deferred, dense = run_both(first_step)
    for name, ours, theirs in zip(
        ("table", "first moment", "second moment", "rows as read"), deferred, dense, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6, err_msg=name)


def test_rows_move_while_nobody_reads_them() -> None:
    """The comparison above would hold for an Adam that skips unread rows, if none were left unread for long with momentum."""
    deferred, _ = run_both(7)
    rng = np.random.default_rng(0)
    rng.normal(size=(2, NUM_ITEMS, FEATURES))
    start = rng.normal(size=(NUM_ITEMS, FEATURES))
    assert (np.abs(deferred[0] - start)[-5:] > 1e-3).all()  # the last five rows are never read
