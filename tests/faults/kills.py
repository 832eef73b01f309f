"""Kills a run at every file operation: the same command must then end with the same results, without leftover files.

A run can be killed at each Python call that opens a file under the workdir for writing, or renames, makes or removes one: before the call
and, for an opened file, also just after it, when the file is empty, and in the middle of its first write. (Orbax writes the arrays of
checkpoints in C++, between the operations that are seen here.)

A case is `SCENE-NUMBER`, such as `file-all-17`. `file-all-17-60-3` is killed at the 17th operation; the second run is killed at its 60th
operation, and the third run at its third. `data.json` in place of a number is the first write to that file. The quick form has one case
of these, because the last run takes most of the time.
"""

import pathlib
import random
import shutil
import signal
import sys
from typing import Any

from tests.faults.campaign import Check, Options, run_campaign
from tests.faults.killer import Killer
from tests.faults.program import call
from tests.faults.workdir import Base, differences, digest, listing, make_base

SCENES = {
    "file-all": ("file", "all", ("rows", "ranks", "candidates", "epochs", "parameters"), ()),
    "file-recommend": ("file", "recommend", ("recommendations",), ("recommendations.parquet",)),
    "file-evaluate": ("file", "evaluate", ("rows", "ranks"), ("results.json", "trials", "ranks")),
    "text-prepare": ("text", "prepare", ("knowledge",), ()),
}  # setup, mode, what must come out the same, and what is removed from a finished workdir before; nothing: it starts with none
QUICK = "file-all"  # scene of the quick form's case, and where it is killed:
MOMENTS = (
    (1, 140),
    "data.json",
    (20, 110),
)  # in the bank, within a write that must be whole or nothing, around a checkpoint
OF_OTHER_MODES = (
    "report/",
    "recommendations.",
)  # what a finished workdir has more than a run of QUICK leaves


def make(options: Options) -> tuple[list[str], Check]:
    """Every operation of every scene, counted in a run that nobody kills; the quick form compares with the run that all start from."""
    base = make_base(options.base, options.quick)
    if options.quick:
        names, references = _quick(base, options.seed)
    else:
        names, references = _whole(base, options.folder)

    def check(name: str) -> str:
        scene, numbers = next(
            (scene, name.removeprefix(f"{scene}-").split("-"))
            for scene in SCENES
            if name.startswith(f"{scene}-")
        )
        setup, mode, parts, _ = SCENES[scene]
        workdir = _fresh(base, scene, options.folder / name / setup)
        command, operations = base.command(setup, workdir, mode), options.folder / f"{name}.killed"
        wrong, kills = "", 0
        for number in numbers:
            killer = Killer(workdir, at=number, counted=operations)
            killed = call(command, before=killer.install)
            if killed.code not in (0, -signal.SIGKILL):
                wrong = wrong or f"the killed run itself: {killed.fault() or killed.errors}"
            kills += killed.code == -signal.SIGKILL
        if kills < min(2, len(numbers)) and options.quick:
            wrong = wrong or f"killed {kills} of {len(numbers)} times: a run has fewer operations"
        again = call(command)
        wrong = wrong or again.fault() or (f"the next run: {again.errors[0]}" if again.code else "")
        wrong = wrong or _compared(workdir, parts, *references[scene])
        if not options.keep:
            shutil.rmtree(workdir.parent, ignore_errors=True)
        return wrong and f"{wrong} (killed {_last_of(operations, options.folder)})"

    return names, check


def _whole(base: Base, folder: pathlib.Path) -> tuple[list[str], dict[str, Any]]:
    names, references = [], {}
    for scene, (setup, mode, parts, _) in SCENES.items():
        workdir, counted = _fresh(base, scene, folder / scene), folder / f"{scene}.operations"
        killer = Killer(workdir, counted=counted)
        outcome = call(base.command(setup, workdir, mode), before=killer.install)
        if outcome.code:
            sys.exit(f"{scene}: exit {outcome.code}: {outcome.err}")
        operations = counted.read_text().splitlines()
        print(f"{scene}: {len(operations)} operations", flush=True)
        references[scene] = (digest(workdir, parts), listing(workdir))
        names += [f"{scene}-{number}" for number in range(1, len(operations) + 1)]
    return names, references


def _quick(base: Base, seed: int) -> tuple[list[str], dict[str, Any]]:
    setup, _, parts, _ = SCENES[QUICK]
    finished, chance = base.workdir(setup), random.Random(seed)
    numbers = [at if isinstance(at, str) else str(chance.randrange(*at)) for at in MOMENTS]
    files = {name for name in listing(finished) if not name.startswith(OF_OTHER_MODES)}
    return [f"{QUICK}-{'-'.join(numbers)}"], {QUICK: (digest(finished, parts), files)}


def _fresh(base: Base, scene: str, workdir: pathlib.Path) -> pathlib.Path:
    """Where a scene begins."""
    setup, _, _, removed = SCENES[scene]
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.parent.mkdir(parents=True, exist_ok=True)
    if removed:
        shutil.copytree(base.workdir(setup), workdir)
    for name in removed:
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return workdir


def _compared(
    workdir: pathlib.Path, parts: tuple[str, ...], expected: dict[str, str], files: set[str]
) -> str:
    """What a run that went on has otherwise than one that nobody killed."""
    try:
        differing = differences(expected, digest(workdir, parts))
    except RuntimeError as error:
        return f"what it left is not readable: {error}"
    found = listing(workdir)
    if differing:
        return f"differs: {differing}"
    if found - files:
        return f"left behind: {', '.join(sorted(found - files)[:4])}"
    return f"lost: {', '.join(sorted(files - found)[:4])}" if files - found else ""


def _last_of(operations: pathlib.Path, folder: pathlib.Path) -> str:
    """The operation that a run was last killed at."""
    last = operations.read_text().splitlines()[-1]
    return last.split(" ", 1)[1].replace(str(folder), "")


if __name__ == "__main__":
    sys.exit(run_campaign("kills", make, 1, "survived"))
