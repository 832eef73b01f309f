"""Kills this process at one of its file operations, for tests of what a kill leaves behind."""

import builtins
import io
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

from tests.command_line import run

CALLS = (
    "replace",
    "rename",
    "link",
    "symlink",
    "mkdir",
    "unlink",
    "remove",
    "rmdir",
    "truncate",
    "fsync",
)


class Killer:
    """Counts operations on files under a folder, and ends the process hard at one of them."""

    def __init__(
        self, folder: pathlib.Path, at: str = "", counted: pathlib.Path | None = None
    ) -> None:
        """`at`: the operation's number, or the name of a file within whose first write to die."""
        self.folder, self.at, self.number, self.counted = str(folder), at, 0, counted

    def reached(self, what: str) -> bool:
        """Whether this operation is the one to die at."""
        self.number += 1
        if self.counted is not None:
            with self._open(self.counted, "a") as file:
                file.write(f"{self.number} {what}\n")
        return self.at == str(self.number) or (
            self.at.endswith(".json") and what.startswith("within") and f"/.{self.at}." in what
        )

    def point(self, what: str) -> None:
        """Dies here if this is the operation."""
        if self.reached(what):
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Puts itself between Python and the operating system."""
        self._open, os_open = io.open, os.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not self._within(file) or not set(mode) & set("wax+"):
                return self._open(file, mode, *rest, **options)
            self.point(f"before open {file}")
            handle = self._open(file, mode, *rest, **options)
            self.point(f"after open {file}")
            if self.reached(f"within a write to {file}"):
                self._die_half_way(handle)
            return handle

        def low_opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._within(path):
                self.point(f"before os.open {path}")
            return os_open(path, flags, *rest, **options)

        builtins.open = io.open = opened
        os.open = low_opened
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *rest: Any, **options: Any) -> Any:
            if (
                isinstance(path, int)
                or options.get("dir_fd") is not None
                or self._within(path)
                or (rest and self._within(rest[0]))
            ):
                self.point(f"before {name} {path}")
            return function(path, *rest, **options)

        return called

    def _within(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(
            self.folder
        )

    @staticmethod
    def _die_half_way(handle: Any) -> None:
        write = handle.write

        def half(content: Any) -> None:
            write(content[: len(content) // 2])
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        handle.write = half


def killed_at(number: int, folder: pathlib.Path, action: Callable[[], object]) -> bool:
    """Does something in another process, which is killed at an operation on files of a folder; returns whether there are so many."""
    child = os.fork()
    if not child:
        Killer(folder, at=str(number)).install()
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
    else:
        assert os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def printed_by(program: Callable[[pathlib.Path], None], folder: pathlib.Path) -> dict[str, Any]:
    """The JSON that a function of a test file prints, called with a folder in a process of its own, which may be forked."""
    code = f"import pathlib, {program.__module__} as t; t.{program.__name__}(pathlib.Path({str(folder)!r}))"
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
