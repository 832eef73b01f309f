"""An exported model answered by a vector index: faiss's HNSW graph finds the items, and its recall is compared with exact search.

    pip install faiss-cpu
    python docs/examples/serve_with_faiss.py [WORKDIR_OR_MODEL]

Without an argument a small model is trained on a synthetic shop. A method without gates scores by one product of vectors, so any index of
inner products can serve it: faiss, ScaNN, pgvector, Qdrant.
"""

import json
import pathlib
import sys
import tempfile
import time

import faiss
import jax
import numpy as np
from jax import export
from pyarrow import parquet
from safetensors.numpy import load_file

import grasp_jax as gj

K, ASKED, LONGEST = 10, 1000, 20


def main() -> None:
    if len(sys.argv) > 1:
        model = gj.Recommender.load(sys.argv[1])
    else:
        shop = gj.Dataset.synthetic(num_users=1_000, num_items=500)
        model = gj.Recommender(method="plain", loss="ce", max_epochs=5).fit(shop)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model.export(folder)
        sizes = json.loads((folder / "manifest.json").read_text())["sizes"]
        table = parquet.read_table(folder / "items.parquet", columns=["recommended"])
        vectors = load_file(folder / "items.safetensors")["vectors"]
        parameters = load_file(folder / "parameters.safetensors")
        program = export.deserialize(bytearray((folder / "states.stablehlo").read_bytes()))
    states = jax.jit(program.call)
    # an index has only items that may be recommended; histories may have all items
    listed = np.flatnonzero(table["recommended"].to_numpy())

    rng = np.random.default_rng(0)
    histories = rng.integers(0, len(vectors), (ASKED, min(LONGEST, sizes["max_history"]))).astype(
        np.int32
    )
    lengths = rng.integers(1, histories.shape[1] + 1, ASKED).astype(np.int32)
    people = np.asarray(states(parameters, vectors, histories, lengths))

    exact, graph = (
        faiss.IndexFlatIP(vectors.shape[1]),
        faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT),
    )
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 200, 128
    found = {}
    for index in (exact, graph):
        index.add(vectors[listed])
        begin = time.perf_counter()
        positions = index.search(people, K)[1]
        print(
            f"{type(index).__name__}: {ASKED / (time.perf_counter() - begin):,.0f} people a second"
        )
        found[index] = listed[positions]  # rows of items
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found[exact], found[graph], strict=True)]
    print(f"{len(listed):,} items of width {vectors.shape[1]}: recall@{K} {np.mean(hits) / K:.3f}")


if __name__ == "__main__":
    main()
