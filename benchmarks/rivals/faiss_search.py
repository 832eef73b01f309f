"""faiss on the vectors of `benchmarks.retrieval`: .rivals/faiss/bin/python -m benchmarks.rivals.faiss_search {flat,ivf} FOLDER

A module called faiss would hide the library. FOLDER holds items.npy; the neighbours go to FOLDER/found.npy, the figures to stdout as one
line of JSON.
"""

import argparse
import json
import pathlib
import time

import faiss
import numpy as np

from benchmarks.peak_memory import peak_bytes
from benchmarks.queries import sample_rows


def build(kind: str, vectors: np.ndarray, leaves: int, searched: int) -> faiss.Index:
    """An inner-product index over [rows, E] float32: exact, or with `leaves` inverted lists; a query reads `searched` of them."""
    if kind == "flat":
        index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(vectors.shape[1]),
            vectors.shape[1],
            leaves,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.train(vectors)
        index.nprobe = searched
    index.add(vectors)
    return index


def search(index: faiss.Index, vectors: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """[queries, K] neighbours of `rows` [queries] without the row itself; -1 if the index finds fewer."""
    _, ids = index.search(vectors if len(rows) == len(vectors) else vectors[rows], k + 1)
    own = ids == rows[:, None]
    own[~own.any(axis=1), -1] = (
        True  # the row is not among those found (or only copies of it are): the last one is dropped
    )
    return ids[~own].reshape(-1, k)


def main() -> None:
    """Builds, searches, saves and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=("flat", "ivf"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--neighbours", type=int, required=True)
    parser.add_argument(
        "--queries", type=int, required=True, help="rows to search for, drawn at random"
    )
    parser.add_argument("--leaves", type=int, required=True)
    parser.add_argument("--searched", type=int, required=True)
    given = parser.parse_args()
    vectors, at_start = np.load(given.folder / "items.npy", mmap_mode="r"), peak_bytes()
    started = time.perf_counter()
    index = build(given.kind, vectors, given.leaves, given.searched)
    built = time.perf_counter()
    found = search(index, vectors, sample_rows(len(vectors), given.queries), given.neighbours)
    searched = time.perf_counter()
    np.save(given.folder / "found.npy", found.astype(np.int32))
    figures = {
        "build_seconds": built - started,
        "search_seconds": searched - built,
        "start_bytes": at_start,
        "peak_bytes": peak_bytes(),
        "version": faiss.__version__,
        "threads": faiss.omp_get_max_threads(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
