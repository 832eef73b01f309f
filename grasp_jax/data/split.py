"""The split of a log into training, validation and test.

Three modes (`config.data.split`): "leave_one_out" as the paper, "time" with two points in time for everybody, "none" for production.
In each, a user's training interactions are the first ones of their history.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.log import InteractionLog, distinct_items, most_items
from grasp_jax.data.moments import Moment, shown, time_bounds

LEAVE_ONE_OUT, TIME, NONE = MODES = ("leave_one_out", "time", "none")
ALL_INTERACTIONS = "training part of each history: all interactions"  # `Split.cut_off` of "none"
UNTIL = "training part of each history: interactions before "  # and of "time", with the moment
Until = tuple[Moment, str]  # a moment in the unit of a log's times, and that unit
MIN_EVALUATED_LENGTH = 3  # one interaction each for training, validation and test; of leave-one-out


@dataclasses.dataclass(frozen=True)
class Histories:
    """Per user a window of the log's flat `items`: `items[start[n]:end[n]]` is the history that the model may see.

    Attributes:
      start: [N] int64.
      end: [N] int64, exclusive.
      target: [N] int32 item row to predict, or -1 where the user is not evaluated.
    """

    start: np.ndarray
    end: np.ndarray
    target: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64."""
        lengths: np.ndarray = self.end - self.start
        return lengths

    @property
    def evaluated(self) -> np.ndarray:
        """Rows of the users that have a target and at least one interaction before it."""
        return np.flatnonzero((self.target >= 0) & (self.lengths > 0))


@dataclasses.dataclass(frozen=True)
class Split:
    """A log and its parts for training, validation and test.

    Attributes:
      log: all interactions.
      train: windows of the training interactions, which end where a user's training ends; no targets.
      valid: the histories and targets of validation.
      test: the histories and targets of the test.
      mode: one of `MODES`.
      bounds: of "time", the points in time from which interactions are validation and test, in the unit of the log's timestamps.
    """

    log: InteractionLog
    train: Histories
    valid: Histories
    test: Histories
    mode: str = LEAVE_ONE_OUT
    bounds: tuple[Moment, Moment] | None = None

    @property
    def item_counts(self) -> np.ndarray:
        """[V] int64 training interactions per item."""
        last = np.zeros(self.log.num_interactions + 1, np.int64)
        # The training windows may be cut to the newest items; frequencies count the whole training part.
        np.add.at(last, self.log.offsets[:-1], 1)
        np.add.at(last, self.train.end, -1)
        in_training = np.cumsum(last[:-1]) > 0
        return np.bincount(self.log.items[in_training], minlength=self.log.num_items)

    @property
    def train_lengths(self) -> np.ndarray:
        """[N] int64 training interactions per user, uncut; 0 for users who come later than all training."""
        lengths: np.ndarray = self.train.end - self.log.offsets[:-1]
        return lengths

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that a model, its targets or a knowledge bank depend on; for "leave_one_out" it is that of the log."""
        if self.mode == LEAVE_ONE_OUT:
            return self.log.fingerprint
        ends = (self.train.end, self.valid.end, self.test.end)
        return hashlib.sha256(
            f"{self.log.fingerprint} {self.mode} {[_digest(end) for end in ends]}".encode()
        ).hexdigest()

    @property
    def cut_off(self) -> str:
        """Which part of each history is training, as the recipe of a knowledge bank says it: a bank of other histories has another text."""
        if self.mode == LEAVE_ONE_OUT:
            return "training part of each history: all but the last two interactions"
        if self.bounds is None:
            return ALL_INTERACTIONS
        moment = shown(self.bounds[0], self.log.time_unit)
        return f"{UNTIL}{moment} ({_digest(self.train.end)[:16]})"

    @property
    def until(self) -> Until | None:
        """Of "time", the moment before which interactions are training, and the unit of the log's times; else None."""
        return None if self.bounds is None else (self.bounds[0], self.log.time_unit)


class CutOff(NamedTuple):
    """Where training parts end.

    Attributes:
      text: `Split.cut_off`.
      until: `Split.until`; also None if it is not known, because an earlier version did not store it.
    """

    text: str
    until: Until | None = None


def ends_no_later(earlier: CutOff, now: CutOff) -> bool:
    """Whether an earlier training part contains nothing that the training part of today may not contain.

    If the moments are not both known in one unit, they are read from the texts, which have them to the second.
    """
    if now.text == ALL_INTERACTIONS or earlier.text == now.text:
        return True
    if earlier.until and now.until and earlier.until[1] == now.until[1]:
        return earlier.until[0] <= now.until[0]
    texts = (earlier.text, now.text)
    if not all(text.startswith(UNTIL) for text in texts):
        return False
    before, after = (text.removeprefix(UNTIL).rpartition(" (")[0] for text in texts)
    try:
        return float(before) <= float(after)  # times that are only an order
    except ValueError:
        return len(before) == len(after) and before <= after  # dates, year first


def _digest(ends: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(ends, np.int64).tobytes()).hexdigest()


def make_split(config: DataConfig, log: InteractionLog, include_short_users: bool = False) -> Split:
    """The split that the `data` section selects.

    Args:
      config: `split`, `max_length` and, of "time", `valid_after` and `test_after` are read.
      log: the interactions.
      include_short_users: of "leave_one_out".

    Raises:
      UserError: there is no such mode, no user can be evaluated, or `time_bounds` raises it.
    """
    if config.split == LEAVE_ONE_OUT:
        return leave_one_out(log, config.max_length, include_short_users)
    if config.split == TIME:
        return by_time(
            log, config.max_length, *time_bounds(log, config.valid_after, config.test_after)
        )
    if config.split == NONE:
        return all_training(log, config.max_length)
    raise UserError(f"config.data.split: {config.split!r}; expected one of {', '.join(MODES)}")


def leave_one_out(log: InteractionLog, max_length: int, include_short_users: bool = False) -> Split:
    """A user's last item is the test target, the one before it the validation target, the rest is training.

    Windows keep the newest `max_length` items (training one more, whose last is only a target).
    Users with two interactions are trained on and not evaluated; one interaction gives no target. `include_short_users` reproduces
    LLM-ESR, which evaluates those with two on the very item they were trained on.

    Raises:
      UserError: no user is long enough to be evaluated.
    """
    stop = log.offsets[1:]
    enough = log.lengths >= MIN_EVALUATED_LENGTH
    if not enough.any():
        raise UserError(
            f"{log.name}: no user has {MIN_EVALUATED_LENGTH} interactions, so nothing can be evaluated"
        )
    evaluated = enough | ((log.lengths == 2) & include_short_users)
    train_end = np.where(enough, stop - 2, stop)
    valid_end = np.where(enough, stop - 2, stop - 1)
    return Split(
        log=log,
        train=_windows(log, train_end, max_length + 1),
        valid=_windows(log, valid_end, max_length, evaluated),
        test=_windows(log, stop - 1, max_length, evaluated),
    )


def by_time(log: InteractionLog, max_length: int, valid_after: Moment, test_after: Moment) -> Split:
    """Two points in time for everybody (a global temporal split): what comes at or after them is validation, and test.

    Training has every interaction before `valid_after`; windows are cut as in `leave_one_out`. The target of a user in validation is the
    first interaction at or after `valid_after` and before `test_after`; the history has all interactions before `valid_after`. The target
    in the test is the first interaction from `test_after` on; the history has all interactions before `test_after`, including those of
    validation. So neither the fitted model nor a history contains anything from its evaluation window or later, while leave-one-out trains
    on later interactions of other users (Ji et al., "A critical study on data leakage in recommender system offline evaluation", TOIS
    2023). Each user counts once: this is the choice "first" of the target in Gusak et al., "Time to split" (arXiv 2507.16289, 2025).
    Interactions of one user at the same time stay in the order of the source, and the first of them is the target.

    A user without interactions before one of the two times has no history and is not evaluated there; a user without interactions before
    `valid_after` is not in training either. Items that nobody had before `valid_after` stay in the catalogue, as candidates and as targets:
    they are cold items.

    Raises:
      UserError: validation or the test has no user with a history and a target.
    """
    assert log.timestamps is not None
    begin, stop = log.offsets[:-1], log.offsets[1:]
    train_end, valid_end = (
        begin + _counts(log, log.timestamps < bound) for bound in (valid_after, test_after)
    )
    split = Split(
        log=log,
        train=_windows(log, train_end, max_length + 1),
        valid=_windows(log, train_end, max_length, valid_end > train_end),
        test=_windows(log, valid_end, max_length, stop > valid_end),
        mode=TIME,
        bounds=(valid_after, test_after),
    )
    for field, part, moment in (
        ("valid_after", split.valid, valid_after),
        ("test_after", split.test, test_after),
    ):
        when = shown(moment, log.time_unit)
        if not len(part.evaluated):
            raise UserError(
                f"config.data.{field}: {when}; no user has interactions both before and after it, so nobody can be evaluated; "
                "give another point in time"
            )
        if unknown := int((part.target >= 0).sum()) - len(part.evaluated):
            logger.info(
                "%s users have no interaction before %s, and are not tested after it",
                f"{unknown:,}",
                when,
            )
    return split


def all_training(log: InteractionLog, max_length: int) -> Split:
    """Everything is training and nobody is evaluated: for production, once a run with a validation has chosen the epochs."""
    stop = log.offsets[1:]
    nobody = _windows(log, stop, max_length)
    return Split(
        log=log, train=_windows(log, stop, max_length + 1), valid=nobody, test=nobody, mode=NONE
    )


def _windows(
    log: InteractionLog, end: np.ndarray, length: int, evaluated: np.ndarray | None = None
) -> Histories:
    """The newest `length` interactions before `end` [N]; the interaction at `end` is the target of the users in `evaluated` ([N] bool)."""
    start = np.maximum(log.offsets[:-1], end - length)
    if evaluated is None:
        return Histories(start, end, np.full(log.num_users, -1, np.int32))
    target = np.where(evaluated, log.items[np.minimum(end, log.num_interactions - 1)], -1)
    return Histories(start, end, target.astype(np.int32))


def _counts(log: InteractionLog, marked: np.ndarray) -> np.ndarray:
    """[N] int64 how many of each user's interactions are marked; [I] bool."""
    before = np.concatenate([[0], np.cumsum(marked)])
    counts: np.ndarray = before[log.offsets[1:]] - before[log.offsets[:-1]]
    return counts


def items_left(split: Split, least: int) -> np.ndarray | None:
    """[N] int64 how many items each evaluated user has neither had nor rated low, V for other users.

    Returns None if it is clear without counting that everybody has `least` or more.
    """
    log = split.log
    if most_items(log) <= log.num_items - least:
        return None
    evaluated = (split.valid.target >= 0) | (split.test.target >= 0)
    left: np.ndarray = np.where(evaluated, log.num_items - distinct_items(log), log.num_items)
    return left


def without_users_short_of_negatives(split: Split, num_negatives: int) -> tuple[Split, int]:
    """Users who have had, or rated low, all but fewer than `num_negatives` items are trained on and not evaluated.

    Returns:
      The split without them, and their number. If this is everybody, the split unchanged and 0: evaluation refuses it.
    """
    log, left = split.log, items_left(split, num_negatives)
    if left is None:
        return split, 0
    short = left < num_negatives
    if short.sum() in (0, (left < log.num_items).sum()):
        return split, 0
    logger.info(
        "%s users are not tested, because fewer than %d items are left that they never had (config.eval.num_negatives); the first is %s",
        f"{short.sum():,}",
        num_negatives,
        log.user_ids[np.flatnonzero(short)[0]],
    )

    def without(part: Histories) -> Histories:
        return dataclasses.replace(part, target=np.where(short, -1, part.target))

    return dataclasses.replace(split, valid=without(split.valid), test=without(split.test)), int(
        short.sum()
    )
