"""Runs programs as forks of one process that has imported everything, because imports take longer than most tests.

    python -m tests.fork_server

It reads lines of JSON with the arguments of `python` and the environment of a call, and answers each with its exit status and output.
"""

import atexit
import functools
import json
import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 600.0  # a program that takes longer is killed, and has failed


class ForkServer:
    """The process that forks, seen from a test."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Starts it in the folder that calls run in."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(
        self, words: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python WORDS` to the end.

        Args:
          words: "-m", a module and its arguments, or "-c", a program and its arguments.
          environment: all variables of the process.

        Raises:
          RuntimeError: the server has ended; says its exit status.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        wanted = {"words": list(words), "environment": dict(environment)}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"tests.fork_server: exit {self._process.wait()}")
        return subprocess.CompletedProcess(list(words), **json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def _serve() -> None:
    from tests.faults.program import call, outcome_of

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)

        def enter(wanted: dict[str, Any] = wanted) -> None:
            os.environ.clear()
            os.environ.update(wanted["environment"])

        kind, named, *arguments = wanted["words"]
        if (kind, named) == ("-m", "grasp_jax.main"):
            outcome = call(arguments, before=enter, seconds=SECONDS)
        else:
            start = functools.partial(_start, kind, named)
            outcome = outcome_of(start, arguments, enter, SECONDS)
        answers.write(
            json.dumps({"returncode": outcome.code, "stdout": outcome.out, "stderr": outcome.err})
            + "\n"
        )
        answers.flush()


def _start(kind: str, named: str) -> None:
    """What `python -m NAMED` or `python -c NAMED` does; programs that JAX compiles are kept, as the command line keeps its own."""
    import jax

    from tests.command_line import CACHE

    if CACHE in os.environ:
        jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if kind == "-m":
        runpy.run_module(named, run_name="__main__", alter_sys=True)
    else:
        exec(compile(named, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _serve()
