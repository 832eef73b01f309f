"""The output of a benchmark: the machine on which it ran, a printed table, and a JSON file."""

import argparse
import json
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.timing import only_compiles
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import write_text
from grasp_jax.core.machine import machine

RESULTS = pathlib.Path(__file__).parent / "results"
NOISE = "--quick: the sizes are so small that every time and ratio here is noise; it shows only that the benchmark runs"


class Contention:
    """How many cores other processes use, from construction on; times on a busy machine cannot be trusted."""

    def __init__(self) -> None:
        self.before = self._read()

    def cores(self) -> float | None:
        """Cores used by others so far, on average; None where /proc/stat does not exist."""
        after = self._read()
        if self.before is None or after is None:
            return None
        return max(0.0, (after[0] - self.before[0]) / max(after[1] - self.before[1], 1e-9))

    @staticmethod
    def _read() -> tuple[float, float] | None:
        """Seconds of all cores spent by processes other than this one and its ended children, and the time."""
        try:
            fields = (
                pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
            )
        except OSError:
            return None
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = (
            int(field) / os.sysconf("SC_CLK_TCK") for field in fields
        )
        own = os.times()
        busy = user + nice + system + interrupts + soft_interrupts + stolen
        return busy - sum(own[:4]), time.perf_counter()


def keep(
    benchmark: str,
    facts: dict[str, Any],
    contention: Contention,
    given: argparse.Namespace,
    found: str,
) -> None:
    """Saves a benchmark's results with the date, the machine and its load, where `place` says.

    Args:
      given: the flags of `arguments.parser_of`.
      found: a sentence with the ratio that the benchmark is for, printed last. Nothing is saved or printed by a process that only compiles.
    """
    if only_compiles():
        return
    path = place(given, f"{benchmark.replace('_', '-')}-{jax.default_backend()}.json")
    if path is not None:
        about = {"benchmark": benchmark, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
        save(path, about | mark(given) | {"cores_used_by_others": contention.cores()} | facts)
        print(f"written to {path}")
    print(f"{NOISE}\n{found} (noise)" if given.quick else found)


def mark(given: argparse.Namespace) -> dict[str, Any]:
    """What a record of --quick has in addition, so that a page made of it says that it is noise."""
    return {"quick": True} if given.quick else {}


def place(given: argparse.Namespace, name: str) -> pathlib.Path | None:
    """Where a benchmark's record goes: --out=FILE; `name` in --out=FOLDER, which exists, or in `RESULTS`.

    The times of a quick run mean nothing, so it goes nowhere unless --out is given: None.
    """
    if given.out is None:
        return None if given.quick else RESULTS / name
    return given.out / name if given.out.is_dir() else given.out


def run(main: Callable[[], None]) -> None:
    """A benchmark's entry point: a `UserError` becomes one line and exit status 2, and SIGTERM ends it as an exception does, because a
    temporary folder would stay otherwise; that of `retrieval` has gigabytes.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def save(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes the record, whole or not at all."""
    write_text(path, json.dumps(record, indent=1) + "\n")


def short_commit(commit: str | None) -> str:
    """A commit with seven digits; what else a record says of it stays, such as "-dirty" for local changes that were not committed."""
    return re.sub(r"\b([0-9a-f]{7})[0-9a-f]{33}", r"\1", commit or "unknown")


def machine_line(record: dict[str, Any]) -> str:
    """The machine, versions and commit of a record in one line."""
    machine, others = record["machine"], record["cores_used_by_others"]
    busy = "unknown" if others is None else f"{others:.1f}"
    return (
        f"Measured on {machine['cores']} cores of {machine['cpu']}, {machine['device']}, jax {machine['versions']['jax']}, "
        f"commit {short_commit(machine['commit'])}; cores used by other programs meanwhile: {busy}"
        + (f"; {record['how']}" if "how" in record else "")
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table, first column to the left, the others to the right."""
    widths = [max(len(line[k]) for line in (header, *rows)) for k in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
