"""Damages every file of a finished workdir in every way: the program must refuse it in one line that names it, or give the same results.

A case is `SETUP:MODE:WAY:FILE`, such as `file:evaluate:half:knowledge/items.npy`. Parts of a checkpoint have random names; `#2` stands for
the third in its folder by size.
"""

import pathlib
import random
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence

from tests.faults.campaign import Check, Options, run_campaign
from tests.faults.program import Outcome, call, names_file
from tests.faults.workdir import Base, differences, digest, make_base

CHECKED = {
    "all": ("rows", "ranks", "candidates", "epochs", "parameters"),
    "evaluate": ("rows", "ranks", "candidates"),
    "recommend": ("recommendations",),
    "report": ("report",),
    "audit": ("audit",),
    "prepare": ("knowledge",),
}  # mode -> what it answers for
MODES = {
    "file": ("all", "evaluate", "recommend", "report", "prepare"),
    "text": ("all", "evaluate", "recommend", "report", "audit"),
}
PAGES = ("report", "audit")  # written anew by the modes of these names, and read by none


def _flip(content: bytes, at: int) -> bytes:
    return (
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] if content else b"\0"
    )


WAYS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "middle": lambda content, _: _flip(content, len(content) // 2),
    "flip": lambda content, chance: _flip(content, chance.randrange(max(1, len(content)))),
    "half": lambda content, _: content[: len(content) // 2],
    "empty": lambda content, _: b"",
    "gone": lambda content, _: None,
}  # what becomes of a file's content; None: the file is removed
SWAP = "swap"  # with another file of its kind


def make(options: Options) -> tuple[list[str], Check]:
    """Every file of both finished workdirs, in every way, under every mode."""
    base = make_base(options.base, options.quick)
    names, references = [], {}
    for setup, modes in list(MODES.items())[: 1 if options.quick else None]:
        references[setup] = {mode: digest(base.workdir(setup), CHECKED[mode]) for mode in modes}
        for shown, file in _files(base, setup).items():
            ways = [*WAYS, *([SWAP] if _sibling(base, setup, file) else [])]
            names += [f"{setup}:{mode}:{way}:{shown}" for mode in modes for way in ways]
    if options.quick:
        names = _one_of_each(names, options.seed)

    def check(name: str) -> str:
        setup, mode, way, shown = name.split(":")
        workdir = options.folder / f"{zlib.crc32(name.encode()):08x}" / setup  # a report names it
        shutil.copytree(base.workdir(setup), workdir)
        touched = _damage(
            base,
            setup,
            workdir,
            way,
            _files(base, setup)[shown],
            random.Random(f"{options.seed}{name}"),
        )
        for page in PAGES:
            shutil.rmtree(workdir / page, ignore_errors=True)
        outcome = call(base.command(setup, workdir, mode))
        wrong = _judged(workdir, mode, touched, outcome, references[setup][mode])
        if not options.keep:
            shutil.rmtree(workdir.parent, ignore_errors=True)
        return wrong

    return names, check


def _one_of_each(names: Sequence[str], seed: int) -> list[str]:
    """For each way a case of a file that `recommend` reads, which trains nothing, and one of a checkpoint under the mode that does all."""
    chance = random.Random(seed)
    read = [name for name in names if ":recommend:" in name and "/last/" not in name]
    chosen = [chance.choice([name for name in read if f":{way}:" in name]) for way in (*WAYS, SWAP)]
    trained = [name for name in names if ":all:middle:checkpoints/" in name]
    return [*chosen, chance.choice(trained)]


def _files(base: Base, setup: str) -> dict[str, pathlib.PurePath]:
    """Name in a case -> file to damage; of the second setup only those that the first has otherwise."""
    workdir = base.workdir(setup)
    found = [path.relative_to(workdir) for path in sorted(workdir.rglob("*")) if path.is_file()]
    of_others = (
        *PAGES,
        "recommendations.parquet",
        "checkpoints/plain-gru4rec",
    )  # read by nobody; as the other method's
    found = [file for file in found if not str(file).startswith(of_others)]
    if setup != "file":
        found = [
            file
            for file in found
            if str(file).startswith(("knowledge", "config.json", "data.json"))
        ]
    named, random_names = {}, re.compile(r"[0-9a-f]{32}")
    for file in found:
        kin = [
            path for path in (workdir / file).parent.iterdir() if random_names.fullmatch(path.name)
        ]
        kin.sort(key=lambda path: (path.stat().st_size, path.read_bytes()))
        named[
            str(file.with_name(f"#{kin.index(workdir / file)}") if workdir / file in kin else file)
        ] = file
    return named


def _sibling(base: Base, setup: str, file: pathlib.PurePath) -> pathlib.PurePath | None:
    """The next file of the same kind: in its folder with its ending, or of its name under another folder."""
    workdir = base.workdir(setup)
    kin = [*(workdir / file).parent.glob(f"*{file.suffix}"), *workdir.rglob(file.name)]
    others = [
        path.relative_to(workdir)
        for path in sorted(set(kin))
        if path.is_file() and path.relative_to(workdir) != file
    ]
    different = [
        other for other in others if (workdir / other).read_bytes() != (workdir / file).read_bytes()
    ]
    return next((other for other in different if other > file), different[0] if different else None)


def _damage(
    base: Base,
    setup: str,
    workdir: pathlib.Path,
    way: str,
    file: pathlib.PurePath,
    chance: random.Random,
) -> list[pathlib.PurePath]:
    """Damages one file, or swaps two, and returns their names."""
    if way == SWAP:
        other = _sibling(base, setup, file)
        assert other is not None
        first, second = (workdir / file).read_bytes(), (workdir / other).read_bytes()
        (workdir / file).write_bytes(second)
        (workdir / other).write_bytes(first)
        return [file, other]
    content = WAYS[way]((workdir / file).read_bytes(), chance)
    if content is None:
        (workdir / file).unlink()
    else:
        (workdir / file).write_bytes(content)
    return [file]


def _judged(
    workdir: pathlib.Path,
    mode: str,
    touched: list[pathlib.PurePath],
    outcome: Outcome,
    expected: dict[str, str],
) -> str:
    """What is wrong with the outcome of a mode on a damaged workdir; empty if the damage was noticed or did not matter."""
    if wrong := outcome.fault(codes=(2,)):
        return wrong
    if outcome.code:
        named = any(names_file(outcome.errors[0], file) for file in touched)
        return "" if named else f"refused without naming the file: {outcome.errors[0][:200]}"
    if (
        mode == "all" and touched[0].name == "metrics.jsonl"
    ):  # what it said of past epochs is lost, and nothing else
        expected = {name: content for name, content in expected.items() if name != "metrics.jsonl"}
        parts = tuple(part for part in CHECKED[mode] if part != "epochs")
    else:
        parts = CHECKED[mode]
    try:
        differing = differences(expected, digest(workdir, parts))
    except RuntimeError as error:
        return f"exit 0, and what it left is not readable: {error}"
    said = [
        line for line in outcome.err.splitlines() if any(names_file(line, file) for file in touched)
    ]
    if differing and not (
        mode in PAGES and said
    ):  # a page may lack what its run has lost, if it says so
        return f"exit 0, silently different: {differing}" + (
            f" (it said: {said[0][:120]})" if said else ""
        )
    return ""


if __name__ == "__main__":
    sys.exit(run_campaign("damage", make, len(WAYS) + 2))
