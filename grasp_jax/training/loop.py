"""The training loop, in the order in which it runs.

M models (seeds x dropout rates x learning rates) train together along a `vmap` axis; each stops early on its own and then leaves the
axis. An epoch is a few dispatches of many steps; meanwhile a thread packs the next epoch, and the host reads the losses of a dispatch
while the device runs the one after it, so that the device never waits. Data order is a function of (seed, epoch), negatives and dropout
of (seed, step), so a run that was killed goes on from its last checkpoint as if nothing had happened.
"""

import collections
import functools
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import TrainingDiverged
from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.evaluation.ranking import sampled_ranks
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.recommender import Recommender, Tables
from grasp_jax.parallel.mesh import everywhere, on_host
from grasp_jax.parallel.processes import GO_ON, PREEMPTION, SAVE, STOP, highest_wish
from grasp_jax.progress import progress_bar
from grasp_jax.timing import compile_seconds
from grasp_jax.training.checkpoint import Checkpoints, hash_of_model, record_newest
from grasp_jax.training.early_stopping import Progress, as_progress
from grasp_jax.training.epochs import Epoch, TrainingData, dispatches, make_epoch
from grasp_jax.training.members import Member, of_members, one_of, put, take
from grasp_jax.training.records import Records, is_of
from grasp_jax.training.states import newest_states
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.targets import draw_targets

SAVING_SHARE = 0.1  # of the time, at most: where an epoch takes a fraction of a second, not every one is saved


class Dispatch(NamedTuple):
    """Steps that the device was given, and what the host has yet to read of them.

    Attributes:
      first_step: number of the first, over all epochs.
      losses: [S, M].
      finite: [M] bool, whether all parameters are finite after the last step.
      wish: the highest of all processes' after the last step, `processes.highest_wish`.
    """

    first_step: int
    losses: jax.Array
    finite: jax.Array
    wish: Any


class Snapshot(NamedTuple):
    """Everything a checkpoint holds; array leaves have a leading axis M."""

    state: TrainState
    best_params: Any
    progress: Progress


def train(
    config: ConfigDict, model: Recommender, members: list[Member], data: TrainingData, snapshot: Snapshot,
    folder: pathlib.Path, records: Records, labels: dict[str, str],
) -> Snapshot:  # fmt: skip
    """Trains `members` to their early stop, resuming from `folder` if it holds checkpoints.

    Args:
      config: the `train` section.
      snapshot: where training starts, such as `initial_snapshot`.
      folder: checkpoints go to folder/last and folder/best.
      records: one line per model and epoch.
      labels: method and backbone, for records and messages.

    Returns:
      The final snapshot; `best_params` are the parameters of each model's best validation epoch.

    Raises:
      TrainingDiverged: a loss or a parameter stopped being finite.
    """
    # Models, optimisers and early-stopping state: as given, or as the last readable checkpoint has them.
    last, best = (Checkpoints(folder / name, data.made_from) for name in ("last", "best"))
    restored = last.restore(snapshot)
    if restored is not None:
        snapshot = Snapshot(*restored[1])._replace(progress=as_progress(restored[1].progress))
        epochs, steps_done = int(snapshot.progress.epoch), int(snapshot.progress.step)
        print(f"{_name(labels)}: resumed after {epochs} epochs and {steps_done} steps from {last.folder}")
    progress = snapshot.progress
    done = int(progress.epoch) if restored is not None else -1
    records.keep(lambda record: not (is_of(record, labels) and record["epoch"] > done))

    # One compiled function runs many steps; its state is donated, so parameters exist once.
    train_steps = jax.jit(make_train_steps(model, data.shape, data.loss), donate_argnums=0)
    own = of_members(members, functools.partial(everywhere, data.mesh))
    steps_per_epoch = -(-len(data.users) // data.packing.batch_size)
    tokens_per_epoch = int(data.histories.lengths[data.users].sum())
    packer = ThreadPoolExecutor(1)
    pending = packer.submit(make_epoch, data, members, int(progress.epoch))
    bar = progress_bar(config.max_epochs, _name(labels), "epoch", int(progress.epoch))
    said = saved = time.perf_counter()
    saving, unsaved_best = 0.0, False  # seconds of the newest save; whether "best" is older than the best epoch
    best_hash = ""  # of the best parameters, once they were saved

    def save(step: int, snapshot: Snapshot) -> None:
        """Saves "best" first: a run killed in between resumes from the older "last", and comes by the best epoch again."""
        nonlocal saved, saving, unsaved_best, best_hash
        started = time.perf_counter()
        if unsaved_best or not best_hash:
            best_hash = hash_of_model(snapshot.best_params)
        if unsaved_best:
            best.save(step, snapshot, best_hash)
        last.save(step, snapshot, best_hash)
        record_newest(folder, step, best_hash)
        saved, unsaved_best = time.perf_counter(), False
        saving = saved - started

    if restored is None and config.start_from:
        # The model that training starts from is epoch 0: what follows must be better to be kept.
        scores = validate(model, snapshot.state.params, data, progress.active)
        progress = progress.starting_from(scores)
        snapshot, unsaved_best = snapshot._replace(progress=progress), True
        records.append({"event": "start", **labels, "epoch": 0, "valid_ndcg@10": [float(score) for score in scores]})
        print(f"{_name(labels)}: the model that it starts from has validation NDCG@10 {100 * scores.max():.2f}", flush=True)
        save(0, snapshot)

    while len(progress.active) and progress.epoch < config.max_epochs:
        active = progress.active
        epoch = Epoch(*(part[active] for part in pending.result()))
        pending = packer.submit(make_epoch, data, members, int(progress.epoch) + 1)

        # Train one epoch, dispatch by dispatch.
        started, compiled = time.perf_counter(), compile_seconds()
        first, in_flight = int(progress.step), collections.deque[Dispatch]()
        if first == 0:
            snapshot = snapshot._replace(state=with_states(snapshot.state, model, data))
        rows = None if len(active) == len(members) else everywhere(data.mesh, active)
        state, (keys, *rates) = take(snapshot.state, rows), take(own, rows)
        for begin, packed, query_rows in dispatches(data, epoch, first, config.steps_per_dispatch):
            first_step, end = int(progress.epoch) * steps_per_epoch + begin, begin + packed.shape[1]
            number = everywhere(data.mesh, np.int32(first_step))
            state, losses = train_steps(state, data.device, data.tables, packed, keys, number, *rates, query_rows)
            after = config.checkpoint_seconds if end < steps_per_epoch else min(config.checkpoint_seconds, saving / SAVING_SHARE)
            wish = STOP if PREEMPTION.wished else SAVE if time.perf_counter() - saved > after else GO_ON
            in_flight.append(Dispatch(first_step, losses, _finite(state.params), highest_wish(data.mesh, wish)))
            granted = wish if jax.process_count() == 1 else GO_ON  # several processes hear of each other's with the losses
            while len(in_flight) > (0 if granted or end == steps_per_epoch else 1):
                oldest = in_flight.popleft()
                read = _checked_losses(oldest, [members[m] for m in active], data, folder, last, _name(labels))
                progress.loss_sum[active] += read.sum(axis=0)
                granted = max(granted, int(on_host(oldest.wish)))
            if granted and end < steps_per_epoch:
                progress = progress._replace(step=np.full((), end, np.int32))
                save(first_step + packed.shape[1], Snapshot(put(snapshot.state, state, rows), snapshot.best_params, progress))
                if granted == STOP:
                    PREEMPTION.stop(f" after {int(progress.epoch)} epochs and {end} steps, saved in {last.folder}")
        snapshot = snapshot._replace(state=put(snapshot.state, state, rows))
        compiled = compile_seconds() - compiled
        train_seconds = time.perf_counter() - started - compiled
        mean_loss = progress.loss_sum / steps_per_epoch

        # Validate, and let each model decide whether to go on.
        started, eval_compiled = time.perf_counter(), compile_seconds()
        scores = validate(model, snapshot.state.params, data, active)
        eval_compiled = compile_seconds() - eval_compiled
        eval_seconds = time.perf_counter() - started - eval_compiled
        progress, better = progress.after_epoch(scores, config.patience)
        if better.any():
            snapshot = snapshot._replace(best_params=_keep_best(snapshot.best_params, snapshot.state.params, everywhere(data.mesh, better)))

        # Record, then save: a run killed in between resumes from the checkpoint before and does both again.
        snapshot = snapshot._replace(progress=progress)
        rate = tokens_per_epoch * (steps_per_epoch - first) / steps_per_epoch * len(active) / max(train_seconds, 1e-9)
        for m in active:
            records.append(
                {
                    "event": "epoch",
                    **labels,
                    "seed": members[m].seed,
                    "dropout": members[m].dropout,
                    "learning_rate": members[m].learning_rate,
                    "epoch": int(progress.epoch),
                    "loss": float(mean_loss[m]),
                    "valid_ndcg@10": float(scores[m]),
                    "best": float(progress.best[m]),
                    "tokens_per_second": round(rate, 1),
                    "train_seconds": round(train_seconds, 3),
                    "eval_seconds": round(eval_seconds, 3),
                    "compile_seconds": round(compiled + eval_compiled, 3),
                }
            )
        unsaved_best |= bool(better.any())
        if granted or not len(progress.active) or progress.epoch == config.max_epochs:
            save(int(progress.epoch) * steps_per_epoch, snapshot)
        if granted == STOP:
            PREEMPTION.stop(f" after {int(progress.epoch)} epochs, saved in {last.folder}")
        shown = f"loss {mean_loss[active].mean():.4f}, {rate:,.0f} tokens/s, best {100 * progress.best.max():.2f}"
        bar.set_postfix_str(f"{shown}, {len(active)} training")
        bar.update()
        if bar.disable and (time.perf_counter() - said > 20 or progress.epoch == 1):
            print(f"{_name(labels)}: epoch {progress.epoch}: {shown}, {len(active)} training", flush=True)
            said = time.perf_counter()

    bar.close()
    packer.shutdown(wait=False, cancel_futures=True)
    last.close()
    best.close()
    return snapshot


def validate(model: Recommender, params: Any, data: TrainingData, active: np.ndarray) -> np.ndarray:
    """[M] validation NDCG@10 of the models `active` of M, whose parameters are stacked in `params`; -1 for the others."""
    scores = np.full(len(jax.tree.leaves(params)[0]), -1.0)
    for m in active:
        scores[m] = ndcg_at_10(sampled_ranks(model, one_of(params, m), data.device, data.tables, data.valid))
    return scores


def initial_snapshot(model: Recommender, members: list[Member], data: TrainingData) -> Snapshot:
    """Fresh models, a function of each member's seed alone."""

    def initial(key: jax.Array, device: DeviceData, tables: Tables) -> tuple[Any, Any]:
        batch = gather_batch(device, jnp.full((data.packing.num_rows, data.packing.row_length), -1, jnp.int32))
        params = data.start(model.init(key, tables, batch)["params"], tables)
        return params, optax.scale_by_adam().init(params)

    # Un-jitted, flax's init costs seconds.
    keys = of_members(members, functools.partial(everywhere, data.mesh)).keys
    params, adam = jax.jit(jax.vmap(initial, in_axes=(0, None, None)))(keys, data.device, data.tables)
    state = TrainState(params, adam)
    if data.everyone is not None:  # taken anew when an epoch begins
        shape = jax.eval_shape(lambda state: with_states(state, model, data).states, state)
        state = state._replace(states=jnp.zeros(shape.shape, shape.dtype))
    state = everywhere(data.mesh, state)
    return Snapshot(state, jax.tree.map(jnp.copy, state.params), Progress.start(len(members)))


def with_states(state: TrainState, model: Recommender, data: TrainingData) -> TrainState:
    """The state with the newest states of all users, if the method reads them."""
    if data.everyone is None:
        return state
    num_users = len(data.histories.lengths)
    return state._replace(states=newest_states(model, state.params, data.device, data.tables, data.everyone, num_users))


@jax.jit
def _keep_best(best: Any, params: Any, better: jax.Array) -> Any:
    return jax.tree.map(lambda old, new: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), best, params)


@jax.jit
def _finite(tree: Any) -> jax.Array:
    """[M] bool: whether all parameters of each model are finite."""
    return jnp.stack([jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in jax.tree.leaves(tree)]).all(axis=0)


def _checked_losses(
    done: Dispatch, members: list[Member], data: TrainingData, folder: pathlib.Path, last: Checkpoints, name: str
) -> np.ndarray:  # fmt: skip
    """[S, M] losses of a dispatch of these models, on the host; raises TrainingDiverged where they, or the parameters, are not finite."""
    losses, finite = on_host((done.losses, done.finite))
    bad = ~np.isfinite(losses)
    bad[-1] |= ~finite  # the last step's update, whose loss nobody has computed yet
    if not bad.any():
        return losses
    at, model = np.argwhere(bad)[0]
    step, member = done.first_step + int(at), members[model]
    good = "none yet" if last.newest() is None else last.folder / str(last.newest())
    raise TrainingDiverged(
        f"{name}, seed {member.seed}, dropout {member.dropout}, learning rate {member.learning_rate}: loss {losses[at, model]} at step "
        f"{step}; {_store_batch(step, member, data, folder)}; last good checkpoint: {good}; "
        "lower config.train.learning_rate or look for bad values in the embeddings"
    )


def _store_batch(step: int, member: Member, data: TrainingData, folder: pathlib.Path) -> str:
    """Writes the batch of a step for those who want to look at it, and says where."""
    if jax.process_count() > 1:
        return "one process alone would have stored its batch"
    epoch, of_epoch = divmod(step, -(-len(data.users) // data.packing.batch_size))
    batch = gather_batch(data.device, jnp.asarray(make_epoch(data, [member], epoch).slots[0, of_epoch]))
    batch, targets = draw_targets(jax.random.key(member.seed), jnp.int32(step), data.device, batch, data.shape)
    path = folder / f"diverged_step{step}.npz"
    np.savez(
        path, items=batch.items, users=batch.segments, positions=batch.positions, masked=batch.masked, places=targets.places,
        negatives=targets.negatives,
    )  # fmt: skip
    return f"its batch is in {path}"


def _name(labels: dict[str, str]) -> str:
    return f"{labels['method']}-{labels['backbone']}"
