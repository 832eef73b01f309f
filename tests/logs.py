"""Reads the log of a file without a whole config."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.config.data import REFUSE, ColumnsConfig
from grasp_jax.data import readers
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.read_report import ReadReport


def read_interactions(
    path: pathlib.Path,
    name: str,
    columns: Mapping[str, str],
    min_rating: float = 0.0,
    catalogue: np.ndarray | None = None,
    max_missing: float = 0.0,
    bad_rows: str = REFUSE,
) -> tuple[InteractionLog, ReadReport]:
    """`readers.read_interactions` with these fields of the section."""
    section = DataConfig(
        name=name,
        columns=ColumnsConfig(**columns),
        min_rating=min_rating,
        max_missing_text=max_missing,
        bad_rows=bad_rows,
    )
    return readers.read_interactions(path, section, catalogue)


def read_log(path: pathlib.Path, *arguments: Any, **options: Any) -> InteractionLog:
    """The first part of `read_interactions`."""
    return read_interactions(path, *arguments, **options)[0]
