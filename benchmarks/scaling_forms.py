"""Two ways to share out a batch, timed: python -m benchmarks.scaling_forms FOLDER BATCH, a stage of `benchmarks.scaling`.

The package's way is jit and `NamedSharding`; the other is `jax.pmap`, where each device trains on its own rows with draws of its own and
gradients are added up by hand. On two emulated devices, a core each. The last line is JSON.
"""

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.scaling_compiled import BACKBONE, METHOD, config_of
from grasp_jax.cells import Cell, make_cell
from grasp_jax.experiment import Experiment
from grasp_jax.models.device_data import DeviceData, gather_batch, logits_of
from grasp_jax.models.recommender import Recommender, Tables, apply
from grasp_jax.parallel.mesh import everywhere, shared_out
from grasp_jax.parallel.plan import Layout
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.loop import initial_snapshot
from grasp_jax.training.losses import Loss
from grasp_jax.training.members import of_members
from grasp_jax.training.step import DROPOUT, make_train_steps
from grasp_jax.training.targets import StepShape, draw_targets

DEVICES, STEPS, REPEATS = 2, 4, 7


def pmap_steps(model: Recommender, shape: StepShape, loss_of_scores: Loss) -> Callable[..., Any]:
    """S steps of one model of a gated method, as `jax.pmap` has them.

    Of (params, adam, slots [n, S, R / n, L], keys [n], first_step, dropout, learning_rate, data, tables), all but slots and keys repeated
    along a leading axis n, it gives new params, adam and the losses [n, S], the same on each device.
    """
    optimiser = optax.scale_by_adam()

    def steps(
        params: Any, adam: Any, slots: jax.Array, key: jax.Array, first_step: jax.Array, dropout: jax.Array, learning_rate: jax.Array,
        data: DeviceData, tables: Tables,
    ) -> Any:  # fmt: skip
        def one(carry: Any, of_step: tuple[jax.Array, jax.Array]) -> Any:
            (params, adam), (slots, step) = carry, of_step
            batch, targets = draw_targets(key, step, data, gather_batch(data, slots), shape)
            logits = logits_of(tables, targets.queries[:, None], targets.negatives)
            dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step)

            def total_loss(params: Any) -> tuple[jax.Array, jax.Array]:
                given = tables, batch, targets.places, targets.negatives, logits, dropout
                scores = apply(model, params, "training_scores", *given, rngs={"dropout": dropout_key})
                return loss_of_scores(scores) * scores.mask.sum(), scores.mask.sum()

            (total, count), gradient = jax.value_and_grad(total_loss, has_aux=True)(params)
            total, count, gradient = jax.lax.psum((total, count, gradient), "devices")
            direction, adam = optimiser.update(jax.tree.map(lambda leaf: leaf / count, gradient), adam)
            return (jax.tree.map(lambda leaf, way: leaf - learning_rate * way, params, direction), adam), total / count

        (params, adam), losses = jax.lax.scan(one, (params, adam), (slots, first_step + jnp.arange(len(slots))))
        return params, adam, losses

    return jax.pmap(steps, "devices")


def by_pmap(cell: Cell, devices: int) -> Callable[[], jax.Array]:
    """Runs the first steps, `STEPS` if there are so many; the losses [S]."""
    data = cell.data
    slots = make_epoch(data, cell.members, 0).slots[0, :STEPS]
    own = slots.reshape(len(slots), devices, -1, slots.shape[-1]).swapaxes(0, 1)
    share = data.shape._replace(num_targets=own.shape[2] * own.shape[3], every_place=False)
    steps = pmap_steps(cell.model.clone(shares=1), share, data.loss)
    state = jax.tree.map(lambda leaf: leaf[0], initial_snapshot(cell.model, cell.members, data).state)
    keys, dropout, rate = of_members(cell.members)
    single = (state.params, state.adam, jnp.int32(0), dropout[0], rate[0], data.device, data.tables)
    repeated = jax.tree.map(lambda leaf: np.stack([leaf] * devices), single)
    params, adam, *rest = jax.pmap(lambda tree: tree)(repeated)  # each device has its own, or every call would copy them
    own_keys = keys if devices == 1 else jax.random.split(keys[0], devices)
    return lambda: steps(params, adam, own, own_keys, *rest)[2][0]


def by_jit(cell: Cell) -> Callable[[], jax.Array]:
    """The same of the package's own step."""
    data = cell.data
    keys, *rates = of_members(cell.members, lambda tree: everywhere(data.mesh, tree))
    packed = shared_out(data.mesh, make_epoch(data, cell.members, 0).slots[:, :STEPS], axis=2)
    state = initial_snapshot(cell.model, cell.members, data).state
    steps, number = jax.jit(make_train_steps(cell.model, data.shape, data.loss)), everywhere(data.mesh, np.int32(0))
    return lambda: steps(state, data.device, data.tables, packed, keys, number, *rates)[1][:, 0]


def main(folder: pathlib.Path, batch: int) -> None:
    cells = {}
    for devices in (1, DEVICES):
        experiment = Experiment(config_of(folder, Layout(devices, 1), batch), folder / "runs")
        cells[devices] = make_cell(experiment, METHOD, BACKBONE)
    ways = {"one device": by_jit(cells[1]), "jit": by_jit(cells[DEVICES]), "pmap": by_pmap(cells[DEVICES], DEVICES)}
    losses = {name: np.asarray(run()).tolist() for name, run in ways.items()}  # compiled
    np.testing.assert_allclose(losses["jit"], losses["one device"], rtol=1e-5)
    np.testing.assert_allclose(by_pmap(cells[1], 1)(), losses["one device"], rtol=1e-5)  # with one device, draws are the same too
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, run in ways.items():
            started = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append((time.perf_counter() - started) / len(losses[name]))
    rows = [{"form": name, "step_seconds": statistics.median(seconds[name]), "losses": losses[name]} for name in ways]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
