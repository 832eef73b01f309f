"""The result of one person of `POST /recommend`, by the model or by popularity."""

from typing import Any

from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.asking import Whose, listed
from grasp_jax.serving.http.diversity import diversified
from grasp_jax.serving.http.finding import most_alike, weights
from grasp_jax.serving.http.requests import Recommend
from grasp_jax.serving.http.snapshot import Snapshot


def by_model(asked: Recommend, whose: Whose, answer: Answer, snapshot: Snapshot) -> dict[str, Any]:
    """The result of a person with a known item; `answer` may have more items than the request wants."""
    answer = diversified(answer, snapshot.unit, asked.k, asked.diversity)
    items = listed(answer, snapshot)
    if asked.why:
        for place, (item, row) in enumerate(zip(items, answer.items.tolist(), strict=True)):
            item["why"] = most_alike(row, whose.person.history, asked.why, snapshot)
            item |= weights(place, answer, snapshot)
    return _result(whose, "model", items)


def by_popularity(asked: Recommend, whose: Whose, snapshot: Snapshot) -> dict[str, Any]:
    """The result of a person without a known item."""
    answer = snapshot.most_popular(asked.k, whose.person.left_out, whose.person.allowed)
    return _result(whose, "popularity", listed(answer, snapshot))


def _result(whose: Whose, by: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    passed_over = {"passed_over": whose.passed_over} if whose.passed_over else {}
    return {"user": whose.name, "by": by, **passed_over, "items": items}
