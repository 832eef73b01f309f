"""Examples for reports: recommendations with titles, and gates."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Split
from grasp_jax.evaluation.evaluation_set import EvaluationSet, in_user_order
from grasp_jax.evaluation.ranker import Ranker, UserBlock, top_items
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.models.gates import NAMES
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.parallel.mesh import on_host

COUNT, SHORTEST, SHOWN_HISTORY, TOP_N = 12, 4, 8, 10
ITEM_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class ExampleUsers:
    """The users whose recommendations are shown, and the titles of items.

    Attributes:
      users: rows.
      queries: [N] rows of the query tables for the test item.
      titles: [V].
    """

    users: np.ndarray
    queries: np.ndarray
    titles: Sequence[str]


def example_users(split: Split, seed: int) -> np.ndarray:
    """Up to twelve random test users with at least `SHORTEST` items in their histories, the same for every method."""
    eligible = split.test.evaluated[split.test.lengths[split.test.evaluated] >= SHORTEST]
    return np.sort(np.random.default_rng([seed, 0xE8]).permutation(eligible)[:COUNT])


def examples(
    ranker: Ranker, split: Split, shown: ExampleUsers, gates: np.ndarray | None
) -> list[dict[str, Any]]:
    """History, test item and top items of some users, as titles; `gates` [n, 3] from `target_gates`, or None."""
    if not len(shown.users):
        return []
    batches, slots, newest = pack_in_blocks(
        split.test, shown.users, len(shown.users), ranker.model.backbone.mask_at
    )
    seen = seen_pairs(split.log, split.test, batches)
    ranker, block = ranker.for_block(UserBlock(slots[0], newest[0], shown.queries[batches[0]]))
    num_items, titles = split.log.num_items, shown.titles
    scores, items = top_items(
        ranker, block, seen[0], min(ITEM_BLOCK, num_items), min(TOP_N, num_items - 1)
    )
    result = []
    for user, best, values in zip(batches[0], *on_host((items, scores)), strict=True):
        is_item = np.isfinite(values)  # excluded items pad the list of a user with few others
        best, values = best[is_item], values[is_item]
        history = split.log.items[split.test.start[user] : split.test.end[user]]
        target = split.test.target[user]
        user_gates: dict[str, float] = {}
        if gates is not None:
            row = np.searchsorted(split.test.evaluated, user)
            values_of = np.round(gates[row].astype(float), 4).tolist()
            user_gates = dict(zip(NAMES, values_of, strict=True))
        top = [
            {"title": titles[item], "score": round(float(score), 3)}
            for item, score in zip(best, values, strict=True)
        ]
        result.append(
            {
                "user": str(split.log.user_ids[user]),
                "history": [titles[item] for item in history[-SHOWN_HISTORY:]],
                "truth": titles[target],
                "top": top,
                "gates": user_gates,
                "place": int(np.flatnonzero(best == target)[0]) + 1 if target in best else None,
            }
        )
    return result


def target_gates(ranker: Ranker, evaluation: EvaluationSet) -> np.ndarray | None:
    """[n, 3] gates of self, similar and global attention between each user and the target; None without gates.

    Gates of the kind "softmax" depend on the whole history; for these the result is None.
    """
    if evaluation.candidate_logits is None or ranker.model.encoder.normalises_gates:
        return None

    @jax.jit
    def gates_of(ranker: Ranker, logits: jax.Array) -> jax.Array | None:
        return apply(ranker.model, ranker.params, SequenceModel.gates, logits)

    return in_user_order(
        on_host(gates_of(ranker, evaluation.candidate_logits[:, :, 0])), evaluation
    )
