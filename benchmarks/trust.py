"""Measures how well learned trust tells wrong texts from right ones: a share of the items gets the texts of other items.

    python -m benchmarks.trust --data=FOLDER [--quick] [--out=JSON]

FOLDER is that of `configs/beauty5.py:minilm`. The area under the ROC curve is the probability that a right text is trusted more than a
wrong one; it is measured by how often items were bought in training. "At most" is the area of a judge that knows more than training does:
the cosine of an item's text and its company, if the texts of all other items are right. No times are measured.
"""

import pathlib
from typing import Any

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from grasp_jax.config import Config
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.split import Split, make_split
from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.models.company import companions, company_without_own
from grasp_jax.models.text_trust import text_trust
from grasp_jax.models.whitening import transformed, whitening_matrix

SHARES = (0.0, 0.25, 0.5, 1.0)  # shares of items with another item's text
BOUGHT = {"1": (1, 1), "3": (3, 3), "5": (5, 5), "5 or more": (5, 1 << 30)}
SEED = 0


def area(trust: np.ndarray, right: np.ndarray) -> float:
    """The area under the ROC curve: ties count half."""
    ordered = np.sort(trust[~right])
    below = np.searchsorted(ordered, trust[right], "left")
    up_to = np.searchsorted(ordered, trust[right], "right")
    return float((below + up_to).mean() / (2 * len(ordered)))


def as_read(vectors: np.ndarray) -> np.ndarray:
    """[V, E] vectors of an encoder as `grasp_plus` reads them: of length 1, centred and partly whitened."""
    config, unit = Config().model.plus, unit_rows(vectors)
    centred = unit_rows(unit - unit.mean(axis=0))
    return transformed(centred, whitening_matrix(centred, config.text_whitening, config.text_norm))


def measure(vectors: np.ndarray, split: Split, share: float) -> dict[str, Any]:
    """Trust in the texts if a `share` of the items has the text of another item.

    Args:
      vectors: [V, E] as an encoder gave them.
      split: with the training histories.
      share: from 0 to 1.
    """
    rng = np.random.default_rng(SEED)
    wrong = rng.random(len(vectors)) < share
    rows, given = np.flatnonzero(wrong), vectors.copy()
    given[rows] = vectors[rng.permutation(rows)]
    text, near = as_read(given), companions(split)
    found, counts = text_trust(text, near), split.item_counts
    best = (unit_rows(text) * company_without_own(unit_rows(as_read(vectors)), near)).sum(axis=1)
    areas, at_most = {}, {}
    for name, (least, most) in BOUGHT.items():
        group = (counts >= least) & (counts <= most)
        if 0 < share < 1:
            areas[name] = area(found.trust[group], ~wrong[group])
            at_most[name] = area(best[group], ~wrong[group])
    return {
        "share_wrong": share,
        "believed_share_wrong": 1.0 - found.share_right,
        "mean_trust_of_right": float(found.trust[~wrong].mean()) if share < 1 else None,
        "mean_trust_of_wrong": float(found.trust[wrong].mean()) if share > 0 else None,
        "area_by_times_bought": areas,
        "area_at_most": at_most,
    }


def main() -> None:
    """Prints the areas and stores them."""
    parser = parser_of("trust", __doc__)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder of configs/beauty5.py:minilm"
    )
    given, contention = parser.parse_args(), Contention()
    dataset = Dataset.read(given.data)
    split = make_split(Config().data, dataset.log)
    vectors = np.load(given.data / "minilm_items.npy").astype(np.float32)
    shares = SHARES[1:2] if given.quick else SHARES
    measured = [measure(vectors, split, share) for share in shares]
    rows = []
    for one in measured:
        trusts = [one["mean_trust_of_right"], one["mean_trust_of_wrong"]]
        numbers = [
            one["believed_share_wrong"],
            *trusts,
            *map(one["area_by_times_bought"].get, BOUGHT),
            *map(one["area_at_most"].get, BOUGHT),
        ]
        rows.append(
            [f"{one['share_wrong']:.0%}", *("-" if x is None else f"{x:.2f}" for x in numbers)]
        )
    header = ["wrong", "believed", "trust, right", "trust, wrong"]
    header += [f"area, bought {name}" for name in BOUGHT]
    print(table([*header, *(f"at most, bought {name}" for name in BOUGHT)], rows))
    areas = [
        one["area_by_times_bought"]["5 or more"] for one in measured if one["area_by_times_bought"]
    ]
    found = f"area of items bought five times or more: {', '.join(f'{x:.3f}' for x in areas)}"
    keep("trust", {"runs": measured}, contention, given, found)


if __name__ == "__main__":
    run(main)
