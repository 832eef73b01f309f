"""The result of one person of `POST /recommend`, by the model or by popularity."""

from typing import Any

from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.diversity import diversified
from grasp_jax.serving.http.explanations import gates_and_trust, most_similar_in_history
from grasp_jax.serving.http.id_mapping import RequestedPerson, as_json_items
from grasp_jax.serving.http.requests import Recommend
from grasp_jax.serving.http.snapshot import ServingSnapshot


def by_model(
    request: Recommend, requested: RequestedPerson, answer: Answer, snapshot: ServingSnapshot
) -> dict[str, Any]:
    """The result of a person with a known item; `answer` may have more items than the request wants."""
    answer = diversified(answer, snapshot.unit, request.k, request.diversity)
    items = as_json_items(answer, snapshot)
    if request.why:
        history = requested.person.history
        for position, (item, row) in enumerate(zip(items, answer.items.tolist(), strict=True)):
            item["why"] = most_similar_in_history(row, history, request.why, snapshot)
            item |= gates_and_trust(position, answer, snapshot)
    return _result(requested, "model", items)


def by_popularity(
    request: Recommend, requested: RequestedPerson, snapshot: ServingSnapshot
) -> dict[str, Any]:
    """The result of a person without a known item."""
    person = requested.person
    answer = snapshot.most_popular(request.k, person.excluded, person.allowed)
    return _result(requested, "popularity", as_json_items(answer, snapshot))


def _result(requested: RequestedPerson, by: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    passed_over = {"passed_over": requested.passed_over} if requested.passed_over else {}
    return {"user": requested.name, "by": by, **passed_over, "items": items}
