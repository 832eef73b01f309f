"""The cache of compiled programs, so that only the first of many test sessions compiles them."""

import hashlib
import os
import pathlib
import platform
import shutil

import jaxlib
from jax._src.compilation_cache import decompress_executable

KEPT = pathlib.Path(__file__).parent.parent / ".compiled"
MOST_BYTES = 2 << 30  # programs of code that has changed since are never asked for again
CHECKED = ".checked"  # its time: files written before it are whole


def compiled_folder(kept: pathlib.Path = KEPT, most_bytes: int = MOST_BYTES) -> pathlib.Path:
    """Folder for this processor and this version of XLA; JAX names a program by all else that decides it.

    The first process of a session removes programs that a killed process has half written, for JAX would neither read nor replace them,
    and empties a folder that has grown over `most_bytes`. Workers of pytest-xdist remove nothing: others of them may read it.
    """
    folder = kept / _machine()
    folder.mkdir(parents=True, exist_ok=True)
    if "PYTEST_XDIST_WORKER" in os.environ:
        return folder
    if sum(path.stat().st_size for path in folder.iterdir()) > most_bytes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    checked = folder / CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    checked.touch()
    for path in folder.iterdir():
        if path != checked and path.stat().st_mtime >= since and not _is_whole(path):
            path.unlink(missing_ok=True)
    return folder


def _is_whole(program: pathlib.Path) -> bool:
    try:
        decompress_executable(program.read_bytes())
    except Exception:  # of zstandard or zlib, whichever JAX has found
        return False
    return True


def _machine() -> str:
    """Hash of the processor's name and abilities and of jaxlib's version: machine code of another processor may not run here."""
    about = pathlib.Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))}
    parts = [platform.machine(), platform.processor(), jaxlib.__version__, *sorted(kinds)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
