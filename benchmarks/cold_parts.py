"""Which parts of the score of `grasp_plus` rank new items, and how much weight they need: python -m benchmarks.cold_parts

    python -m benchmarks.cold_parts --data=FOLDER --workdir=runs/cold [--vectors=minilm]

Shops, test set, flags and models are those of `benchmarks.cold_items`; in its workdir nothing is trained again. Each line is the same
`grasp_plus` with some parts of its item vectors set to 0, or with another `model.plus.match_new`. The table is stored next to those of
other shops, and `python -m benchmarks.studies` writes it into docs/studies.md.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.cold_case import METRICS, make_case
from benchmarks.cold_items import REFERENCE, beside, case_parser, facts_of, measured_of, models_of
from benchmarks.cold_study import WEIGHT
from benchmarks.record import Contention, keep, place, run, table
from grasp_jax.config.model import COMPANY_PART, ID_PART, MATCH_PART, TEXT_PART
from grasp_jax.data.dataset import Dataset
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.new_items import add_items, trained_items

FACTORS = (1.25, 1.5, 2.0, 3.0)  # values of `model.plus.match_new`


def columns_of(model: Artifact) -> dict[str, slice]:
    """Columns of the item vectors of a `grasp_plus` with late fusion, by part of the score."""
    plus, width = model.config.model.plus, model.config.model.features
    counts = {
        ID_PART: plus.id_towers,
        TEXT_PART: plus.text_towers,
        COMPANY_PART: plus.company_towers,
    }
    found, begin = {}, 0
    for part, count in counts.items():
        found[part] = slice(begin, begin + count * width)
        begin += count * width
    return {**found, MATCH_PART: slice(begin, None)}


def with_parts(model: Artifact, parts: Sequence[str]) -> Artifact:
    """The model whose score has these parts only."""
    features = np.zeros_like(model.features)
    for part in parts:
        features[:, columns_of(model)[part]] = model.features[:, columns_of(model)[part]]
    return dataclasses.replace(model, features=features)


def with_match(model: Artifact, factor: float) -> Artifact:
    """The model that `add_items` makes with another `model.plus.match_new`; the given one has 1."""
    features = np.array(model.features)
    features[trained_items(model) :, columns_of(model)[MATCH_PART]] *= factor
    return dataclasses.replace(model, features=features)


def lines_of(model: Artifact) -> dict[str, Artifact]:
    """Models by the name of their line, from a `grasp_plus` with new items."""
    parts = list(columns_of(model))
    alone = {f"{part} alone": with_parts(model, [part]) for part in parts if part != ID_PART}
    without = {
        f"without {left_out}": with_parts(model, [part for part in parts if part != left_out])
        for left_out in parts
    }
    weighted = {f"{WEIGHT}{factor:g}": with_match(model, factor) for factor in FACTORS}
    return {REFERENCE: model, **alone, **without, **weighted}


def main() -> None:
    """Trains what is missing, measures, prints and stores the results."""
    parser = case_parser("cold_parts", __doc__)
    given, contention = parser.parse_args(), Contention()
    case = make_case(Dataset.read(given.data, interactions_file="inter_time.tsv"))
    trained, vectors = models_of(given, case)
    models = {
        method: add_items(trained(method, "known"), case.new, vectors)
        for method in ("semantic_neighbours", REFERENCE)
    }
    measured = measured_of(models | lines_of(models[REFERENCE]), case)
    ndcg = METRICS[1]
    body = [
        [own["line"], *(f"{100 * own[group][ndcg]:.2f}" for group in ("new", "known", "all"))]
        for own in measured
    ]
    print(table(["NDCG@10", "new", "known", "all"], body))
    given.out = place(given, "study-cold-parts.json")
    runs = beside(given.out, {**facts_of(given, case), "measured": measured})
    best = max(measured, key=lambda own: float(own["all"][ndcg]))
    said = f"over all purchases the best {ndcg} has: {best['line']}"
    keep("study-cold-parts", {"runs": runs}, contention, given, said)


if __name__ == "__main__":
    run(main)
