"""The implementations of a training step that `benchmarks.step` times: the same users in the same batches, and the same loss."""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from benchmarks import lengths
from benchmarks.factorised import FactorisedStep
from benchmarks.plain_jax import PlainJaxStep, plain_parameters
from benchmarks.timing import only_compiles
from benchmarks.workload import (
    DROPOUT,
    QUICK,
    SHAPES,
    Sizes,
    config_of,
    pad_batch,
    random_tables,
    sharpened,
    training_of,
)
from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.batch import GatheredPlaces, SeparateNegatives, Tables

if TYPE_CHECKING:
    from benchmarks.packed_torch import PackedRows

PARITY_LIMIT = {"cpu": 1e-4, "gpu": 1e-3}  # a GPU multiplies float32 in TF32
ROUNDED_LIMIT = 2e-2  # of implementations that round the factors of products to bfloat16
RIVAL_BATCHES = 4
COMPILED_AT_ONCE = 4  # forms of ours


class Form(NamedTuple):
    """Another form of the package's step.

    Attributes:
      fields: of the config.
      options: of XLA's compiler.
    """

    fields: dict[str, Any]
    options: dict[str, Any]

    @property
    def rounds(self) -> bool:
        """Whether factors of products are rounded to bfloat16."""
        return "model.dtype" in self.fields


LAYERS: dict[str, Any] = {"kernels": "backbone"}
ROUNDED: dict[str, Any] = {"model.dtype": "bfloat16"}
# XLA's default is said to run the kernels of a graph one after another even if none waits for another.
CONCURRENT: dict[str, Any] = {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}
MANY = "16 models at once"
FORMS = {
    "kernels=backbone": Form(LAYERS, {}),
    "concurrent graphs": Form({}, CONCURRENT),
    "bfloat16": Form(ROUNDED, {}),
    "kernels=backbone, bfloat16": Form({**LAYERS, **ROUNDED}, {}),
    "kernels=backbone, bfloat16, concurrent graphs": Form({**LAYERS, **ROUNDED}, CONCURRENT),
    MANY: Form({"train.seeds": tuple(range(16))}, {}),
}


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


class FormStep:
    """Another form of the package's step; it is timed as a rival of the default.

    Args:
      title: in `FORMS`.
    """

    def __init__(
        self, title: str, config: Config, split: Split, tables: Tables, steps: int
    ) -> None:
        self.name, form = f"grasp_jax ({title})", FORMS[title]
        self.config, self.split, self.rounds = config.with_fields(form.fields), split, form.rounds
        training = training_of(self.config, split, tables)
        self.step = FactorisedStep(training, steps, form.options or None)
        self.memory_bytes, self.compile_seconds = self.step.memory_bytes, self.step.compile_seconds
        self.warm_up = self.run = self.step.run

    def first_loss(self, tables: Tables) -> float:
        """As `FactorisedStep.first_loss`, with given tables."""
        return self.step.first_loss(training_of(self.config, self.split, tables).data)


def prepare(given: argparse.Namespace, torch_step: Any) -> Work:
    """Reads the data, draws the tables, and compiles all steps except that of PyTorch, whose class may be None."""
    dtype, sizes = SHAPES[given.shape].table_dtype, sizes_of(given)
    if given.data:
        log = lengths.load_log(given.data, lengths.BEAUTY_USERS, lengths.BEAUTY_ITEMS)
    else:
        log = lengths.log_to_time(given.quick, given.shape, sizes.bytes_per_row)
    config, split = _config(given), leave_one_out(log, given.max_length)
    tables = random_tables(log, given.width, dtype)
    ours = FactorisedStep(training_of(config, split, tables), given.steps)
    batches = [
        pad_batch(log, ours.data, ours.slots[0, step], ours.negatives(step), given.max_length)
        for step in range(min(RIVAL_BATCHES, ours.epoch_steps))
    ]
    params = jax.tree.map(lambda leaf: leaf[0], ours.state.params)
    norm = config.model.row_norm
    plain = plain_parameters(params, given.max_length, norm)
    makers: dict[str, Callable[[], Any]] = {}
    if torch_step is not None:
        from benchmarks.packed_torch import packed_steps

        packed = [packed_rows(ours, step) for step in range(len(batches))]
        whole = plain_parameters(params, len(params["backbone"]["positions"]), norm)
        kinds, problem = packed_steps()
        for kind in kinds:
            makers[kind.name] = functools.partial(kind, config, whole, tables, packed, DROPOUT)
        if problem:
            print(f"packed PyTorch compiled is left out: {problem}")
    forms = {
        title: functools.partial(FormStep, title, config, split, tables, given.steps)
        for title in given.forms
    }
    if only_compiles():  # below, and where they are timed, they are then found compiled
        tried_at_once(forms)
    makers |= forms
    if given.padded:
        for kind in [PlainJaxStep, *([] if torch_step is None else [torch_step])]:
            makers[kind.name] = functools.partial(kind, config, plain, tables, batches, DROPOUT)
    rivals = [rival for _, rival in tried(makers.items())]
    tokens = int(ours.data.histories.lengths[ours.data.users].sum()) / ours.epoch_steps
    return Work(config, split, tables, ours, rivals, len(batches[0].users), tokens)


def tried(makers: Iterable[tuple[Any, Callable[[], Any]]]) -> list[tuple[Any, Any]]:
    """Calls one after another; returns each name with its result. One that fails is left out and named: a rival that does not run here, or
    an option that this compiler lacks, must not cost the other figures.
    """
    found = []
    for name, make in makers:
        try:
            found.append((name, make()))
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            title = name if isinstance(name, str) else name.name
            print(f"{title} is left out: {type(error).__name__}: {first}", file=sys.stderr)
    return found


def tried_at_once(makers: Mapping[str, Callable[[], Any]]) -> list[tuple[Any, Any]]:
    """`tried`, several at a time: XLA compiles outside of Python's lock."""
    with ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
        return [
            found for one in pool.map(lambda own: tried([own]), makers.items()) for found in one
        ]


def packed_rows(ours: FactorisedStep, step: int) -> "PackedRows":
    """The batch of step `step` of the epoch, with the negatives that the package's step draws for it."""
    from benchmarks.packed_torch import PackedRows

    batch, targets = ours.drawn(step)
    assert isinstance(targets.negatives, SeparateNegatives)
    assert isinstance(targets.places, GatheredPlaces)  # on one device
    parts = batch.queries, batch.items, batch.segments, batch.positions, targets.places.flat
    # PyTorch needs int64 indices.
    users, items, segments, positions, places = (np.asarray(part, np.int64) for part in parts)
    negatives = np.asarray(targets.negatives.items, np.int64)[:, 0]
    return PackedRows(users, items, segments, positions, places, negatives)


def check_parity(work: Work, width: int) -> tuple[dict[str, Any], list[Any]]:
    """Losses of the first batch by the functions that will be timed, without dropout, and the rivals that have computed one; user vectors
    are scaled so that gates differ.

    Raises:
      UserError: they are not equal.
    """
    sharp = training_of(work.config, work.split, sharpened(work.tables, width)).data
    asked = [(rival, functools.partial(rival.first_loss, sharp.tables)) for rival in work.rivals]
    of_rivals = dict(tried(asked))
    losses = {work.ours.name: work.ours.first_loss(sharp)}
    losses |= {rival.name: loss for rival, loss in of_rivals.items()}
    rounded = {rival.name for rival in of_rivals if rival.rounds}
    limit = PARITY_LIMIT["gpu" if jax.default_backend() == "gpu" else "cpu"]
    differences = {name: abs(loss - losses[work.ours.name]) for name, loss in losses.items()}
    exact, of_rounded = (
        max((own for name, own in differences.items() if (name in rounded) == rounds), default=0.0)
        for rounds in (False, True)
    )
    agrees = bool(exact <= limit and of_rounded <= ROUNDED_LIMIT)  # False for NaN
    shown = ", ".join(f"{name} {loss:.6f}" for name, loss in losses.items())
    verdict = "ok" if agrees else "FAILED"
    print(
        f"parity {verdict}: losses {shown}; largest difference {exact:.1e}, limit {limit:.0e}, "
        f"in bfloat16 {of_rounded:.1e}, limit {ROUNDED_LIMIT:.0e}",
        flush=True,
    )
    if not agrees:
        raise UserError(
            "the implementations do not compute the same loss, so their times cannot be compared"
        )
    record = {
        "losses": losses,
        "largest_difference": exact,
        "limit": limit,
        "largest_difference_of_rounded": of_rounded,
        "limit_of_rounded": ROUNDED_LIMIT,
        "agrees": agrees,
    }
    return record, list(of_rivals)


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


def sizes_of(given: argparse.Namespace) -> Sizes:
    """The sizes of the flags; H is the width of the first layer."""
    hidden = given.mlp.split(",")[0]
    shape = SHAPES[given.shape]
    return shape._replace(
        batch_size=given.batch_size,
        width=given.width,
        max_length=given.max_length,
        features=given.features,
        hidden=int(hidden) if hidden.isdigit() else given.features,
        layers=QUICK.layers if given.quick else shape.layers,
    )


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
    return config_of(sizes_of(given)).with_fields({"model.mlp": mlp})
