"""Every field of the config with odd values: each value is refused in one line or accepted; some accepted values are run.

A case is `FIELD=VALUE`, with the value as on the command line; `run:FIELD=VALUE` also trains and ranks with it.
"""

import pathlib
import random
import shutil
import sys
import zlib
from collections.abc import Sequence

from grasp_jax import config as configuration
from tests.faults.campaign import Check, Options, run_campaign
from tests.faults.program import call, command
from tests.faults.workdir import make_base

ODD = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1",
    "2.5",
    "1e400",
    "99999999999999999999",
    "1_000",
    "0x10",
    "None",
    "True",
    "abc",
    "a,b",
    "()",
    "(1,)",
    "(-1,)",
    "('a',)",
    "[1,[2]]",
    "{'a':1}",
    "../..",
    "é日本",
    "NEWLINE",
    "LONG",
    "/dev/null",
    "__import__('os')",
)
WRITTEN = {"NEWLINE": "a\nb", "LONG": "x" * 5000}  # what these stand for
OF_A_FIELD = 13  # drawn for each
RUN = 60  # of the values that are taken, trained with; the quick form runs fewer
QUICK_RUN, QUICK_PAIRS = 1, 59
NOT_RUN = (
    "data.source=",
    "knowledge.encoder=openai",
    "knowledge.describer=",
    "compilation_cache=",
)  # these read other inputs than this dataset's, or write into the folder in which the tests run
FIELDS = sorted(configuration.FIELDS)


def make(options: Options) -> tuple[list[str], Check]:
    """So many odd values of each field, and a run with some of those that validation takes."""
    chance = random.Random(options.seed)
    base = make_base(options.base, options.quick)
    pairs = [f"{field}={value}" for field in FIELDS for value in chance.sample(ODD, OF_A_FIELD)]

    def command_of(pair: str, workdir: pathlib.Path) -> list[str]:
        field, _, value = pair.partition("=")
        pair = f"{field}={WRITTEN.get(value, value)}"
        return base.command(
            "file",
            workdir,
            "all",
            "--config.model.method=grasp",
            "--config.train.max_epochs=1",
            f"--config.{pair}",
        )

    def taken(pair: str) -> bool:
        return (
            not pair.startswith(NOT_RUN)
            and call(command_of(pair, options.folder / "none"), entry=only_check).code == 0
        )

    wanted, run = QUICK_RUN if options.quick else RUN, []
    for pair in chance.sample(pairs, len(pairs)):
        if len(run) == wanted:
            break
        if taken(pair):
            run.append(f"run:{pair}")

    def check(name: str) -> str:
        pair, runs = name.removeprefix("run:"), name.startswith("run:")
        folder = options.folder / f"{zlib.crc32(name.encode()):08x}"
        outcome = call(command_of(pair, folder), entry=command.main if runs else only_check)
        left = folder.exists() and not runs
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        if wrong := outcome.fault(codes=(2,)):
            return wrong
        if (
            outcome.code
            and not runs
            and pair.split("=")[0].rpartition(".")[2] not in outcome.errors[0]
        ):
            return f"refused without naming the field: {outcome.errors[0][:200]}"
        return "validation alone made the workdir" if left else ""

    return [*run, *(chance.sample(pairs, QUICK_PAIRS) if options.quick else pairs)], check


def only_check(_: Sequence[str]) -> None:
    """In place of the program: flags are parsed, the config is looked at, and nothing is done."""
    command.checked_config()


if __name__ == "__main__":
    sys.exit(run_campaign("config_values", make, QUICK_RUN + QUICK_PAIRS))
