"""A snapshot with an index for approximate search, which is used if it finds as much of the exact answers as it must."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.knowledge.neighbours.search_scann import leaves_of
from grasp_jax.serving.http.approximate import Index
from grasp_jax.serving.http.snapshot import Person, Snapshot

BEST = 10  # number of best items for each person in the measurement of recall
PEOPLE = 128  # number of people in this measurement


def with_index(
    snapshot: Snapshot,
    floor: float,
    histories: Sequence[np.ndarray],
    keep_going: Callable[[], bool] = lambda: True,
) -> Snapshot | None:
    """The same model with approximate search. A search reads more and more of the catalogue until the recall is high enough.

    Args:
      snapshot: a model without an index.
      floor: share of the `BEST` best items that must be found, averaged over people.
      histories: item rows of the people whose answers are compared; if empty, synthetic histories are used.
      keep_going: called before each search.

    Returns:
      The model with its index; None if `keep_going` returned False.

    Raises:
      UserError: the model has gates, or no search through the index reaches this recall.
    """
    artifact = snapshot.artifact
    if artifact.gated:
        raise UserError(
            f"--approximate: the scores of {artifact.method} are no inner products, because its gates read the text of a person; leave the "
            "flag out, or serve a model without gates, such as grasp_plus"
        )
    people = [Person(own) for own in histories or synthetic_histories(snapshot)]
    exact = [set(own.items[:BEST].tolist()) for own in snapshot.answer(people)]
    num_items = len(snapshot.catalogue.ids)
    index = Index.over(snapshot.vectors[:num_items], snapshot.programs.shapes.pool)
    most, _ = leaves_of(num_items)
    while keep_going():
        found = dataclasses.replace(snapshot, index=index).answer(people)
        hits = [
            len(right.intersection(own.items[:BEST].tolist()))
            for right, own in zip(exact, found, strict=True)
        ]
        recall = sum(hits) / sum(map(len, exact))
        if recall >= floor:
            return dataclasses.replace(snapshot, index=dataclasses.replace(index, recall=recall))
        if index.leaves >= most:
            raise UserError(
                f"--recall={floor:g}: approximate search finds {recall:.3f} of the {BEST} best items at most; lower --recall, or leave "
                "--approximate out: exact search finds all"
            )
        index = dataclasses.replace(index, leaves=min(2 * index.leaves, most))
    return None


def synthetic_histories(snapshot: Snapshot) -> list[np.ndarray]:
    """Synthetic histories, the same at every start. Items are drawn with the frequency with which they were bought."""
    rng, counts = np.random.default_rng(0), snapshot.catalogue.counts.astype(np.float64)
    share = np.cumsum(counts + 1.0)
    lengths = rng.integers(1, snapshot.programs.shapes.lengths[-1] + 1, PEOPLE)
    return [
        np.searchsorted(share, rng.random(length) * share[-1], side="right").astype(np.int32)
        for length in lengths
    ]
