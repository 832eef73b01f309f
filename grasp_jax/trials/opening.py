"""A summary of the data that were read: all lines for `--mode=prepare` and the report page, and the first 15 at the start of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.data.groups import TRAINING, Groups, statistics
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import folder_of
from grasp_jax.data.repeats import MANY_REPEATS, repeated_targets
from grasp_jax.data.split import Split
from grasp_jax.data.summary import MOST_LINES
from grasp_jax.knowledge.texts import sample_prompts
from grasp_jax.models.methods import METHODS
from grasp_jax.report import paper
from grasp_jax.trials.run import Run

ITEMS, USERS = 3, 2  # sample prompts
# share of the interactions that training leaves out, and of the tested users whose next item is a repeat
LEAST_REPORTED = 0.01


@dataclasses.dataclass(frozen=True)
class Opening:
    """What a run has read.

    Attributes:
      summary: files, columns used and ignored, order, what was left out, notes.
      facts: sizes of the split data, and the columns that texts are made of.
      prompts: samples of the texts that are encoded or described.
    """

    summary: list[str]
    facts: list[str]
    prompts: list[str]

    def lines(self) -> list[str]:
        """All of it."""
        return [*self.summary, *self.facts, *self.prompts]

    def first_lines(self) -> list[str]:
        """At most `MOST_LINES` lines: the facts, at least one prompt, and as many further lines as fit.

        Notes of the summary, which stand last in it, give way first to the facts, and the other prompts to the notes.
        """
        facts = self.facts[:MOST_LINES]
        room = max(MOST_LINES - len(facts) - min(1, len(self.prompts)), 0)
        summary = self.summary[:room]
        if len(self.summary) > room > 0:
            left = len(self.summary) - room + 1
            summary[-1] = f"  and {left} more notes: --mode=prepare shows them"
        prompts = self.prompts[: max(MOST_LINES - len(facts) - len(summary), 0)]
        return [*summary, *facts, *prompts]


def opening(run: Run) -> Opening:
    """What the run has read, and what its texts look like if any method reads text."""
    usage, prompts = (
        sample_prompts(run.knowledge, run.split, run.dataset.texts, ITEMS, USERS)
        if run.needs_bank
        else ([], [])
    )
    summary = run.dataset.summary(
        run.config.eval.include_short_users, run.config.recommend.listed_only
    )
    facts = [
        *fact_lines(statistics(run.split, run.groups), run.config.eval.groups),
        *empty_group_lines(run.split, run.groups, run.config.data),
        *name_lines(run.split.log, run.config.data.path),
        *untrained_user_lines(run.split),
        *(new_item_lines(run.split) if _learns_from_text(run) else []),
        *repeat_lines(run.split),
        *truncation_lines(run.split, run.config.data.max_length),
    ]
    return Opening(summary, [*facts, *usage], prompts)


def name_lines(log: InteractionLog, path: str) -> list[str]:
    """A line on data that a config gives the name of other data, as if it were used with another `--config.data.path`."""
    if not path or not paper.is_other_data(log.name, log.num_users, log.num_items):
        return []
    users, items = paper.SIZES[log.name]
    own = folder_of(path).resolve().name
    own += "-own" * (own in paper.SIZES)  # such a name would be refused again
    return [
        f"name: the config calls these data {log.name!r}, which has {users:,} users and {items:,} items; for other data, set "
        f"config.data.name, for example to {own!r}"
    ]


def empty_group_lines(split: Split, groups: Groups, data: DataConfig) -> list[str]:
    """A line for users, and one for items, if all that are tested are in one group."""
    users = split.test.evaluated
    lines = []
    for kind, tail, chosen in (
        ("user", groups.tail_user[users], data.tail_user_below),
        ("item", groups.tail_item[split.test.target[users]], data.tail_item_below),
    ):
        if not len(tail) or tail.any() != tail.all():
            continue
        which = "head" if tail.all() else "tail"
        what = "tested user" if kind == "user" else "test item"
        mend = f"config.data.tail_{kind}_below moves the limit"
        mend += ", and 0 chooses it from the data" if chosen else ""
        lines.append(
            f"groups: no {what} is a {which} {kind}, so the columns of {which} {kind}s are empty; {mend}"
        )
    return lines


def untrained_user_lines(split: Split) -> list[str]:
    """A line on users whose histories are too short for training; none if they are less than 1 %."""
    short, users = int((split.train.lengths < 2).sum()), split.log.num_users
    if short < LEAST_REPORTED * users:
        return []
    return [
        f"training: {short:,} of {users:,} users have fewer than 2 training interactions, so models are not trained on their histories"
    ]


def new_item_lines(split: Split) -> list[str]:
    """A line on items that do not occur in training, and how they can be recommended all the same; none if they are less than 1 %."""
    items = split.log.num_items
    new = int((split.item_counts == 0).sum())
    if new < LEAST_REPORTED * items:
        return []
    line = (
        f"new items: {new:,} of {items:,} do not occur in training, so models rank them low: models of IDs hardly ever recommend them, "
        "and grasp_plus recommends them less often than items that are added after the training (docs/studies.md, New items)"
    )
    if never := int((np.bincount(split.log.items, minlength=items) == 0).sum()):
        line += (
            f"; leave the {never:,} that nobody has bought out of the items table, and after the training add them by model.add_items "
            "(docs/python.md, New items)"
        )
    return [line]


def _learns_from_text(run: Run) -> bool:
    """Whether a method of the run is trained and reads text."""
    return any(METHODS[method].needs_bank and METHODS[method].trained for method, _ in run.trials)


def repeat_lines(split: Split) -> list[str]:
    """A line on tested users whose next item is one that they had before; none if these are at most 1 %."""
    test, log = split.test, split.log
    tested = len(test.evaluated)
    repeated = repeated_targets(log.items, log.offsets, test.end, test.target)
    again = int(repeated[test.evaluated].sum())
    if again <= LEAST_REPORTED * tested:
        return []
    line = (
        f"repeats: {again:,} of {tested:,} tested users had their next item before ({100 * again / tested:.0f} %); full_unseen keeps "
        "this item and leaves out all else that they had, so it favours methods that repeat items"
    )
    if again > MANY_REPEATS * tested:
        line += "; compare by full (config.eval.select=full), and set config.recommend.exclude_seen=False"
    return [line]


def truncation_lines(split: Split, max_length: int) -> list[str]:
    """A line on what training does not read because histories are longer than `data.max_length`; none if that is less than 1 %.

    Args:
      split: the histories, of which training reads at most `max_length + 1` interactions each.
      max_length: L.
    """
    missed = split.train_lengths - split.train.lengths
    share = missed.sum() / max(int(split.train_lengths.sum()), 1)
    if share < LEAST_REPORTED:
        return []
    longer = int((missed > 0).sum())
    have = "user has" if longer == 1 else "users have"
    return [
        f"histories: models read the newest {max_length} interactions of a user (data.max_length); {longer:,} {have} more, "
        f"so training leaves out {100 * share:.0f} % of its interactions"
    ]


def fact_lines(facts: Mapping[str, Any], counted: str = TRAINING) -> list[str]:
    """`data.groups.statistics` in words: sizes, groups and, of a split in time, its two points.

    Args:
      facts: the statistics.
      counted: what the limits of the groups count, `config.eval.groups`.
    """
    of_users, of_items = ("interactions before the test", " users")
    if counted == TRAINING:
        of_users, of_items = ("training interactions", "")
    lines = [
        f"dataset {facts['dataset']}: {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions "
        f"({facts['avg_length']:.1f} per user); {facts['evaluated_users']:,} users are tested",
        f"groups: tail users have fewer than {facts['tail_user_below']} {of_users}, tail items fewer than "
        f"{facts['tail_item_below']}{of_items}; "
        f"{facts['unseen_in_training']:,} items do not occur in training",
    ]
    for name, part in (("valid", "validation"), ("test", "test")):
        if f"{name}_after" in facts:
            lines.append(
                f"{part} from {facts[f'{name}_after']} on: {facts[f'{name}_users']:,} users, whose next items include "
                f"{facts[f'{name}_targets_cold']:,} that do not occur in training"
            )
    return lines
