"""Standard output and error that never end a run, also if their reader has ended (`| head -1`) or the terminal knows only ASCII."""

import io
import os
import sys
from typing import Any

NO_READER = (
    141  # exit status where a reader had gone before the end: 128 + SIGPIPE, as shells have it
)


class Outlet(io.FileIO):
    """A descriptor whose reader may end: further output is dropped, and the work continues."""

    reader_gone = False

    def write(self, data: Any) -> int:
        """Bytes taken; all of them once nobody reads."""
        if self.reader_gone:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self.reader_gone = True
            return memoryview(data).nbytes


def open_outlets() -> None:
    """Puts outlets in the place of both streams; characters that they cannot spell are written as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the whole run
            continue
        if not isinstance(stream, io.TextIOWrapper) or _outlet_of(stream):
            continue  # a test's own
        stream.flush()
        raw = Outlet(stream.fileno(), "w", closefd=False)
        binary: Any = (
            raw if stream.write_through else io.BufferedWriter(raw)
        )  # PYTHONUNBUFFERED stays what it means
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
