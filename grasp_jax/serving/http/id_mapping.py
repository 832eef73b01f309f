"""From the ids in a request to rows of a model, and from rows to the ids and titles in an answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.serving.answers import Answer, as_text, excludes_seen, known_rows
from grasp_jax.serving.http.requests import Recommend, Refused, Similar, shown
from grasp_jax.serving.http.snapshot import NO_ROWS, Person, ServingSnapshot
from grasp_jax.serving.http.source import UsersOfData


class RequestedPerson(NamedTuple):
    """A person for whom a request wants recommendations.

    Attributes:
      name: the id from the request, or the position in the list of histories.
      person: item rows; with an empty history if the model knows none of the items.
      passed_over: number of items of a history in the request that the model does not know.
    """

    name: Any
    person: Person
    passed_over: int


def requested_people(
    request: Recommend, snapshot: ServingSnapshot, users: UsersOfData | None
) -> list[RequestedPerson]:
    """All people of a request.

    Raises:
      UserError: an id is not known and `unknown` is "error", or the model knows no users.
    """
    count = len(request.histories if request.histories is not None else request.users or [])
    allowed = _rows_of_each(request, "candidates", count, snapshot)
    excluded = _rows_of_each(request, "exclude", count, snapshot)
    if request.candidates is not None and not any(
        rows is not None and len(rows) for rows in allowed
    ):
        raise Refused(
            422,
            "candidates: none of them is an item that the model knows; give ids of the catalogue",
        )
    exclude_seen = excludes_seen(request.exclude_seen, snapshot.artifact.config)
    people = []
    for n in range(count):
        if request.histories is not None:
            ids = request.histories[n]
            history = known_rows(snapshot.catalogue, ids, f"histories[{n}]", request.unknown)
            name, disliked, text_vectors, passed_over = n, NO_ROWS, None, len(ids) - len(history)
        else:
            assert request.users is not None
            name, passed_over = request.users[n], 0
            history, disliked, text_vectors = _of_user(name, users, request.unknown == "error")
        exclude = NO_ROWS if excluded[n] is None else excluded[n]
        if exclude_seen:
            exclude = np.concatenate([exclude, history, disliked])
        exclude = np.unique(exclude).astype(np.int32)
        person = Person(history, exclude, allowed[n], text_vectors, with_gates=request.why > 0)
        people.append(RequestedPerson(name, person, passed_over))
    return people


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


def _rows_of_each(
    request: Recommend, field: str, count: int, snapshot: ServingSnapshot
) -> list[Any]:
    """Item rows of the field `candidates` or `exclude` for each person; None if the request does not have the field."""
    value = getattr(request, field)
    if value is None:
        return [None] * count
    if not value or not isinstance(value[0], list):
        return [known_rows(snapshot.catalogue, value, field, request.unknown)] * count
    if len(value) != count:
        raise Refused(
            422,
            f"{field}: {len(value)} lists for {count} people; expected one list of ids, or one for each person",
        )
    return [
        known_rows(snapshot.catalogue, ids, f"{field}[{n}]", request.unknown)
        for n, ids in enumerate(value)
    ]


def requested_rows(request: Similar, snapshot: ServingSnapshot) -> list[int]:
    """Rows of the items in a request.

    Raises:
      Refused: an item is not known.
    """
    rows = [snapshot.catalogue.rows.get(as_text(name), -1) for name in request.items]
    if -1 in rows:
        name, example = shown(request.items[rows.index(-1)]), str(snapshot.catalogue.ids[0])
        raise Refused(
            404, f"items: no item has the id {name}; ids look like {example!r}; leave it out"
        )
    return rows


def as_json_items(
    answer: Answer, snapshot: ServingSnapshot, score: str = "score"
) -> list[dict[str, Any]]:
    """An answer for JSON; a missing score becomes null.

    Args:
      answer: item rows and scores.
      snapshot: the model, with ids and titles.
      score: what the answer calls the score.
    """
    ids = snapshot.catalogue.ids[answer.items].tolist()
    titles = snapshot.catalogue.titles[answer.items].tolist()
    scores: Sequence[float] = answer.scores.tolist()
    return [
        {"item": name, "title": title, score: value if value == value else None}
        for name, title, value in zip(ids, titles, scores, strict=True)
    ]
