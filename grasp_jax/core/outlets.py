"""Standard output and error that never end a run, even if their reader has exited (`| head -1`) or the terminal is ASCII only."""

import io
import os
import sys
from typing import Any

NO_READER = 141  # exit status if the reader exited before the end: 128 + SIGPIPE, as in shells


class Outlet(io.FileIO):
    """A file descriptor whose reader may exit: further output is dropped, and the work continues."""

    reader_gone = False

    def write(self, data: Any) -> int:
        """The number of bytes written; all of them once there is no reader."""
        if self.reader_gone:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self.reader_gone = True
            return memoryview(data).nbytes


def open_outlets() -> None:
    """Replaces both streams by outlets; characters that they cannot encode are written as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the whole run
            continue
        if not isinstance(stream, io.TextIOWrapper) or _outlet_of(stream):
            continue  # a test's own
        stream.flush()
        raw = Outlet(stream.fileno(), "w", closefd=False)
        # PYTHONUNBUFFERED keeps its meaning
        binary: Any = raw if stream.write_through else io.BufferedWriter(raw)
        lines = stream.line_buffering or name == "stderr"
        outlet = io.TextIOWrapper(
            binary,
            stream.encoding,
            "backslashreplace",
            line_buffering=lines,
            write_through=stream.write_through,
        )
        setattr(sys, name, outlet)


def reader_gone() -> bool:
    """Whether the standard output lost its reader."""
    outlet = _outlet_of(sys.stdout)
    return outlet is not None and outlet.reader_gone


def _outlet_of(stream: Any) -> Outlet | None:
    binary = getattr(stream, "buffer", None)
    return next(
        (part for part in (binary, getattr(binary, "raw", None)) if isinstance(part, Outlet)), None
    )
