"""The cache of compiled programs that outlives a process."""

import contextlib
import os
import pathlib
import re
import warnings
from typing import Any

import jax

from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line

CHECKED = ".checked"  # its time: programs that were written before it are whole
CHECKING = ".checking"  # becomes `CHECKED` when all programs were read


def in_use() -> bool:
    """Whether the program has named a folder already."""
    return bool(jax.config.values["jax_compilation_cache_dir"])


def keep(folder: str) -> None:
    """Keeps compiled programs in a folder for later processes; without one, or where the program has named another, does nothing.

    Programs that were only partly written are removed first, so that they are compiled again.

    Args:
      folder: `config.compilation_cache`; "~" is the home folder.
    """
    if not folder or in_use():
        return
    folder = os.path.expanduser(folder)
    if folder.startswith("~"):
        logger.warning(
            "compiled programs are not kept, because there is no home folder: config.compilation_cache may name another"
        )
        return
    with contextlib.suppress(OSError):  # a folder that is not there yet, or that is only read
        remove_partly_written(pathlib.Path(folder))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    _say_failures(folder)


def _say_failures(folder: str) -> None:
    """Makes the first warning of JAX about the cache one line of the log, and shows no later one; the run goes on without the cache."""
    show, said = warnings.showwarning, False

    def in_one_line(message: Warning | str, *where: Any, **how: Any) -> None:
        nonlocal said
        failed = re.match(
            r"Error (reading|writing) persistent compilation cache entry for '[^']*': (.*)",
            str(message),
            re.DOTALL,
        )
        if failed is None:
            show(message, *where, **how)
        elif not said:
            said = True
            logger.warning(
                f"the cache of compiled programs in {folder} fails ({one_line(failed[2])}); the run goes on without it"
            )

    warnings.showwarning = in_one_line


def remove_partly_written(folder: pathlib.Path) -> None:
    """Removes compiled programs of which a full disk or a killed process left only a part.

    JAX can neither read nor replace such a file, and would warn of it in every process. Only files that were written since the last call
    are read. A file that another process is just writing may be removed too; that process has its program in memory.

    Raises:
      OSError: the folder does not exist or cannot be written to.
    """
    try:
        from jax._src.compilation_cache import compress_executable, decompress_executable
    except ImportError:  # a later JAX
        return
    checked = folder / CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    begun = folder / CHECKING
    begun.unlink(missing_ok=True)  # of a process that was killed
    begun.touch()
    own_format = compress_executable(b"")[:2]
    for path in folder.glob("*-cache"):
        # another process may remove it at the same time
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < since:
                continue
            content = path.read_bytes()
            if not own_format.startswith(content[:2]):  # an environment with another compressor
                continue
            try:
                decompress_executable(content)
            except Exception:  # of zstandard or zlib, whichever JAX has found
                path.unlink()
    begun.replace(checked)
