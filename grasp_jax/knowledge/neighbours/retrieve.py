"""Neighbours as the config requires: within a category, with other texts, and with a check of the recall of an index."""

import pathlib
from collections.abc import Callable

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.core.progress import progress_bar
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.knowledge.neighbours import labels_for_search
from grasp_jax.knowledge.neighbours.search import Approximation, recall, top_neighbours

Search = Callable[[np.ndarray, int, np.ndarray, Callable[[int], object], pathlib.Path], np.ndarray]
"""[rows, E] vectors, K, labels as of `search_exact`, progress and a folder for what is to be kept -> [rows, K] exact neighbours of all."""


def find_neighbours(
    config: KnowledgeConfig,
    kind: str,
    unit: np.ndarray,
    groups: np.ndarray | None,
    labels: np.ndarray | None,
    folder: pathlib.Path,
    search: Search | None = None,
) -> np.ndarray:
    """[rows, K] neighbours.

    Args:
      config: the `knowledge` section.
      kind: "items" or "users", for messages.
      unit: [rows, E].
      groups: [rows] whose equals a row's neighbours are, or None.
      labels: [rows] whose equals they are not, or None.
      folder: folder of an unfinished bank, where an index is stored and an interrupted search is resumed.
      search: an exact search in place of this process's own, for rows without groups.

    Raises:
      UserError: an approximate index finds fewer of the true neighbours than `config.min_recall`.
    """
    approximation = Approximation(
        recall_target(config.min_recall), folder / f"{kind}_index", folder / f"{kind}_search"
    )
    with progress_bar(len(unit), f"neighbours of {kind}", "row") as bar:
        if search is not None and groups is None:
            kept = folder / f"{kind}_search"
            known = labels_for_search(unit, labels)
            return search(unit, config.num_neighbours, known, bar.update, kept)
        found = top_neighbours(
            unit, config.num_neighbours, config.retrieval, bar.update, groups, labels, approximation
        )
    if config.retrieval != "exact":
        measured = recall(unit, found, labels, config.recall_sample, groups)
        logger.info(
            f"neighbours of {kind}: {config.retrieval} finds {measured:.3f} of the true ones on a sample of {config.recall_sample:,} rows"
        )
        if measured < config.min_recall:
            raise UserError(
                f"config.knowledge.retrieval: {config.retrieval} finds {measured:.3f} of the true neighbours of {kind}, below "
                f"config.knowledge.min_recall={config.min_recall}; use 'exact', or lower that field"
            )
    return found


def recall_target(floor: float) -> float:
    """What a search aims at on its own sample, so that another sample is not below the floor: half of what it may miss."""
    return 1 - (1 - floor) / 2


def row_groups(table: AttributeTable | None, field: str, column: str) -> np.ndarray | None:
    """[rows] number of each row's value of a column, rows without one being a group of their own; None for no column.

    Args:
      table: of items or of users.
      field: of the config, for messages.
      column: its value, or "".

    Raises:
      UserError: there is no such column.
    """
    if not column:
        return None
    if table is None or column not in table.columns:
        known = (
            "no column, because there is no such table"
            if table is None
            else f"a column of the table: {', '.join(table.columns)}"
        )
        raise UserError(f"config.knowledge.{field}: {column!r}; expected {known}")
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(str(value), len(numbers)) for value in table.columns[column]]
    )


def same_text(hashes: np.ndarray | None, unit: np.ndarray) -> np.ndarray:
    """[rows] int32, the same for rows with one and the same text, or where no text is known, vector."""
    if hashes is not None:
        return np.unique(hashes, axis=0, return_inverse=True)[1].astype(np.int32)
    numbers: dict[int, int] = {}
    return np.array(
        [numbers.setdefault(hash(row.tobytes()), len(numbers)) for row in unit], np.int32
    )
