"""Starts a service in a separate process, waits until it is ready, and measures its memory while it runs."""

import contextlib
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from grasp_jax.core.errors import UserError

STARTS = 900  # seconds within which a service must be ready, also on a busy machine
EACH = 1.0  # seconds between two measurements of the memory


@contextlib.contextmanager
def served(command: Sequence[str], port: int, log: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Runs a service while the context is open; yields its process id, start-up seconds and memory.

    Raises:
      UserError: it ended, or was not ready in time.
    """
    began = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - began > STARTS:
                said = " ".join(log.read_text(errors="replace").split())[-400:]
                raise UserError(
                    f"{' '.join(command)}: not ready; expected /ready to answer 200; it said {said!r}"
                )
            time.sleep(0.2)
        found: dict[str, Any] = {
            "ready_seconds": time.perf_counter() - began,
            "pid": process.pid,
        }
        found["resident_bytes_at_start"] = _bytes_of(process.pid, "VmRSS")
        yield found
        found["peak_bytes"] = _bytes_of(process.pid, "VmHWM")
        found["alive_at_the_end"] = float(process.poll() is None)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _bytes_of(pid: int, what: str) -> float:
    """A size of a process by its name in /proc: "VmRSS" (now) or "VmHWM" (peak); NaN if /proc does not report it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(what):
                return 1024.0 * int(line.split()[1])
    return float("nan")


def free_port() -> int:
    """A port on which no program listens."""
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        port: int = any_free.getsockname()[1]
        return port


class Memory:
    """Measures the resident size of a process again and again while the context is open.

    Attributes:
      seconds, sizes: times of the measurements, and bytes.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seconds: list[float] = []
        self.sizes: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        began = time.perf_counter()
        while not self._ended.wait(EACH):
            self.seconds.append(time.perf_counter() - began)
            self.sizes.append(_bytes_of(self.pid, "VmRSS"))

    def summary(self) -> dict[str, float | None]:
        """Bytes at the begin and at the end, medians of the first and the last tenth, and the slope over the second half per minute."""
        if len(self.sizes) < 4:
            return {"begin_bytes": None, "end_bytes": None, "bytes_per_minute": None}
        tenth, half = max(1, len(self.sizes) // 10), len(self.sizes) // 2
        slope = np.polyfit(self.seconds[half:], self.sizes[half:], 1)[0]
        return {
            "begin_bytes": float(np.median(self.sizes[:tenth])),
            "end_bytes": float(np.median(self.sizes[-tenth:])),
            "bytes_per_minute": 60.0 * float(slope),
        }
