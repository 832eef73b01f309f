"""Validation and test sets of a trial: who is evaluated, and the negatives that each target is ranked among."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.evaluation.evaluation_set import EvaluationSet, evaluation_set
from grasp_jax.evaluation.stored import LOW_RATED, StoredNegatives
from grasp_jax.models.build import build_backbone
from grasp_jax.models.methods import METHODS
from grasp_jax.parallel.processes import main_process_first
from grasp_jax.trials.placed_tables import frozen_tables
from grasp_jax.trials.run import Prepared, Run

SUBSET = 0xF011  # purpose of the random stream that draws some of the evaluated users


def mask_at(config: Config, method: str, backbone: str) -> str:
    """Where the backbone of a method has a mask at each history."""
    return build_backbone(config.for_method(method).model, method, backbone).mask_at


def evaluation_of(
    prepared: Prepared,
    name: str,
    method: str,
    backbone: str,
    users: int = 0,
    ranked: bool = True,
) -> EvaluationSet:
    """Validation ("valid") or test set of a trial.

    Args:
      prepared: the run.
      name: "valid" or "test".
      method, backbone: of the trial.
      users: number of users, sampled once, the same for every method; 0: all.
      ranked: whether targets will be ranked among the negatives, or only among the whole catalogue.

    Raises:
      UserError: the split has no such part; or the negatives are `ranked`, and an earlier version drew them otherwise.
    """
    run = prepared.run
    histories = {"valid": run.split.valid, "test": run.split.test}[name]
    if not len(histories.evaluated):
        raise UserError(
            f"config.data.split: {run.config.data.split!r} has no {name} part, so nothing can be measured; evaluate a run with "
            "another split"
        )
    everyone, positions = histories.evaluated, None
    if 0 < users < len(everyone):
        rng = np.random.default_rng([run.config.eval.seed, SUBSET])
        positions = np.sort(rng.choice(len(everyone), users, replace=False))
        target = np.full_like(histories.target, -1)
        target[everyone[positions]] = histories.target[everyone[positions]]
        histories = dataclasses.replace(histories, target=target)
    negatives = _negatives(run, name, everyone, positions, ranked)
    gated = METHODS[method].gated(run.config.for_method(method).model)
    return evaluation_set(
        histories,
        negatives,
        frozen_tables(prepared, method) if gated else {},
        run.config.eval.user_block,
        mask_at(run.config, method, backbone),
        run.queries(method, histories.end),
        prepared.mesh,
    )


def check_negatives(run: Run) -> None:
    """Checks, before anything is trained, that results of the test may be ranked among the negatives that the workdir stores for it.

    Raises:
      UserError: an earlier version drew items that users had rated low.
    """
    evaluated = run.split.test.evaluated
    if len(evaluated):
        _store(run, "test", {"users": len(evaluated)}).check()


def _store(run: Run, file: str, described: Mapping[str, int]) -> StoredNegatives:
    """The file of negatives of this name, with what they are drawn from: `described`, seed and number."""
    part, low_rated = run.config.eval, run.split.log.low_rated
    config: dict[str, int | str] = {
        "seed": part.seed,
        "num_negatives": part.num_negatives,
        **described,
    }
    if low_rated is not None and len(low_rated):  # else the draw is that of earlier versions
        config[LOW_RATED] = "excluded"
    made_from = {"data": run.fingerprint, "config": config}
    return StoredNegatives(run.workdir / "candidates" / f"{file}.npy", made_from)


def _negatives(
    run: Run,
    name: str,
    everyone: np.ndarray,
    positions: np.ndarray | None = None,
    ranked: bool = True,
) -> np.ndarray:
    """[n, C] stored evaluation negatives, items that a user neither had nor rated low; drawn once per (dataset, eval seed) and stored in
    the workdir.

    Args:
      name: "valid" or "test".
      everyone: rows of all users who can be evaluated.
      positions: places in `everyone` of the users who are evaluated; None: all. Their negatives are those of a draw for all users, in a
        file of their own, unless there is a file for all users (which has 4 GB for 10 million users).
      ranked: as of `evaluation_of`.
    """
    part, users = run.config.eval, {"users": len(everyone)}
    with main_process_first(f"negatives {name}"):
        store, drawn_for = _store(run, name, users), None
        if positions is not None and not (store.path.exists() or store.description.exists()):
            drawn_for = positions
            store = _store(run, f"{name}-{len(positions)}", {**users, "asked": len(positions)})
        negatives = store.read(ranked)
        if negatives is None:
            log, seed = run.split.log, 2 * part.seed + {"valid": 0, "test": 1}[name]
            index = exclusion_index(log, log.offsets[:-1], log.offsets[1:], low_rated=True)
            negatives = draw_candidates(index, everyone, part.num_negatives, seed, drawn_for)
            store.write(negatives)
        return negatives if positions is None or drawn_for is not None else negatives[positions]
