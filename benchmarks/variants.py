"""A training step in other ways than the package's own, one change at a time: python -m benchmarks.variants [--quick] [--out=JSON]

Each way is a config field or a setting of JAX's that a user can turn. All are timed in turn, at paper Beauty's sizes, and must give the
loss of the first batch within the rounding of their type. What is faster here at the same loss should be the default.
"""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from benchmarks.arguments import names_of
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from benchmarks.workload import QUICK, SHAPES, Sizes, built, config_of, random_tables, training_data, with_tables
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.kernels import backend
from grasp_jax.models.methods import METHODS
from grasp_jax.training.epochs import TrainingData

MODELS = ("grasp-sasrec", "plain-sasrec", "plain-gru4rec", "plain-bert4rec")
OWN = "as the package does it"
ROUNDS = 7
LOSS_WITHIN = {"float32": 1e-4, "bfloat16": 2e-2}  # of the loss; a GPU multiplies float32 in TF32


@dataclasses.dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
      config: fields and values.
      steps: of a dispatch; 0: as many as all.
      random_bits: JAX's generator.
      projection: "token" or "table"; empty: as the package chooses.
      table_dtype: of the frozen tables, for methods that have some.
      in_one_vector: of `make_train_steps`.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 0
    random_bits: str = "threefry2x32"
    projection: str = ""
    table_dtype: str = "float32"
    in_one_vector: bool | None = None

    @property
    def dtype(self) -> str:
        """The coarsest type in it."""
        return "bfloat16" if "bfloat16" in (self.table_dtype, self.config.get("model.dtype")) else "float32"


VARIANTS = {
    OWN: Variant(),
    "random bits of rbg": Variant(random_bits="rbg"),
    "one step to a dispatch": Variant(steps=1),
    "Adam leaf by leaf": Variant(in_one_vector=False),
    "Adam on one vector": Variant(in_one_vector=True),
    "matrix products in bfloat16": Variant(config={"model.dtype": "bfloat16"}),
    "frozen tables in bfloat16": Variant(table_dtype="bfloat16"),
    "projection of each token": Variant(projection="token"),
    "projection of the whole table": Variant(projection="table"),
    "all kernels": Variant(config={"kernels": "pallas"}),
    "no kernel": Variant(config={"kernels": "xla"}),
}
OF_KERNELS = ("all kernels", "no kernel")
OF_TABLES = ("frozen tables in bfloat16", "projection of each token", "projection of the whole table")


def make_step(variant: Variant, model: str, split: Split, data: TrainingData, sizes: Sizes, steps: int) -> FactorisedStep:
    """The step of METHOD-BACKBONE with one change."""
    method, backbone = model.split("-")
    config = config_of(sizes)
    config.update_from_flattened_dict(variant.config)
    if data.tables and variant.table_dtype != "float32":
        data = with_tables(data, {name: rows.astype(variant.table_dtype) for name, rows in data.tables.items()})
    with jax.default_prng_impl(variant.random_bits):
        return FactorisedStep(
            config, split, data, variant.steps or steps, method, backbone, projection=variant.projection,
            in_one_vector=variant.in_one_vector,
        )  # fmt: skip


def measure(model: str, names: list[str], split: Split, data: TrainingData, sizes: Sizes, steps: int, rounds: int) -> list[dict[str, Any]]:
    """A record for each variant.

    Raises:
      UserError: a variant's loss is another.
    """
    others = built({name: functools.partial(make_step, VARIANTS[name], model, split, data, sizes, steps) for name in names})
    made = {name: others(name) for name in names}
    losses = {name: step.first_loss(step.data) for name, step in made.items()}
    for name, loss in losses.items():
        # Another generator starts from other parameters, and its loss says nothing.
        if VARIANTS[name].random_bits == Variant().random_bits and not abs(loss / losses[OWN] - 1) <= LOSS_WITHIN[VARIANTS[name].dtype]:
            raise UserError(f"{model}, {name}: its loss is {loss:.6f}, as the package does it {losses[OWN]:.6f}; their times mean nothing")

    def dispatches(step: FactorisedStep) -> None:
        for _ in range(max(1, steps // step.steps)):
            step.run()

    times, rows = interleaved({name: functools.partial(dispatches, step) for name, step in made.items()}, rounds), []
    for name, step in made.items():
        counted = step.steps * max(1, steps // step.steps)
        figures = {"loss": losses[name], "projection": step.projection, "memory_bytes": step.memory_bytes}
        rows.append({"model": model, "variant": name, **figures, "compile_seconds": step.compile_seconds, **spread(times[name], counted)})
    for row in rows:
        row["speed_up"] = rows[0]["median_ms"] / row["median_ms"]
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Times each model's variants, prints, and writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="", help=f"comma separated, of {', '.join(MODELS)}; by default all, with --quick the first")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing unless --out is given")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    given = parser.parse_args(arguments)
    models = names_of(parser, "--models", given.models or ",".join(MODELS[:1] if given.quick else MODELS), MODELS)
    sizes = QUICK if given.quick else SHAPES["beauty"]
    steps, rounds = (4, 2) if given.quick else (16 if jax.default_backend() == "cpu" else 512, ROUNDS)
    contention, log, rows = Contention(), log_to_time(given.quick), []
    split = leave_one_out(log, sizes.max_length)
    for model in models:
        has_tables = METHODS[model.split("-")[0]].needs_bank
        names = [name for name in VARIANTS if has_tables or name not in OF_TABLES]
        names.remove("Adam on one vector" if jax.default_backend() == "gpu" else "Adam leaf by leaf")  # the package's way
        if backend.interpret():
            names = [name for name in names if name not in OF_KERNELS]
        data = training_data(split, random_tables(log, sizes.width) if has_tables else {}, sizes.batch_size)
        rows += measure(model, names, split, data, sizes, steps, rounds)
    lines = [
        [f"{row['model']}, {row['variant']}", *(f"{row[key]:.2f}" for key in ("median_ms", "p10_ms", "p90_ms")), f"{row['speed_up']:.2f}x"]
        for row in rows
    ]
    print(table(["a step", "median ms", "p10", "p90", "over the package's way"], lines))
    if backend.interpret():
        print("kernels not timed: they need a GPU")
    facts = {**sizes._asdict(), "data": log.name, "users": log.num_users, "items": log.num_items, "steps": steps}
    keep("variants", {"sizes": facts, "rows": rows}, contention, given.out, given.quick)


if __name__ == "__main__":
    run(main)
