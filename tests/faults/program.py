"""Runs the program many times, as a user would, and imports everything only once.

Everything is imported here once; a run is a fork of this process, which has not used JAX yet and so may be forked.
"""

import dataclasses
import gc
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.command_line import QUICK

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TQDM_DISABLE"] = "1"
os.environ["XLA_FLAGS"] = QUICK

import jax
import orbax.checkpoint as ocp
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import sklearn.decomposition
import sklearn.feature_extraction.text

import grasp_jax.data.tables
import grasp_jax.knowledge.prepare
import grasp_jax.models.methods
import grasp_jax.models.sequence_model
from grasp_jax import main

try:
    from grasp_jax import command
except ImportError:
    command = main  # type: ignore[assignment]  # a version in which one file parses flags and runs

gc.freeze()  # what is imported stays, and no fork copies its pages to look at it

SECONDS = 240  # a run that takes longer hangs
# Bytes of addresses, most of which JAX never touches: more where it has a thread for each of many cores. Without this limit a value gone
# wrong takes the machine along.
MOST_MEMORY = max(24, os.cpu_count() or 1) << 30
DOCUMENTED = (
    2,
    75,
    130,
)  # refused, preempted, Ctrl-C; 70, a fault of ours, is none that a campaign takes
IMPORTED = (ocp, pyarrow, sklearn, grasp_jax)  # what the program imports when it comes to it


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines that begin with `error: `."""
        return [
            line for line in f"{self.out}\n{self.err}".splitlines() if line.startswith("error: ")
        ]

    def fault(self, codes: Sequence[int] = DOCUMENTED) -> str:
        """What is wrong with how it ended; empty where it did its work, or refused it as documented."""
        if "Traceback (most recent call last)" in self.out + self.err:
            lines = [
                line for line in self.err.splitlines() if line.strip()
            ] or self.out.splitlines()
            return f"a traceback (exit {self.code}): {lines[-1][:200]}"
        if self.code == 0:
            return "exit 0 with an error line" if self.errors else ""
        if self.code not in codes:
            return f"exit {self.code}: {(self.errors or self.err.splitlines() or ['nothing said'])[-1][:200]}"
        if self.code == 2 and len(self.errors) != 1:
            return f"exit 2 with {len(self.errors)} error lines: {self.err[-200:]!r}"
        if self.code != 2 and self.errors:
            return f"exit {self.code} with an error line: {self.errors[0][:200]}"
        return ""


def call(
    arguments: Sequence[str],
    entry: Callable[[Sequence[str]], None] = command.main,
    before: Callable[[], Any] = lambda: None,
    seconds: float = SECONDS,
) -> Outcome:
    """Runs the program to its end.

    Args:
      arguments: the command line, without `python -m grasp_jax.main`.
      entry: what is run once flags are parsed.
      before: called in the new process first.
      seconds: after so many the run is killed, and counts as failed.
    """
    return outcome_of(lambda: main.run(entry), arguments, before, seconds)


def outcome_of(
    start: Callable[[], None], arguments: Sequence[str], before: Callable[[], Any], seconds: float
) -> Outcome:
    """The same of another program: `start` runs it, in the new process and with these arguments in `sys.argv`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            _child(start, arguments, before, out.fileno(), err.fileno())
        code = _wait(process, seconds)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode("utf-8", "replace"))
    return Outcome(
        code,
        said[0],
        said[1] + (f"\nkilled after {seconds:.0f} s" if code == -signal.SIGALRM else ""),
    )


class Forked:
    """A call that goes on beside its caller, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: Sequence[str], out: int, err: int) -> None:
        """Starts the program; `out` and `err` are open files."""
        sys.stdout.flush()
        self._code: int | None = None
        self._process = os.fork()
        if self._process == 0:
            _child(lambda: main.run(command.main), arguments, lambda: None, out, err)

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self._process, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit status, once it has ended; -SIGALRM for a run that took too long."""
        if self._code is None:
            self._code = _wait(self._process, seconds)
        return self._code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process, number)


def _child(
    start: Callable[[], None],
    arguments: Sequence[str],
    before: Callable[[], Any],
    out: int,
    err: int,
) -> None:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2)
        )
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["grasp_jax/main.py", *arguments]
        _keep_every_program()
        before()
        start()
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # as Python does
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _keep_every_program() -> None:
    """Keeps programs that compile fast too: there are many, and the next run has the same."""
    update = jax.config.update

    def kept(name: str, value: Any) -> None:
        update(name, 0.0 if name == "jax_persistent_cache_min_compile_time_secs" else value)

    jax.config.update = kept


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, as JSON, called in a process of its own: it may use JAX, and this one stays fit to be forked."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            try:
                answer = {"returned": function(*arguments)}
            except BaseException as error:
                answer = {"raised": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            file.write(json.dumps(answer).encode())
            file.flush()
            os._exit(0)
        code = _wait(process, SECONDS)
        file.seek(0)
        answer = json.loads(file.read() or json.dumps({"raised": f"exit {code}"}))
    if "raised" in answer:
        raise RuntimeError(answer["raised"])
    return answer["returned"]


def _wait(process: int, seconds: float) -> int:
    """The exit status, negative for a signal; -SIGALRM for a run that took too long."""
    until, pause = time.monotonic() + seconds, 0.002
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return -signal.SIGALRM
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)


def names_file(line: str, name: pathlib.PurePath) -> bool:
    """Whether an error names a file, given by its path within the workdir, or a folder that it lies in."""
    return (
        any("/".join(name.parts[:length]) in line for length in range(1, len(name.parts) + 1))
        or name.stem in line
    )
