"""What a reader of a report wants to see of a model itself: recommendations with titles, and gates."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Split
from grasp_jax.evaluation.catalogue import item_features, seen_pairs, top_items
from grasp_jax.evaluation.questions import EvaluationSet, in_user_order
from grasp_jax.models.device_data import DeviceData, with_query_rows
from grasp_jax.models.recommender import Recommender, Tables, apply
from grasp_jax.parallel.mesh import on_host

COUNT, SHORTEST, SHOWN_HISTORY, TOP_N = 12, 4, 8, 10
ITEM_BLOCK = 4096
GATES = ("self", "similar", "global")


def example_users(split: Split, seed: int) -> np.ndarray:
    """Up to twelve test users with some history, the same for every method."""
    known = split.test.evaluated[split.test.lengths[split.test.evaluated] >= SHORTEST]
    return np.sort(np.random.default_rng([seed, 0xE8]).permutation(known)[:COUNT])


def examples(
    model: Recommender, params: Any, data: DeviceData, tables: Tables, split: Split, users: np.ndarray, queries: np.ndarray,
    titles: Sequence[str], gates: np.ndarray | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """History, truth and the top items of some users, as titles.

    Args:
      users: rows.
      queries: [N] rows of the query tables for the test item.
      titles: [V].
      gates: [n, 3] of `target_gates`, or None.
    """
    if not len(users):
        return []
    batches, slots, newest = pack_in_blocks(split.test, users, len(users), model.backbone.mask_at)
    seen = seen_pairs(split.log, split.test, batches)
    features = item_features(model, params, tables)
    read, rows = with_query_rows(tables, queries[batches[0]])
    scores, items = top_items(
        model, params, data, read, features, rows, slots[0], newest[0], seen[0],
        min(ITEM_BLOCK, split.log.num_items), min(TOP_N, split.log.num_items - 1),
    )  # fmt: skip
    found = []
    for user, best, values in zip(batches[0], *on_host((items, scores)), strict=True):
        window = split.log.items[split.test.start[user] : split.test.end[user]]
        row = np.searchsorted(split.test.evaluated, user)
        asked = {} if gates is None else dict(zip(GATES, np.round(gates[row].astype(float), 4).tolist(), strict=True))
        found.append(
            {
                "user": str(split.log.user_ids[user]),
                "history": [titles[item] for item in window[-SHOWN_HISTORY:]],
                "truth": titles[split.test.target[user]],
                "top": [{"title": titles[item], "score": round(float(score), 3)} for item, score in zip(best, values, strict=True)],
                "gates": asked,
                "place": int(np.flatnonzero(best == split.test.target[user])[0]) + 1 if split.test.target[user] in best else None,
            }
        )
    return found


def target_gates(model: Recommender, params: Any, evaluation: EvaluationSet) -> np.ndarray | None:
    """[n, 3] gates of self, similar and global attention between each user and the target; None without gates.

    Gates of the kind "softmax" depend on the whole history and are not given.
    """
    if evaluation.candidate_logits is None or model.encoder.gate in ("none", "softmax"):
        return None
    gates = jax.jit(lambda params, logits: apply(model, params, "gates", logits))(params, evaluation.candidate_logits[:, :, 0])
    return in_user_order(on_host(gates), evaluation)
