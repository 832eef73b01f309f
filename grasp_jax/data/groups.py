"""Head and tail groups of users and items, and the dataset statistics of the paper's Table 1."""

import dataclasses

import numpy as np

from grasp_jax.data.log import distinct
from grasp_jax.data.moments import shown
from grasp_jax.data.split import LEAVE_ONE_OUT, Split

TRAINING, PAPER = "training", "paper"  # what is counted, `config.eval.groups`


@dataclasses.dataclass(frozen=True)
class Groups:
    """Head and tail by frequency (the paper's appendix A.2): `tail` means fewer than the threshold.

    Attributes:
      tail_user: [N] bool.
      tail_item: [V] bool; by `training` cold items, which training lacks, are among them.
      tail_user_below: users with fewer interactions are tail.
      tail_item_below: items with fewer interactions are tail.
    """

    tail_user: np.ndarray
    tail_item: np.ndarray
    tail_user_below: int
    tail_item_below: int


def head_tail_groups(
    split: Split, tail_user_below: int = 0, tail_item_below: int = 0, counted: str = TRAINING
) -> Groups:
    """Who is head and who is tail.

    Args:
      split: the histories.
      tail_user_below, tail_item_below: thresholds; 0 is chosen by the Pareto rule, the smallest one that puts at least 80 % into the tail.
      counted: TRAINING, training interactions; or PAPER, `paper_counts`.
    """
    users, items = (
        paper_counts(split) if counted == PAPER else (split.train_lengths, split.item_counts)
    )
    tail_user_below = tail_user_below or _pareto_threshold(users)
    tail_item_below = tail_item_below or _pareto_threshold(items)
    return Groups(
        users < tail_user_below, items < tail_item_below, tail_user_below, tail_item_below
    )


def paper_counts(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """[N] lengths of the test histories and [V] users of each item, test items included: what the paper's Table 3 goes by.

    As the public code of LLM-ESR, whose groups the paper has: the length is that of the test input, so everything but the test item
    (`metric_len_report`), and an item's popularity counts each user once, over training, validation and test (`get_item_pop` of
    https://github.com/liuqidong07/LLM-ESR/blob/master/generators/generator.py). With its thresholds, "fewer than", over all users, it
    gives the shares that follow from the paper's Tables 2 and 3: 0.820 and 0.193 on Beauty, 0.565 and 0.285 on Fashion.
    """
    log = split.log
    pairs = distinct(log.users.astype(np.int64) * log.num_items + log.items)
    users_of_items = np.bincount(pairs % log.num_items, minlength=log.num_items)
    lengths: np.ndarray = split.test.end - log.offsets[:-1]
    return lengths, users_of_items


def _pareto_threshold(counts: np.ndarray) -> int:
    return int(np.quantile(counts, 0.8, method="inverted_cdf")) + 1


def statistics(split: Split, groups: Groups) -> dict[str, float | int | str]:
    """The columns of the paper's Table 1 (and the head/tail thresholds of A.2) for any dataset; sparsity in percent.

    Of a split other than leave-one-out also the mode, its points in time, and how many users and targets training has never seen.
    """
    log, counts = split.log, split.item_counts
    pairs = log.num_users * log.num_items
    facts: dict[str, float | int | str] = {
        "dataset": log.name,
        "users": log.num_users,
        "items": log.num_items,
        "interactions": log.num_interactions,
        "avg_length": log.num_interactions / log.num_users,
        "sparsity": 100.0 * (1.0 - log.num_interactions / pairs),
        "tail_user_below": groups.tail_user_below,
        "tail_item_below": groups.tail_item_below,
        "evaluated_users": len(split.test.evaluated),
        "unseen_in_training": int((counts == 0).sum()),
    }
    if split.mode == LEAVE_ONE_OUT:
        return facts
    facts |= {"split": split.mode, "users_without_training": int((split.train_lengths == 0).sum())}
    if split.bounds is None:
        return facts
    for name, part, moment in zip(
        ("valid", "test"), (split.valid, split.test), split.bounds, strict=True
    ):
        facts[f"{name}_after"] = shown(moment, log.time_unit)
        facts[f"{name}_users"] = len(part.evaluated)
        facts[f"{name}_users_without_history"] = int((part.target >= 0).sum()) - len(part.evaluated)
        facts[f"{name}_targets_cold"] = int((counts[part.target[part.evaluated]] == 0).sum())
    return facts
