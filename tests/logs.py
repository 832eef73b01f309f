"""Reads the log of a file without printing the report."""

import pathlib
from typing import Any

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import read_interactions


def read_log(path: pathlib.Path, *arguments: Any, **options: Any) -> InteractionLog:
    """The first part of `read_interactions`."""
    return read_interactions(path, *arguments, **options)[0]
