"""The cache of compiled programs that outlives a process."""

import os

import jax

from grasp_jax.core.log import logger


def in_use() -> bool:
    """Whether the program has named a folder already."""
    return bool(jax.config.values["jax_compilation_cache_dir"])


def keep(folder: str) -> None:
    """Keeps compiled programs in a folder for later processes; without one, or where the program has named another, does nothing.

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
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
