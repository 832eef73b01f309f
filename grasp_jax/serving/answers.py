"""Recommendations for people given by their histories: ids in, ids out."""

import dataclasses
import operator
from collections.abc import Hashable, Sequence, Sized
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.id_text import trimmed
from grasp_jax.data.log import InteractionLog
from grasp_jax.evaluation.audience import Audience, Wanted, best_items
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.catalogue import Catalogue

Ids: TypeAlias = Sequence[Hashable] | np.ndarray
IdLists: TypeAlias = Ids | Sequence[Ids]  # one list for everybody, or one for each person
Unknown = Literal["popular", "error"]


@dataclasses.dataclass(frozen=True)
class ItemChoice:
    """Which items may be recommended, and how many.

    Attributes:
      k: largest number of items for each person.
      candidates: ids to choose from: one list for everybody, or a list for each person; None: the whole catalogue.
      exclude: ids to leave out: one list for everybody, or a list for each person.
      exclude_seen: leave out the items that the person has had or rated low; None: as `config.recommend.exclude_seen` of the model says.
      unknown: "popular": people without a known item get the most bought items; "error": an id that the model does not know is refused.
    """

    k: int = 10
    candidates: IdLists | None = None
    exclude: IdLists | None = None
    exclude_seen: bool | None = None
    unknown: Unknown = "popular"

    def __post_init__(self) -> None:
        """Raises UserError if the value of `k`, `exclude_seen` or `unknown` is not allowed."""
        try:
            k = 0 if isinstance(self.k, bool | np.bool_) else operator.index(self.k)
        except TypeError:
            k = 0
        if k < 1:
            raise UserError(f"k: {self.k!r}; expected a whole number from 1")
        object.__setattr__(self, "k", k)  # NumPy's integers lack methods of int
        if self.exclude_seen is not None and not isinstance(self.exclude_seen, bool | np.bool_):
            raise UserError(f"exclude_seen: {self.exclude_seen!r}; expected True, False or None")
        if self.unknown not in ("popular", "error"):
            raise UserError(f"unknown: {self.unknown!r}; expected 'popular' or 'error'")


class Answer(NamedTuple):
    """The recommendations for one person.

    Attributes:
      items: [n] item rows, best first.
      scores: [n] float32; NaN for recommendations by popularity.
      gates: [n, 3] gates between the person and the items; None unless a request to the service wants them.
    """

    items: np.ndarray
    scores: np.ndarray
    gates: np.ndarray | None = None

    def select(self, positions: np.ndarray | slice) -> "Answer":
        """The recommendations at these positions, in this order."""
        gates = None if self.gates is None else self.gates[positions]
        return Answer(self.items[positions], self.scores[positions], gates)


def is_list(ids: object) -> bool:
    """Whether a value may be a list of ids: a list, tuple, array or series, but not a text."""
    return isinstance(ids, Sized) and not isinstance(ids, str | bytes)


def as_text(name: object) -> str:
    """An id as text, without blanks around it, as ids of data are read. Whole numbers that a table stores as floats, because a value is
    missing, become whole numbers again.
    """
    if isinstance(name, float | np.floating) and float(name).is_integer():
        return str(int(name))
    return trimmed(str(name))


def listed(ids: Ids) -> list[Hashable]:
    """A list, tuple, array or series of ids as a list, in which NumPy's texts and whole numbers are those of Python."""
    given = np.atleast_1d(ids).tolist() if isinstance(ids, np.ndarray) else list(ids)
    # messages would show np.str_('7')
    return [own.item() if isinstance(own, np.str_ | np.integer) else own for own in given]


def known_rows(
    catalogue: Catalogue, ids: Ids, what: str, unknown: Unknown = "popular"
) -> np.ndarray:
    """[n] int32 rows of the ids that the model knows; others are left out.

    Args:
      catalogue: the items.
      ids: item ids; numbers and their text are the same.
      what: what messages call the list.
      unknown: "error" refuses an id that the model does not know.

    Raises:
      UserError: the ids are not a list, or an id is not known and `unknown` is "error".
    """
    if not is_list(ids):
        raise UserError(f"{what}: {ids!r}; expected a list of item ids")
    names = listed(ids)
    rows = [catalogue.rows.get(as_text(name), -1) for name in names]
    if unknown == "error" and -1 in rows:
        example = str(catalogue.ids[0])
        raise UserError(
            f"{what}: no item has the id {names[rows.index(-1)]!r}; ids look like {example!r}; leave it out"
        )
    return np.array([row for row in rows if row >= 0], np.int32)


def rows_of_histories(
    catalogue: Catalogue, histories: Sequence[Ids], unknown: Unknown
) -> list[np.ndarray]:
    """[n] int32 item rows of each history; logs how many ids were not known.

    Raises:
      UserError: a history is not a list, or an id is not known and `unknown` is "error".
    """
    if not is_list(histories):
        raise UserError(
            f"histories: {histories!r}; expected a list with a list of item ids for each person"
        )
    rows = [
        known_rows(catalogue, ids, f"histories[{n}]", unknown) for n, ids in enumerate(histories)
    ]
    _warn_of_unknown_items(sum(map(len, histories)), rows)
    return rows


def rows_of_users(catalogue: Catalogue, log: InteractionLog, users: np.ndarray) -> list[np.ndarray]:
    """[n] int32 item rows of the history of each user of a log; logs how many of the items the model does not know.

    Args:
      catalogue: the items of the model.
      log: interactions of users.
      users: rows of the log, -1 for a person who is not in it.
    """
    row_of = row_of_items(catalogue, log)
    begin, end = log.offsets[users], log.offsets[users + 1]
    end = np.where(users < 0, begin, end)
    histories = [row_of[log.items[first:last]] for first, last in zip(begin, end, strict=True)]
    known = [rows[rows >= 0] for rows in histories]
    _warn_of_unknown_items(sum(map(len, histories)), known)
    return known


def low_rated_of(catalogue: Catalogue, log: InteractionLog, users: np.ndarray) -> list[np.ndarray]:
    """[n] int32 rows of the items that each user of a log has rated low and the model knows; arguments as in `rows_of_users`."""
    rows = row_of_items(catalogue, log)[log.low_rated_by_user[1]]
    disliked = [rows[begin:end] for begin, end in zip(*log.low_rated_of(users), strict=True)]
    return [items[items >= 0] for items in disliked]


def row_of_items(catalogue: Catalogue, log: InteractionLog) -> np.ndarray:
    """[items of the log] int32 rows of these items in the model, -1 for an item that it does not know."""
    names = log.item_ids.tolist()
    return np.array([catalogue.rows.get(as_text(name), -1) for name in names], np.int32)


def _warn_of_unknown_items(count: int, known: Sequence[np.ndarray]) -> None:
    if missing := count - sum(map(len, known)):
        logger.warning(
            f"{missing:,} of the {count:,} items in the histories are not known to the model and are ignored"
        )


@dataclasses.dataclass(frozen=True)
class People:
    """The people for whom items are recommended.

    Attributes:
      names: [n] their names in the result.
      known: [n] bool, whether the model knows an item of the person.
      audience: the known people; None if there are none.
      rows: [number of known people] their rows in the audience, in the order of `names`.
      disliked: [n] rows of the items that each person has rated low; None: nothing is known of people without a known item.
    """

    names: np.ndarray
    known: np.ndarray
    audience: Audience | None
    rows: np.ndarray
    disliked: Sequence[np.ndarray] | None = None


def excludes_seen(wanted: bool | None, config: Config) -> bool:
    """Whether items that a person has had are left out: as a call wants it, or else as the model's config says."""
    return config.recommend.exclude_seen if wanted is None else bool(wanted)


def answer(artifact: Artifact, people: People, choice: ItemChoice) -> list[Answer]:
    """The best items of each person; people without a known item get the most popular items. Items in `Catalogue.unlisted` are left out."""
    catalogue, num_people = artifact.catalogue, len(people.names)
    exclude_seen = excludes_seen(choice.exclude_seen, artifact.config)
    k = min(choice.k, len(catalogue.ids))
    allowed = _allowed(catalogue, choice, num_people)
    if len(catalogue.unlisted):
        allowed = (
            catalogue.recommended.copy() if allowed is None else allowed & catalogue.recommended
        )
    excluded: list[tuple[int, int]] = []
    if choice.exclude is not None:
        lists = _shared_or_each(choice.exclude, num_people, "exclude")
        if len(lists) == 1 and num_people != 1:  # shared by everybody
            allowed = np.ones(len(catalogue.ids), bool) if allowed is None else allowed
            allowed[..., known_rows(catalogue, lists[0], "exclude", choice.unknown)] = False
        else:
            excluded = _pairs(catalogue, lists, choice.unknown)
    answers = _by_model(artifact, people, k, exclude_seen, allowed, excluded)
    unknown = np.flatnonzero(~people.known).tolist()
    if unknown:
        logger.warning(
            f"{len(unknown):,} of {num_people:,} people have no known history and get the most popular items, with no score"
        )
    rows_of: dict[int, list[int]] = {}
    for person, item in excluded:
        rows_of.setdefault(person, []).append(item)
    for n in unknown:
        may_get = np.ones(len(catalogue.ids), bool)
        if allowed is not None:
            may_get = (allowed if allowed.ndim == 1 else allowed[n]).copy()
        may_get[rows_of.get(n, [])] = False
        if exclude_seen and people.disliked is not None:
            may_get[people.disliked[n]] = False
        items = catalogue.by_count[may_get[catalogue.by_count]][:k]
        answers[n] = Answer(items, np.full(len(items), np.nan, np.float32))
    return [answers[n] for n in range(num_people)]


def _by_model(
    artifact: Artifact,
    people: People,
    k: int,
    exclude_seen: bool,
    allowed: np.ndarray | None,
    excluded: Sequence[tuple[int, int]],
) -> dict[int, Answer]:
    """The answers of the people with a known item, by their positions in `people.names`.

    Args:
      artifact: the model.
      people: everybody.
      k: largest number of items.
      exclude_seen: as in `ItemChoice`.
      allowed: [V] bool, [n, V] bool, or None for all items.
      excluded: pairs (position of a person, item row).
    """
    known = np.flatnonzero(people.known)
    if people.audience is None or not len(known):
        return {}
    number_of = np.full(len(people.names), -1)  # among the known people
    number_of[known] = np.arange(len(known))
    pairs = [(number_of[n], item) for n, item in excluded if number_of[n] >= 0]
    config = artifact.config.eval
    wanted = Wanted(
        k,
        exclude_seen,
        allowed[known] if allowed is not None and allowed.ndim == 2 else allowed,
        np.array(pairs, np.int32).reshape(-1, 2),
        config.user_block,
        config.item_block,
    )
    answers = {}
    for lists in best_items(people.audience, people.rows, wanted):
        ends = np.cumsum(lists.counts)
        for number, count, end in zip(lists.people, lists.counts, ends, strict=True):
            own = slice(end - count, end)
            answers[int(known[number])] = Answer(lists.items[own], lists.scores[own])
    return answers


def _allowed(catalogue: Catalogue, choice: ItemChoice, num_people: int) -> np.ndarray | None:
    """[V] bool, or [n, V] if each person has a separate list of candidates; None: all items."""
    if choice.candidates is None:
        return None
    lists = _shared_or_each(choice.candidates, num_people, "candidates")
    allowed = np.zeros((len(lists), len(catalogue.ids)), bool)
    for n, ids in enumerate(lists):
        allowed[n, known_rows(catalogue, ids, "candidates", choice.unknown)] = True
    if not allowed.any():
        raise UserError(
            "candidates: none of them is an item that the model knows; give ids of the catalogue"
        )
    return allowed[0] if len(lists) == 1 and num_people != 1 else allowed


def _pairs(catalogue: Catalogue, lists: Sequence[Ids], unknown: Unknown) -> list[tuple[int, int]]:
    """(person, item row) of all items that the lists of the people exclude."""
    return [
        (n, int(row))
        for n, ids in enumerate(lists)
        for row in known_rows(catalogue, ids, "exclude", unknown)
    ]


def _shared_or_each(ids: IdLists, num_people: int, argument: str) -> list[Ids]:
    """The lists of all people, or a single list that all share.

    Raises:
      UserError: the value of the argument is neither a list of ids nor one such list for each person.
    """
    if not is_list(ids):
        raise UserError(
            f"{argument}: {ids!r}; expected a list of item ids, or such a list for each person"
        )
    nested = [is_list(part) for part in ids]
    if not any(nested):
        return [cast(Ids, list(ids))]
    if not all(nested) or len(ids) != num_people:
        raise UserError(
            f"{argument}: {len(ids)} lists for {num_people} people; expected one list of ids, or one for each person"
        )
    return cast(list[Ids], list(ids))
