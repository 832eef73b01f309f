"""A summary of the data that were read: all lines for `--mode=prepare` and the report page, and the first 15 at the start of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from grasp_jax.data.groups import statistics
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import folder_of
from grasp_jax.data.repeats import repeated_targets
from grasp_jax.data.split import Split
from grasp_jax.data.summary import MOST_LINES
from grasp_jax.knowledge.texts import sample_prompts
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

    def first_lines(self, most: int = MOST_LINES) -> list[str]:
        """At most so many lines: the facts, at least one prompt, and as many further lines as fit.

        Notes of the summary, which stand last in it, give way first to the facts, and the other prompts to the notes.
        """
        facts = self.facts[:most]
        room = max(most - len(facts) - min(1, len(self.prompts)), 0)
        summary = self.summary[:room]
        if len(self.summary) > room > 0:
            left = len(self.summary) - room + 1
            summary[-1] = f"  and {left} more notes: --mode=prepare shows them"
        prompts = self.prompts[: max(most - len(facts) - len(summary), 0)]
        return [*summary, *facts, *prompts]


def opening(run: Run) -> Opening:
    """What the run has read, and what its texts look like if any method reads text."""
    usage, prompts = (
        sample_prompts(run.knowledge, run.split, run.dataset.texts, ITEMS, USERS)
        if run.needs_bank
        else ([], [])
    )
    summary = run.dataset.summary(run.config.eval.include_short_users)
    facts = [
        *fact_lines(statistics(run.split, run.groups)),
        *name_lines(run.split.log, run.config.data.path),
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
    return [
        f"name: the config calls these data {log.name!r}, which has {users:,} users and {items:,} items; for other data, set "
        f"config.data.name, for example to {own!r}"
    ]


def repeat_lines(split: Split) -> list[str]:
    """A line on tested users whose next item is one that they had before; none if these are at most 1 %."""
    test, log = split.test, split.log
    tested = len(test.evaluated)
    repeated = repeated_targets(log.items, log.offsets, test.end, test.target)
    again = int(repeated[test.evaluated].sum())
    if again <= LEAST_REPORTED * tested:
        return []
    return [
        f"repeats: {again:,} of {tested:,} tested users had their next item before ({100 * again / tested:.0f} %); full_unseen ranks this "
        "item and leaves out everything else that they had, which favours methods that repeat items; if people buy items again, compare "
        "methods by full (config.eval.select=full) and set config.recommend.exclude_seen=False"
    ]


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


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """`data.groups.statistics` in words: sizes, groups and, of a split in time, its two points."""
    lines = [
        f"dataset {facts['dataset']}: {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions "
        f"({facts['avg_length']:.1f} per user); {facts['evaluated_users']:,} users are tested",
        f"groups: tail users have fewer than {facts['tail_user_below']} interactions, tail items fewer than {facts['tail_item_below']}; "
        f"{facts['unseen_in_training']:,} items do not occur in training",
    ]
    for name, part in (("valid", "validation"), ("test", "test")):
        if f"{name}_after" in facts:
            lines.append(
                f"{part} from {facts[f'{name}_after']} on: {facts[f'{name}_users']:,} users, whose next items include "
                f"{facts[f'{name}_targets_cold']:,} that do not occur in training"
            )
    return lines
