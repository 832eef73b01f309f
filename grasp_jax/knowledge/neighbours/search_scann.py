"""Approximate top-K by ScaNN: partition tree, asymmetric hashing and exact re-ordering; leaves near the square root of the rows."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import sha256
from grasp_jax.core.log import logger
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.neighbours.search_exact import search_exact

QUERY_BLOCK = 1024
SEARCHED_LEAVES = 48  # at least, by default: with fewer, a small catalogue of real texts misses a tenth of the true neighbours
TREE_ROWS = 4096  # below, brute force
TRAINING_ROWS = 250_000  # from which leaves and codes are learnt
SAMPLED_ROWS = 1024  # rows on which the number of leaves to search is tuned
# neighbours requested in addition to K, because of rows with the same label; rows that need more are searched exactly
SPARE = 8
PICKLE = "scann_docids.pkl"  # ScaNN would load this pickle; we never do


def search_scann(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    target: float,
    progress: Callable[[int], object] | None = None,
    index: pathlib.Path | None = None,
) -> np.ndarray:
    """As `search_exact`, approximately; -1 also where too many of a row's nearest have its label.

    Args:
      unit_vectors: [rows, E].
      k: K, below the number of rows.
      labels: [rows] int32.
      target: share of the true neighbours of a sample for which enough leaves of the tree are searched.
      progress: called with the number of rows done since the last call.
      index: folder in which the index stays.
    """
    searcher = build(unit_vectors, k + 1 + SPARE)
    if index is not None:
        save_index(searcher, index)
        searcher = open_index(index)  # the index that later processes will use
    searched = choose_leaves(searcher, unit_vectors, k, labels, target)
    return search_built(searcher, unit_vectors, k, labels, progress, searched)


def choose_leaves(
    searcher: Any, unit_vectors: np.ndarray, k: int, labels: np.ndarray, target: float
) -> int | None:
    """The smallest number of leaves that must be searched for a row; None if there is no tree.

    Args:
      searcher: of `build`, for K + 1 + `SPARE` neighbours of the rows.
      unit_vectors: [rows, E].
      k: K.
      labels: [rows] int32.
      target: share of the true neighbours of a sample that is to be found. Where codes and re-ordering miss more than that even with all
        leaves, as many are searched as a query by default looks into.
    """
    rows = len(unit_vectors)
    if rows < TREE_ROWS:
        return None
    rng = np.random.default_rng(1)  # other rows than those on which the result is measured
    sample = np.sort(rng.choice(rows, min(SAMPLED_ROWS, rows), replace=False))
    true = search_exact(unit_vectors, k, labels, rows=sample)
    vectors = unit_vectors[sample].astype(np.float32)
    num_true = max((true != NONE).sum(), 1)

    def reached(leaves: int) -> bool:
        ids, distances = searcher.search_batched_parallel(vectors, leaves_to_search=leaves)
        found = drop_same(ids.astype(np.int64), distances, labels, labels[sample], k)
        hits = (true[:, :, None] == found[:, None, :]).any(axis=2) & (true != NONE)
        return bool(hits.sum() >= target * num_true)

    leaves, usual = leaves_of(rows)
    too_few, enough = 0, 1
    while not reached(enough):
        if enough == leaves:
            return usual
        too_few, enough = enough, min(2 * enough, leaves)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if reached(middle) else (middle, enough)
    logger.info(f"neighbours: {enough:,} of {leaves:,} leaves are searched for each row")
    return enough


def search_built(
    searcher: Any,
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object] | None = None,
    searched: int | None = None,
) -> np.ndarray:
    """`search_scann` with the searcher that `build` has made for K + 1 + `SPARE` neighbours, and so many leaves, by default the usual."""
    rows = len(unit_vectors)
    found = np.empty((rows, k), np.int32)
    for start in range(0, rows, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, rows)
        ids, distances = searcher.search_batched_parallel(
            unit_vectors[start:stop].astype(np.float32), leaves_to_search=searched
        )
        found[start:stop] = drop_same(
            ids.astype(np.int64), distances, labels, labels[start:stop], k
        )
        if progress:
            progress(stop - start)
    return found


def build(unit_vectors: np.ndarray, num_neighbours: int) -> Any:
    """A searcher over the rows."""
    rows = len(unit_vectors)
    leaves, searched = leaves_of(rows)
    vectors = np.asarray(unit_vectors, np.float32)
    builder = import_scann().scann_ops_pybind.builder(
        vectors, min(num_neighbours, rows), "dot_product"
    )
    if rows < TREE_ROWS:
        return builder.score_brute_force().build()
    builder = builder.tree(
        num_leaves=leaves,
        num_leaves_to_search=searched,
        training_sample_size=min(rows, TRAINING_ROWS),
    )
    return (
        builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(20 * num_neighbours)
        .build()
    )


def leaves_of(rows: int) -> tuple[int, int]:
    """Leaves of a tree over so many rows, and how many of them a query looks into by default."""
    leaves = max(1, int(np.sqrt(rows)))
    return leaves, min(leaves, max(leaves // 8, SEARCHED_LEAVES))


def save_index(searcher: Any, folder: pathlib.Path) -> None:
    """Writes an index with paths relative to its folder, which can be moved, and the checksums of its files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    searcher.serialize(str(folder), relative_path=True)
    (folder / PICKLE).unlink(missing_ok=True)
    (folder / "SHA256SUMS").write_text(
        "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())),
        encoding="utf-8",
    )


def open_index(folder: pathlib.Path) -> Any:
    """The searcher that a bank was made with, for vectors that are not in it: `search_batched([n, E] float32)` -> ids, cosines.

    Raises:
      UserError: there is no index, or it has changed since it was written.
    """
    library = import_scann()
    with contextlib.suppress(OSError, ValueError):
        written = [
            line.split("  ")
            for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        ]
        if not (folder / PICKLE).exists() and all(
            sha256(folder / name) == checksum for checksum, name in written
        ):
            return library.scann_ops_pybind.load_searcher(str(folder), assets_backcompat_shim=False)
    raise UserError(
        f"{folder}: the index is missing or damaged; prepare the bank again with config.knowledge.retrieval='scann'"
    )


def drop_same(
    ids: np.ndarray, distances: np.ndarray, labels: np.ndarray, own: np.ndarray, k: int
) -> np.ndarray:
    """Leaves the first K of [n, m] ids with another label than the row's own, -1 where there are fewer; ScaNN pads with distance NaN.

    Rows with the label `NONE` are left out, and have none.
    """
    unusable = ~np.isfinite(distances)
    of_ids = labels[np.where(unusable, 0, ids)]
    unusable |= (of_ids == own[:, None]) | (of_ids == NONE) | (own == NONE)[:, None]
    order = np.argsort(unusable, axis=1, kind="stable")[:, :k]
    found = np.where(
        np.take_along_axis(unusable, order, axis=1), -1, np.take_along_axis(ids, order, axis=1)
    )
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)


def import_scann() -> Any:
    """The package.

    Raises:
      UserError: it is not installed.
    """
    try:
        import scann
    except ImportError as error:
        raise UserError(
            "config.knowledge.retrieval: 'scann' needs the package scann (Linux x86 only); use 'exact'"
        ) from error
    return scann
