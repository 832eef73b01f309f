"""The common parts of all campaigns: the command line, the distribution of cases to processes, and the count at the end."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

Check = Callable[[str], str]  # a case's name -> what is wrong, empty where nothing is
HANGS = 600.0  # seconds without a word from a case


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line of a campaign says.

    Attributes:
      quick: a seeded sample of the cases, as the tests run it.
      seed: of the sample, and of every random choice within a case.
      base: folder of what all campaigns start from; made where it does not exist.
      folder: of this campaign's cases, which lie in folders of their own.
      keep: leave those folders.
    """

    quick: bool
    seed: int
    base: pathlib.Path
    folder: pathlib.Path
    keep: bool


def run_campaign(
    name: str,
    make: Callable[[Options], tuple[Sequence[str], Check]],
    count: int,
    verdict: str = "noticed",
) -> int:
    """Runs a campaign as its command line asks; returns the exit status.

    Args:
      name: of the module in tests/faults.
      make: options -> names of all cases, and what checks one.
      count: cases of the quick form.
      verdict: what is said of a good case.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.faults.{name}")
    parser.add_argument("--quick", action="store_true", help=f"a seeded sample of {count} cases")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the sample and of every random choice"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CASE",
        help="this case alone; may be given several times",
    )
    parser.add_argument("--cases", type=int, default=0, help="a seeded sample of so many cases")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the cases")
    parser.add_argument(
        "--base",
        type=pathlib.Path,
        help="folder of finished runs to start from, kept for the next campaign",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time")
    given = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))
    options = Options(
        given.quick, given.seed, (given.base or folder / "base").absolute(), folder, given.keep
    )
    try:
        names, check = make(options)
        size = given.cases or (count if given.quick else len(names))
        print(
            f"{name}: {len(names)} cases in all; now {len(given.only) or min(size, len(names))}",
            flush=True,
        )
        chosen = given.only or _sample(names, size, given.seed)
        return _report(name, run_cases(chosen, check, given.jobs), len(chosen), verdict, given)
    finally:
        if given.keep:
            print(f"folders are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _sample(names: Sequence[str], size: int, seed: int) -> list[str]:
    if size >= len(names):
        return list(names)
    chosen = set(random.Random(seed).sample(range(len(names)), size))
    return [name for number, name in enumerate(names) if number in chosen]


def _report(
    name: str,
    verdicts: Iterator[tuple[str, str]],
    total: int,
    verdict: str,
    given: argparse.Namespace,
) -> int:
    started = said = time.monotonic()
    failed = []
    for done, (case, wrong) in enumerate(verdicts, start=1):
        if wrong:
            failed.append((case, wrong))
            print(f"FAILED {case}: {wrong}", flush=True)
        if time.monotonic() - said > 10 or done == total:
            said = time.monotonic()
            print(
                f"{name}: {done} of {total} cases, {len(failed)} failed, {said - started:.0f} s",
                flush=True,
            )
    for case, wrong in sorted(failed):
        quick = " --quick" if given.quick else ""
        print(
            f"  {case}: {wrong}\n    python -m tests.faults.{name}{quick} --seed={given.seed} --only='{case}' --keep"
        )
    print(f"CAMPAIGN: {total - len(failed)} of {total} {verdict}", flush=True)
    return 1 if failed else 0


def run_cases(names: Sequence[str], check: Check, jobs: int) -> Iterator[tuple[str, str]]:
    """Verdicts on cases as they come; a case that ends its process, or hangs, has failed and the others go on."""
    crews = [_Crew(list(names[job::jobs]), check) for job in range(min(jobs, len(names)))]
    while crews:
        ready, _, _ = select.select(crews, [], [], 1.0)
        for crew in crews:
            yield from crew.heard() if crew in ready else crew.overdue()
        crews = [crew for crew in crews if crew.left]


class _Crew:
    """A process that works through cases, and its successor where it ends too soon."""

    def __init__(self, names: list[str], check: Check) -> None:
        self.left, self._check = names, check
        self._start()

    def _start(self) -> None:
        self._reads, writes = os.pipe()
        sys.stdout.flush()
        self._process, self._heard, self._text = os.fork(), time.monotonic(), b""
        if self._process == 0:
            _work(self.left, self._check, writes)
        os.close(writes)

    def fileno(self) -> int:
        return self._reads

    def heard(self) -> Iterator[tuple[str, str]]:
        """Verdicts that have come; at the end of a process, one on the case that ended it."""
        block = os.read(self._reads, 1 << 16)
        self._heard, self._text = time.monotonic(), self._text + block
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            yield self.left.pop(0), json.loads(line)
        if not block:
            _, status = os.waitpid(self._process, 0)
            os.close(self._reads)
            if self.left:
                yield self.left.pop(0), f"its process ended: {os.waitstatus_to_exitcode(status)}"
                if self.left:
                    self._start()

    def overdue(self) -> Iterator[tuple[str, str]]:
        """Ends a process that says nothing; the verdict follows from its end."""
        if time.monotonic() - self._heard > HANGS:
            os.kill(self._process, signal.SIGKILL)
        return iter(())


def _work(names: Sequence[str], check: Check, writes: int) -> None:
    try:
        for name in names:
            try:
                wrong = check(name)
            except Exception:
                wrong = "the campaign itself failed: " + " | ".join(
                    traceback.format_exc().splitlines()[-3:]
                )
            os.write(writes, json.dumps(wrong).encode() + b"\n")
    finally:
        os._exit(0)
