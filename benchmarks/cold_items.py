"""Measures how models rank items that were not there in training: python -m benchmarks.cold_items

    python -m benchmarks.cold_items --data=FOLDER --workdir=runs/cold
    python -m benchmarks.cold_items --data=FOLDER --workdir=runs/cold-hair --methods=semantic_neighbours,grasp_plus --epochs=2 --quick

FOLDER is that of `configs/beauty5.py`, or of a shop of `benchmarks.departments`. With `--vectors=minilm` items have the vectors of
`minilm_items.npy` there; by default (`lsa`) an encoder is fitted to the texts of the items that were on sale on the first day.
`benchmarks/cold_case.py` describes the test set. A killed run is resumed in the same workdir. The table is stored next to those of other
shops, and `python -m benchmarks.studies` writes it into docs/studies.md.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arguments import names_of, parser_of
from benchmarks.cold_case import (
    AMONG_NEW,
    GROUPS,
    ITEM,
    METRICS,
    Case,
    gains_of,
    make_case,
    measures_of,
    standard_error,
)
from benchmarks.cold_models import in_catalogue, shown, variants, vector_files
from benchmarks.record import Contention, keep, place, run, table
from grasp_jax.api import Recommender
from grasp_jax.config import Config
from grasp_jax.config_file import load_config
from grasp_jax.data.dataset import Dataset
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.new_items import add_items

METHODS = ("popularity", "semantic_neighbours", "sasrec_ce", "grasp", "grasp_plus")
REFERENCE = "grasp_plus"  # differences are from this model
WITH_IDS = ("sasrec_ce", "grasp_plus")
# as configs/sweep.py
GRASP: dict[str, Any] = {"model.dropout": (0.2,), "train.learning_rate": (3e-3,)}


def config_of(method: str, epochs: int, seed: int, vectors: Mapping[str, str]) -> Config:
    """Settings of `configs/beauty5.py:best`, with other data, vectors, epochs and seed.

    Args:
      method, epochs, seed: of the training.
      vectors: fields of `vector_files`; empty: an `lsa` encoder is fitted.
    """
    config = Config.from_dict(load_config("configs/beauty5.py:best").to_dict())
    fields: dict[str, Any] = {"model.method": method, "train.seeds": (seed,)}
    fields |= {"train.max_epochs": epochs, "train.decay_epochs": epochs}
    fields |= {"data.interactions_file": "", "data.items_file": ""}  # the data are given in memory
    fields |= {"knowledge.item_file": "", "knowledge.user_file": "", "knowledge.encoder": "lsa"}
    return config.with_fields(fields | (GRASP if method == "grasp" else {}) | dict(vectors))


class Models(NamedTuple):
    """The models of a case, which are trained when they are first needed.

    Attributes:
      trained: function from a method and "known" or "whole" (`Case`) to the model; a finished training is not repeated.
      vectors: [n, E] of the new items, if no encoder reads texts.
    """

    trained: Callable[[str, str], Artifact]
    vectors: np.ndarray | None


def models_of(given: argparse.Namespace, case: Case) -> Models:
    """The models with the data, vectors, epochs, seed and workdir of the flags."""
    vectors, files, count = None, {}, case.num_new
    if given.vectors == "minilm":
        whole = np.load(given.data / "minilm_items.npy")
        vectors = whole[case.rows[-count:]]
        of_known = vector_files(case.known, whole[case.rows[:-count]], given.workdir / "known")
        of_whole = vector_files(case.whole, whole, given.workdir / "whole")
        files = {"known": of_known, "whole": of_whole}

    def trained(method: str, shop: str) -> Artifact:
        config = config_of(method, given.epochs, given.seed, files.get(shop, {}))
        folder = given.workdir / f"{method}-{shop}"
        return Recommender(config).fit(getattr(case, shop), folder).artifact

    return Models(trained, vectors)


def lines_of(given: argparse.Namespace, case: Case) -> dict[str, Artifact]:
    """Models with the new items, by the name of their row in the table."""
    trained, vectors = models_of(given, case)
    semantic = add_items(trained("semantic_neighbours", "known"), case.new, vectors)
    lines: dict[str, Artifact] = {}
    for method in given.methods:
        model = trained(method, "known")
        lines |= variants(method, model, case, np.asarray(semantic.features), vectors)
    for method in given.in_catalogue:
        lines |= in_catalogue(method, trained(method, "whole"), case)
    return lines


def main() -> None:
    """Trains, measures, prints and stores the results."""
    parser = case_parser("cold_items", __doc__)
    parser.add_argument(
        "--methods", default=",".join(METHODS), help="methods to measure, comma separated"
    )
    parser.add_argument(
        "--in-catalogue",
        default="",
        help="methods to train with the new items in the catalogue too",
    )
    given, contention = parser.parse_args(), Contention()
    given.methods = names_of(parser, "--methods", given.methods, METHODS)
    if given.in_catalogue:
        given.in_catalogue = names_of(parser, "--in-catalogue", given.in_catalogue, WITH_IDS)
    case = make_case(Dataset.read(given.data, interactions_file="inter_time.tsv"))
    measured = measured_of(lines_of(given, case), case)
    columns = [(group, metric) for group in GROUPS for metric in METRICS]
    body = [
        [own["line"], *(f"{100 * own[group][metric]:.2f}" for group, metric in columns)]
        for own in measured
    ]
    print(table(["", *(f"{group} {metric}" for group, metric in columns)], body))
    found = {**facts_of(given, case), "measured": measured}
    given.out = place(given, "study-cold.json")
    best = max(measured, key=lambda own: float(own["new"][METRICS[1]]))
    said = f"{case.num_new} of {len(case.rows):,} items are new; of new items the best {METRICS[1]} has: {best['line']}"
    keep("study-cold", {"runs": beside(given.out, found)}, contention, given, said)


def case_parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that say which shop, which vectors and which training."""
    parser = parser_of(module, about)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the shop")
    parser.add_argument(
        "--workdir", type=pathlib.Path, required=True, help="folder in which the models are stored"
    )
    parser.add_argument(
        "--vectors", choices=("lsa", "minilm"), default="lsa", help="text vectors of the items"
    )
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each training")
    parser.add_argument("--seed", type=int, default=42, help="seed of each training")
    return parser


def facts_of(given: argparse.Namespace, case: Case) -> dict[str, Any]:
    """What a record says of the shop and the training."""
    return {
        "name": f"{given.data.name}-{given.vectors}",
        "epochs": given.epochs,
        "seed": given.seed,
        "valid_after": case.days[0],
        "test_after": case.days[1],
        "items": len(case.rows),
        "new_items": case.num_new,
    }


def measured_of(lines: Mapping[str, Artifact], case: Case) -> list[dict[str, Any]]:
    """Metrics of each model: `measures_of`, with the difference from `REFERENCE` if that is among them, and `among_new`."""
    new = {str(item) for item in case.new[ITEM]}
    told = {name: shown(artifact, case.purchases) for name, artifact in lines.items()}
    return [
        {
            "line": name,
            **measures_of(case.purchases, own, new, told.get(REFERENCE)),
            AMONG_NEW: among_new(lines[name], case),
        }
        for name, own in told.items()
    ]


def among_new(artifact: Artifact, case: Case) -> dict[str, float] | None:
    """Metrics of the purchases of new items where the new items alone are ranked; None for a model that does not know them."""
    new = [str(item) for item in case.new[ITEM]]
    if not set(new) <= set(artifact.catalogue.rows):
        return None
    purchases = case.purchases.of_new_items()
    gains = gains_of(purchases, shown(artifact, purchases, new))
    return {name: float(gain.mean()) for name, gain in gains.items()} | {
        f"{name} error": standard_error(gain, purchases.people) for name, gain in gains.items()
    }


def beside(path: pathlib.Path | None, found: dict[str, Any]) -> list[dict[str, Any]]:
    """This run together with the runs of other names that the file has."""
    kept = json.loads(path.read_text())["runs"] if path is not None and path.exists() else []
    return [*(run for run in kept if run["name"] != found["name"]), found]


if __name__ == "__main__":
    run(main)
