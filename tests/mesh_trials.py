"""Trains, evaluates and recommends on one device and on several emulated devices, in a separate process, and compares the results.

    python -m tests.mesh_trials FOLDER plain-sasrec:8x1:device grasp-gru4rec:2x4:host plain-sasrec-ce:2x4:device ...

FOLDER/data is of `tests.command_line.write_dataset`. A trial is METHOD-BACKBONE:DATAxTABLE:USERS or METHOD-BACKBONE-LOSS:..., with
`config.mesh` and `config.tables.users`. Prints a line for each trial, and "all equal".
"""

import dataclasses
import os
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import pyarrow.parquet

from grasp_jax.config import Config
from grasp_jax.evaluation.audience import Wanted
from grasp_jax.parallel.mesh import replicate, shard
from grasp_jax.serving.recommend import write_recommendations
from grasp_jax.training import saving
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.run_epoch import compile_steps
from grasp_jax.training.snapshot import initial_snapshot
from grasp_jax.trials.chosen import audience_of, of_trial
from grasp_jax.trials.run import Prepared, open_run, prepare
from grasp_jax.trials.trial import Trial, make_trial, train_trial
from grasp_jax.trials.trial_results import evaluate_trial
from tests.command_line import CACHE

STEPS = 2  # of a dispatch
EPOCHS = 4  # 28 steps; stopped twice after three saves, a training is not at its end


def prepared(
    folder: pathlib.Path, trial: str, mesh: tuple[int, int], users: str, workdir: str
) -> Prepared:
    config = Config().with_fields(
        {
            **dict(zip(("mesh.data", "mesh.table"), mesh, strict=True)),
            "tables.users": users,
            "data.path": str(folder / "data"),
            "data.max_length": 12,
            "data.tail_user_below": 0,
            "knowledge.encoder": "file",
            "knowledge.item_file": "items.npy",
            "knowledge.user_file": "users.npy",
            "knowledge.num_neighbours": 3,
            **dict(
                zip(
                    ("model.method", "model.backbone", "train.loss"), trial.split("-"), strict=False
                )
            ),
            "model.mask_noise": 0.1,
            "model.features": 8,
            "model.mlp": (16,),
            "model.num_layers": 1,
            "train.batch_size": 8,
            "train.max_epochs": EPOCHS,
            "train.steps_per_dispatch": STEPS,
            "eval.user_block": 20,
            "eval.num_negatives": 10,
            "eval.item_block": 16,
            "recommend.exclude_seen": False,
        }
    )
    return prepare(open_run(config, folder / workdir))


def with_fields(own: Prepared, fields: dict[str, Any]) -> Prepared:
    """The same run with other fields of its config."""
    return dataclasses.replace(
        own, run=dataclasses.replace(own.run, config=own.run.config.with_fields(fields))
    )


def the_trial(own: Prepared) -> Trial:
    return make_trial(own, own.run.config.model.method, own.run.config.model.backbone)


def outcome(own: Prepared, whole: bool) -> dict[str, Any]:
    """Losses, metrics and, if `whole`, the ranking of the full catalogue and recommendations."""
    own = with_fields(own, {"eval.full": whole})
    trial = the_trial(own)
    snapshot = train_trial(trial)
    rows = evaluate_trial(trial, snapshot).rows
    metrics = losses(own) | {"test": [[row["NDCG@10"], row["MRR"]] for row in rows]}
    if not whole:
        return metrics
    path, config = own.run.workdir / "recommendations.parquet", own.run.config
    wanted = Wanted(10, False, None, None, config.eval.user_block, config.eval.item_block)
    audience = audience_of(of_trial(trial, snapshot))
    write_recommendations(audience, np.arange(audience.log.num_users), wanted, path)
    table = pyarrow.parquet.read_table(path).to_pydict()
    order = np.lexsort((table["rank"], table["user"]))
    return metrics | {name: np.asarray(table[name])[order].tolist() for name in ("item", "score")}


def losses(own: Prepared) -> dict[str, Any]:
    epochs = [record for record in own.run.records.read() if record["event"] == "epoch"]
    assert len(epochs) == EPOCHS
    return {name: [record[name] for record in epochs] for name in ("loss", "valid_ndcg@10")}


def assert_same(one: dict[str, Any], many: dict[str, Any], what: str) -> None:
    for name in one:
        np.testing.assert_allclose(
            many[name], one[name], rtol=1e-5, atol=1e-5, err_msg=f"{what}: {name}"
        )


def assert_same_order(one: Trial, many: Trial) -> None:
    """The same data in the same places, with empty rows at the end."""
    slots, expected = (make_epoch(trial.data, trial.replicas, 3).slots for trial in (many, one))
    np.testing.assert_array_equal(slots[:, :, : expected.shape[2]], expected)
    assert (slots[:, :, expected.shape[2] :] == -1).all() and slots.shape[
        2
    ] % many.data.mesh.size == 0


def compiled(trial: Trial) -> Any:
    """The two steps of a dispatch, as the trial was trained with them."""
    data = trial.data
    state = initial_snapshot(trial.model, trial.replicas, data).state
    steps = compile_steps(trial.job, state.params)
    packed = shard(data.mesh, make_epoch(data, trial.replicas, 0).slots[:, :STEPS], axis=2)
    first = replicate(data.mesh, np.int32(0))
    given = state, data.device, data.tables, packed, steps.per_replica, first, None, None
    return steps.train_steps.lower(*given).compile()  # type: ignore[attr-defined]


def assert_work_is_shared(one: Trial, many: Trial) -> None:
    """Each device has its part of the batch and no more: gradients are added up, and the work of a device falls."""
    shared, single = compiled(many), compiled(one)
    assert "all-reduce" in shared.as_text() and "all-reduce" not in single.as_text()
    assert shared.cost_analysis()["flops"] < 0.6 * single.cost_analysis()["flops"]


def assert_rows_are_shared(trial: Trial) -> None:
    """A device holds its part of the item tables: 1 / n of the rows, rounded up."""
    for name in ("items", "items_similar", "text", "company"):
        if name in trial.data.tables:
            table = trial.data.tables[name]
            assert {part.data.shape[0] for part in table.rows.addressable_shards} == {
                -(-table.num_rows // table.shares)
            }


def main(folder: pathlib.Path, trials: list[str]) -> None:
    keep_programs(os.environ.get(CACHE, str(folder / "compiled")))
    single: dict[str, dict[str, Any]] = {}
    for trial in trials:
        name, mesh, users = trial.split(":")
        data, table = (int(axis) for axis in mesh.split("x"))
        whole = name == "grasp-gru4rec"  # once is enough
        alone = prepared(folder, name, (1, 1), "device", f"{name}-1")
        if name not in single:
            single[name] = outcome(alone, whole)
        many = prepared(folder, name, (data, table), users, trial.replace(":", "-"))
        assert_same(single[name], outcome(many, whole), trial)
        assert_same_order(the_trial(alone), the_trial(many))
        if name.startswith("plain"):
            assert_work_is_shared(the_trial(alone), the_trial(many))
        elif table > 1:
            assert_rows_are_shared(the_trial(many))
        print(trial, flush=True)
    of_first = single[trials[0].split(":")[0]]
    resumes_elsewhere(folder, trials[0], of_first, through_two=len(trials) > 2)
    print("all equal")


def keep_programs(folder: str) -> None:
    """Each check makes its functions again, but what one check has compiled, no other compiles."""
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def resumes_elsewhere(
    folder: pathlib.Path, trial: str, expected: dict[str, Any], through_two: bool
) -> None:
    """Killed on several devices in the middle of an epoch; one goes on, or two that are killed as well, and then one."""
    name, mesh, _ = trial.split(":")
    data, table = (int(axis) for axis in mesh.split("x"))
    for devices in ((data, table), *([(2, 1)] if through_two else [])):
        stopped_within_an_epoch(prepared(folder, name, devices, "device", "moved"))
    ended = prepared(folder, name, (1, 1), "device", "moved")
    train_trial(the_trial(ended))
    assert_same({name: expected[name] for name in losses(ended)}, losses(ended), "moved")


def stopped_within_an_epoch(own: Prepared) -> None:
    real, saves = saving.Checkpoints.save, 0

    def save(self: Any, step: int, tree: Any, model: str) -> None:
        nonlocal saves
        real(self, step, tree, model)
        saves += int(tree.progress.step) > 0
        if saves == 3:
            raise KeyboardInterrupt

    own, saving.Checkpoints.save = with_fields(own, {"train.checkpoint_seconds": 0.0}), save  # type: ignore[method-assign]
    try:
        train_trial(the_trial(own))
    except KeyboardInterrupt:
        return
    finally:
        saving.Checkpoints.save = real  # type: ignore[method-assign]
    raise AssertionError("was not stopped")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
