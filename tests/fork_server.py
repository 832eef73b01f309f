"""Calls of the program, answered by forks of one process that has imported everything: imports take longer than what most tests look at.

    python -m tests.fork_server

Reads lines of JSON: arguments of `grasp_jax.main`, and the environment of the call. Answers each by a line with its exit status and output.
"""

import atexit
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


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

    def call(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs `python -m grasp_jax.main` with these arguments, in this process's environment, to the end.

        Raises:
          RuntimeError: the server has ended; says its exit status.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        wanted = {"arguments": list(arguments), "environment": dict(os.environ)}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"tests.fork_server: exit {self._process.wait()}")
        return subprocess.CompletedProcess(list(arguments), **json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def _serve() -> None:
    from tests.faults.program import call

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)

        def enter(wanted: dict[str, Any] = wanted) -> None:
            os.environ.clear()
            os.environ.update(wanted["environment"])

        outcome = call(wanted["arguments"], before=enter, seconds=600)
        answers.write(
            json.dumps({"returncode": outcome.code, "stdout": outcome.out, "stderr": outcome.err})
            + "\n"
        )
        answers.flush()


if __name__ == "__main__":
    _serve()
