"""The implementations of a training step that `benchmarks.step` times: the same users in the same batches, and the same loss."""

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from benchmarks import lengths
from benchmarks.factorised import FactorisedStep
from benchmarks.plain_jax import PlainJaxStep, plain_parameters
from benchmarks.workload import (
    DROPOUT,
    Sizes,
    config_of,
    pad_batch,
    random_tables,
    sharpened,
    training_of,
)
from grasp_jax.config import Config
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.models.batch import GatheredPlaces, OwnNegatives, Tables

if TYPE_CHECKING:
    from benchmarks.packed_torch import PackedRows

PARITY_LIMIT = {"cpu": 1e-4, "gpu": 1e-3}  # a GPU multiplies float32 in TF32
RIVAL_BATCHES = 4


@dataclasses.dataclass(frozen=True)
class Work:
    """The same users in the same batches for every implementation.

    Attributes:
      config: of ours.
      split, tables: data and frozen knowledge.
      ours: the package's step.
      rivals: the others: first those that pack their rows as ours does, then those that pad them.
      padded_rows: rows of the rivals' batches.
      tokens: real tokens of a step, on average.
    """

    config: Config
    split: Split
    tables: Tables
    ours: FactorisedStep
    rivals: list[Any]
    padded_rows: int
    tokens: float


class KernelStep:
    """The package's step with the kernels of `config.kernels=backbone`; it is timed as a rival of the step by XLA."""

    name = "grasp_jax (kernels=backbone)"

    def __init__(self, config: Config, split: Split, tables: Tables, steps: int) -> None:
        self.config, self.split = config.with_fields({"kernels": "backbone"}), split
        self.step = FactorisedStep(training_of(self.config, split, tables), steps)
        self.memory_bytes, self.compile_seconds = self.step.memory_bytes, self.step.compile_seconds
        self.warm_up = self.run = self.step.run

    def first_loss(self, tables: Tables) -> float:
        """As `FactorisedStep.first_loss`, with given tables."""
        return self.step.first_loss(training_of(self.config, self.split, tables).data)


def prepare(given: argparse.Namespace, torch_step: Any) -> Work:
    """Reads the data, draws the tables, and compiles all steps except that of PyTorch, whose class may be None."""
    data_path = given.data or (
        "" if given.quick or not lengths.PAPER_BEAUTY.exists() else str(lengths.PAPER_BEAUTY)
    )
    sizes = (
        (lengths.QUICK_USERS, lengths.QUICK_ITEMS)
        if given.quick
        else (lengths.BEAUTY_USERS, lengths.BEAUTY_ITEMS)
    )
    log, config = lengths.load_log(data_path, *sizes), _config(given)
    split, tables = leave_one_out(log, given.max_length), random_tables(log, given.width)
    ours = FactorisedStep(training_of(config, split, tables), given.steps)
    batches = [
        pad_batch(log, ours.data, ours.slots[0, step], ours.negatives(step), given.max_length)
        for step in range(min(RIVAL_BATCHES, ours.epoch_steps))
    ]
    params = jax.tree.map(lambda leaf: leaf[0], ours.state.params)
    norm = config.model.row_norm
    plain = plain_parameters(params, given.max_length, norm)
    rivals: list[Any] = []
    if torch_step is not None:
        from benchmarks.packed_torch import packed_steps

        packed = [packed_rows(ours, step) for step in range(len(batches))]
        whole = plain_parameters(params, len(params["backbone"]["positions"]), norm)
        kinds, problem = packed_steps()
        rivals += [kind(config, whole, tables, packed, DROPOUT) for kind in kinds]
        if problem:
            print(f"packed PyTorch compiled is left out: {problem}")
    if given.kernels:
        rivals.append(KernelStep(config, split, tables, given.steps))
    padded = [PlainJaxStep, *([] if torch_step is None else [torch_step])]
    rivals += [kind(config, plain, tables, batches, DROPOUT) for kind in padded]
    tokens = int(ours.data.histories.lengths[ours.data.users].sum()) / ours.epoch_steps
    return Work(config, split, tables, ours, rivals, len(batches[0].users), tokens)


def packed_rows(ours: FactorisedStep, step: int) -> "PackedRows":
    """The batch of step `step` of the epoch, with the negatives that the package's step draws for it."""
    from benchmarks.packed_torch import PackedRows

    batch, targets = ours.drawn(step)
    assert isinstance(targets.negatives, OwnNegatives)
    assert isinstance(targets.places, GatheredPlaces)  # on one device
    parts = batch.queries, batch.items, batch.segments, batch.positions, targets.places.flat
    # PyTorch needs int64 indices.
    users, items, segments, positions, places = (np.asarray(part, np.int64) for part in parts)
    negatives = np.asarray(targets.negatives.items, np.int64)[:, 0]
    return PackedRows(users, items, segments, positions, places, negatives)


def check_parity(work: Work, width: int) -> dict[str, Any]:
    """Losses of the first batch by the functions that will be timed, without dropout; user vectors are scaled so that gates differ.

    Raises:
      UserError: they are not equal.
    """
    sharp = training_of(work.config, work.split, sharpened(work.tables, width)).data
    losses = {work.ours.name: work.ours.first_loss(sharp)} | {
        rival.name: rival.first_loss(sharp.tables) for rival in work.rivals
    }
    difference = max(abs(loss - losses[work.ours.name]) for loss in losses.values())
    limit = PARITY_LIMIT["gpu" if jax.default_backend() == "gpu" else "cpu"]
    agrees = bool(difference <= limit)  # False for NaN
    shown = ", ".join(f"{name} {loss:.6f}" for name, loss in losses.items())
    verdict = "ok" if agrees else "FAILED"
    print(
        f"parity {verdict}: losses {shown}; largest difference {difference:.1e}, limit {limit:.0e}",
        flush=True,
    )
    if not agrees:
        raise UserError(
            "the implementations do not compute the same loss, so their times cannot be compared"
        )
    return {"losses": losses, "largest_difference": difference, "limit": limit, "agrees": agrees}


def torch_step_class() -> tuple[Any, str]:
    """The class of the PyTorch rival and "", or None and the reason why it cannot run."""
    try:
        from benchmarks import plain_torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None, "torch is not installed"
    problem = plain_torch.device_problem()
    return (None, problem) if problem else (plain_torch.PlainTorchStep, "")


def _config(given: argparse.Namespace) -> Config:
    """The package's defaults with the sizes of the flags."""
    try:
        mlp = () if given.mlp == "linear" else tuple(int(size) for size in given.mlp.split(","))
    except ValueError:
        raise UserError(
            f"--mlp={given.mlp}; expected 'linear' or widths such as 256 or 256,128"
        ) from None
    if any(size <= 0 for size in mlp):
        raise UserError(f"--mlp={given.mlp}; expected positive widths")
    sizes = Sizes(given.batch_size, given.width, given.max_length, given.features)
    return config_of(sizes).with_fields({"model.mlp": mlp})
