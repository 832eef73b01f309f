"""Adds an index for approximate search to a snapshot, with a measured recall that is as high as required."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.neighbours.search_scann import leaves_of
from grasp_jax.serving.http.approximate import Index
from grasp_jax.serving.http.snapshot import Person, ServingSnapshot

BEST = 10  # number of best items for each person in the measurement of recall
PEOPLE = 128  # number of people in this measurement


def with_index(
    snapshot: ServingSnapshot,
    min_recall: float,
    histories: Sequence[np.ndarray],
    keep_going: Callable[[], bool] = lambda: True,
) -> ServingSnapshot | None:
    """The same model with approximate search. A search reads more and more of the catalogue until the recall is high enough.

    Args:
      snapshot: a model without an index.
      min_recall: share of the `BEST` best items that must be found, averaged over people.
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
    people = [Person(history) for history in histories or synthetic_histories(snapshot)]
    exact = [set(answer.items[:BEST].tolist()) for answer in snapshot.answer(people)]
    num_items = len(snapshot.catalogue.ids)
    index = Index.over(snapshot.vectors[:num_items], snapshot.programs.shapes.pool)
    num_leaves, _ = leaves_of(num_items)
    while keep_going():
        answers = dataclasses.replace(snapshot, index=index).answer(people)
        hits = [
            len(expected.intersection(answer.items[:BEST].tolist()))
            for expected, answer in zip(exact, answers, strict=True)
        ]
        recall = sum(hits) / sum(map(len, exact))
        if recall >= min_recall:
            return dataclasses.replace(snapshot, index=dataclasses.replace(index, recall=recall))
        if index.leaves >= num_leaves:
            raise UserError(
                f"--recall={min_recall:g}: approximate search finds {recall:.3f} of the {BEST} best items at most; lower --recall, or "
                "leave --approximate out: exact search finds all"
            )
        index = dataclasses.replace(index, leaves=min(2 * index.leaves, num_leaves))
    return None


def synthetic_histories(snapshot: ServingSnapshot) -> list[np.ndarray]:
    """Synthetic histories, the same at every start. Items are drawn with the frequency with which they were bought."""
    rng, counts = np.random.default_rng(0), snapshot.catalogue.counts.astype(np.float64)
    cumulative = np.cumsum(counts + 1.0)
    lengths = rng.integers(1, snapshot.programs.shapes.lengths[-1] + 1, PEOPLE)
    return [
        np.searchsorted(cumulative, rng.random(length) * cumulative[-1], side="right").astype(
            np.int32
        )
        for length in lengths
    ]
