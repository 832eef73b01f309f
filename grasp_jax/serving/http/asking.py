"""From the ids of a request to rows of a model, and from rows to the ids and titles of an answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.serving.answers import Answer, as_text, known_rows
from grasp_jax.serving.http.requests import Recommend, Refused, Similar, shown
from grasp_jax.serving.http.snapshot import NO_ROWS, Person, Snapshot
from grasp_jax.serving.http.source import UsersOfData


class Whose(NamedTuple):
    """A person of a request.

    Attributes:
      name: the id from the request, or the position in the list of histories.
      person: item rows; with an empty history if the model knows none of the items.
      passed_over: items of a given history that the model does not know.
    """

    name: Any
    person: Person
    passed_over: int


def people_of(asked: Recommend, snapshot: Snapshot, users: UsersOfData | None) -> list[Whose]:
    """All people of a request.

    Raises:
      UserError: an id is not known and `unknown` is "error", or the model knows no users.
    """
    count = len(asked.histories if asked.histories is not None else asked.users or [])
    allowed = _rows_for_each(asked, "candidates", count, snapshot)
    excluded = _rows_for_each(asked, "exclude", count, snapshot)
    if asked.candidates is not None and not any(own is not None and len(own) for own in allowed):
        raise Refused(
            422,
            "candidates: none of them is an item that the model knows; give ids of the catalogue",
        )
    found = []
    for n in range(count):
        if asked.histories is not None:
            given = asked.histories[n]
            history = known_rows(snapshot.catalogue, given, f"histories[{n}]", asked.unknown)
            name, disliked, queries, passed_over = n, NO_ROWS, None, len(given) - len(history)
        else:
            assert asked.users is not None
            name, passed_over = asked.users[n], 0
            history, disliked, queries = _of_user(name, users, asked.unknown == "error")
        left_out = NO_ROWS if excluded[n] is None else excluded[n]
        if asked.exclude_seen:
            left_out = np.concatenate([left_out, history, disliked])
        left_out = np.unique(left_out).astype(np.int32)
        person = Person(history, left_out, allowed[n], queries, with_gates=asked.why > 0)
        found.append(Whose(name, person, passed_over))
    return found


def _of_user(name: Any, users: UsersOfData | None, must_be_known: bool) -> tuple[Any, Any, Any]:
    """History, items rated low, and text vectors of a user."""
    if users is None:
        raise Refused(
            422,
            "users: a saved model holds no users; give histories, or start the service with --data=FOLDER or on the workdir of the run",
        )
    known = users.find(as_text(name))
    if known is None and must_be_known:
        raise Refused(
            404,
            f"users: {shown(name)} is not a user of the data; ids look like {users.example!r}; leave it out",
        )
    return known or (NO_ROWS, NO_ROWS, None)


def _rows_for_each(asked: Recommend, what: str, count: int, snapshot: Snapshot) -> list[Any]:
    """Item rows of `candidates` or `exclude` for each person; None if the request has none."""
    given = getattr(asked, what)
    if given is None:
        return [None] * count
    if not given or not isinstance(given[0], list):
        return [known_rows(snapshot.catalogue, given, what, asked.unknown)] * count
    if len(given) != count:
        raise Refused(
            422,
            f"{what}: {len(given)} lists for {count} people; expected one list of ids, or one for each person",
        )
    return [
        known_rows(snapshot.catalogue, own, f"{what}[{n}]", asked.unknown)
        for n, own in enumerate(given)
    ]


def rows_of_similar(asked: Similar, snapshot: Snapshot) -> list[int]:
    """Rows of the items of a request.

    Raises:
      Refused: an item is not known.
    """
    rows = [snapshot.catalogue.rows.get(as_text(name), -1) for name in asked.items]
    if -1 in rows:
        name, example = shown(asked.items[rows.index(-1)]), str(snapshot.catalogue.ids[0])
        raise Refused(
            404, f"items: no item has the id {name}; ids look like {example!r}; leave it out"
        )
    return rows


def listed(answer: Answer, snapshot: Snapshot, score: str = "score") -> list[dict[str, Any]]:
    """An answer for JSON; a missing score becomes null."""
    ids = snapshot.catalogue.ids[answer.items].tolist()
    titles = snapshot.catalogue.titles[answer.items].tolist()
    scores: Sequence[float] = answer.scores.tolist()
    return [
        {"item": name, "title": title, score: own if own == own else None}
        for name, title, own in zip(ids, titles, scores, strict=True)
    ]
