"""Workdirs of versions that wrote no checksums: they are read, and a printed line says that they cannot be verified."""

import functools
import pathlib

from grasp_jax.config import CONFIG_FILE
from grasp_jax.core.files import is_sealed
from grasp_jax.core.log import logger


def wrote_no_checksums(workdir: pathlib.Path) -> bool:
    """Whether such a version made a workdir: its config has no checksum, which every later version writes first.

    Raises:
      UserError: the config is damaged.
    """
    path = workdir / CONFIG_FILE
    return path.is_file() and not is_sealed(path, "use another --workdir or restore the file")


@functools.cache
def say_unverified(path: pathlib.Path) -> None:
    """Logs, once in a process, that a file or folder is used without verification."""
    logger.warning(
        f"{path}: an earlier version wrote this without checksums, so it is used and cannot be verified; train again in another --workdir "
        "to have it verified"
    )
