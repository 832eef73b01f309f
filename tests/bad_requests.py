"""Requests that a service must refuse, each with the words that its answer must contain."""

import json
from typing import Any, NamedTuple

JSON = {"content-type": "application/json"}


class Bad(NamedTuple):
    """A request, the status of its answer and a part of its one line."""

    method: str
    path: str
    body: bytes | None
    status: int
    says: str
    headers: dict[str, str] = JSON


def recommend(body: Any, says: str, status: int = 422) -> Bad:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Bad("POST", "/recommend", content, status, says)


def one(says: str, status: int = 422, **fields: Any) -> Bad:
    """For one history, with a field that is wrong."""
    return recommend({"histories": [["1", "2"]], **fields}, says, status)


def text(body: str, says: str) -> Bad:
    return recommend(body.encode(), says)


def to(method: str, path: str, body: Any, says: str, status: int = 422) -> Bad:
    return Bad(method, path, json.dumps(body).encode(), status, says)


DEEP_LIST, DEEP_OBJECT = "[" * 20_000 + "]" * 20_000, '{"a":' * 10_000 + "1" + "}" * 10_000
PUT, SIMILAR, RELOAD = ("PUT", "/items"), ("POST", "/similar"), ("POST", "/reload")

BAD: dict[str, Bad] = {
    # no JSON
    "nothing": text("", "the body"),
    "half": text('{"histories": [["1"]', "the body"),
    "no JSON": text("histories=1,2", "expected a JSON object"),
    "single quotes": text("{'histories': [['1']]}", "the body"),
    "a comma too many": text('{"histories": [["1"],]}', "the body"),
    "two objects": text("{} {}", "the body"),
    "a zero byte": recommend(b'{"histories": [["\x00"]]}', "the body"),
    "no UTF-8": recommend(b'{"histories": [["\xff\xfe"]]}', "the body"),
    "half a surrogate": text('{"histories": [["\\ud800"]]}', "the body"),
    "UTF-16": recommend('{"histories": [["1"]]}'.encode("utf-16"), "the body"),
    "a deep list": text(DEEP_LIST, "the body"),
    "a deep object": text(DEEP_OBJECT, "the body"),
    "a deep history": text(f'{{"histories": {DEEP_LIST}}}', "the body"),
    "a number without end": text(f'{{"histories": [["1"]], "k": {"9" * 5000}}}', "the body"),
    "pickled": recommend(b"\x80\x04\x95\x00\x00\x00\x00", "the body"),
    # another type of body
    "a list": recommend([["1"]], "expected a JSON object"),
    "a text": recommend("1", "expected a JSON object"),
    "a number": recommend(3, "expected a JSON object"),
    "null": recommend(None, "expected a JSON object"),
    # who is asked for
    "nobody": recommend({}, "users, histories: expected one of them"),
    "k alone": recommend({"k": 3}, "users, histories: expected one of them"),
    "users and histories": recommend({"users": ["1"], "histories": [["1"]]}, "expected one of them"),
    "no users": recommend({"users": []}, "users: a list of 0; expected 1 entry"),
    "no histories": recommend({"histories": []}, "histories: a list of 0; expected 1 entry"),
    "a user as text": recommend({"users": "1"}, "users: '1'; expected a list"),
    "a user as object": recommend({"users": {"1": 1}}, "users: an object of 1; expected a list"),
    "a list of a user": recommend({"users": [["1"]]}, "users[0]: a list of 1; expected an id"),
    "a user null": recommend({"users": ["1", None]}, "users[1]: null; expected an id"),
    "a user true": recommend({"users": [True]}, "users[0]: true; expected an id"),
    "a user 1.5": recommend({"users": [1.5]}, "users[0]: 1.5; expected an id"),
    "an empty user": recommend({"users": [""]}, "users[0]: ''; expected an id"),
    "an unknown user": recommend(
        {"users": ["nobody"], "unknown": "error"}, "'nobody' is no user", 404
    ),
    "too many people": recommend({"histories": [["1"]] * 21}, "histories: 21; expected at most 20"),
    "a flat history": recommend({"histories": ["1", "2"]}, "histories[0]: '1'; expected a list"),
    "a history null": recommend({"histories": [["1"], None]}, "histories[1]: null; expected a list"),
    "an item nan": text('{"histories": [["1", NaN]]}', "histories[0][1]: nan; expected an id"),
    "an item infinite": text('{"histories": [[-Infinity]]}', "histories[0][0]: -inf; expected an id"),
    "an item 1e999": text('{"histories": [[1e999]]}', "histories[0][0]: inf; expected an id"),
    "an item object": recommend({"histories": [[{"id": 1}]]}, "histories[0][0]: an object of 1"),
    "an item of 70 bits": recommend({"histories": [[2**70]]}, "more than 64 bits; expected an id"),
    "an item of 600 letters": recommend({"histories": [["x" * 600]]}, "expected an id: text of 1"),
    "a long history": recommend({"histories": [["1"] * 101]}, "histories[0]: 101; expected at most 100"),
    "an unknown item": recommend(
        {"histories": [["1", "no item"]], "unknown": "error"}, "histories[0]: no item has the id"
    ),
    # the other fields
    "k zero": one("k: 0; expected at least 1", k=0),
    "k negative": one("k: -3; expected at least 1", k=-3),
    "k as text": one("k: '10'; expected a whole number", k="10"),
    "k true": one("k: true; expected a whole number", k=True),
    "k null": one("k: null; expected a whole number", k=None),
    "k 2.5": one("k: 2.5; expected a whole number", k=2.5),
    "k nan": text('{"histories": [["1"]], "k": NaN}', "k: nan; expected"),
    "k too large": one("k: 31; expected at most 30", k=31),
    "k of 70 bits": one("k: a number of more than 64 bits; expected at most 30", k=2**70),
    "candidates as text": one("candidates: '1'; expected a list", candidates="1"),
    "no candidates": one("candidates: an empty list", candidates=[]),
    "unknown candidates": one("candidates: none of them is an item", candidates=["no item"]),
    "candidates mixed": one("candidates: has ids and lists", candidates=["1", ["2"]]),
    "candidates for two": one("candidates: 2 lists for 1 people", candidates=[["1"], ["2"]]),
    "candidates null": one("candidates: holds null; expected an id", candidates=[None]),
    "too many candidates": one("candidates: 501; expected at most 500", candidates=["1"] * 501),
    "candidates in many lists": one("candidates: 600; expected", candidates=[["1"] * 600]),
    "exclude as number": one("exclude: 3; expected a list", exclude=3),
    "exclude an object": one("exclude: holds an object of 0", exclude=[{}]),
    "exclude for two": one("exclude: 2 lists for 1 people", exclude=[["1"], []]),
    "exclude unknown": one("exclude: no item has the id", exclude=["no item"], unknown="error"),
    "exclude_seen as text": one("exclude_seen: 'yes'; expected true or false", exclude_seen="yes"),
    "exclude_seen as number": one("exclude_seen: 1; expected true or false", exclude_seen=1),
    "diversity 2": one("diversity: 2; expected at most 1", diversity=2),
    "diversity negative": one("diversity: -0.1; expected at least 0", diversity=-0.1),
    "diversity as text": one("diversity: 'high'; expected a number", diversity="high"),
    "diversity nan": text('{"histories": [["1"]], "diversity": NaN}', "diversity: nan; expected"),
    "unknown as bool": one("unknown: true; expected 'popular' or 'error'", unknown=True),
    "unknown otherwise": one("unknown: 'skip'; expected 'popular' or 'error'", unknown="skip"),
    "a field that is none": one("'K': no such field; expected some of users, histories", K=3),
    "a field of Python": one("'__class__': no such field", __class__="x"),
    # other routes
    "similar to nothing": to(*SIMILAR, {"items": []}, "items: a list of 0; expected 1 entry"),
    "similar without items": to(*SIMILAR, {"k": 3}, "items: is missing"),
    "similar to unknown": to(*SIMILAR, {"items": ["no item"]}, "no item has the id 'no item'", 404),
    "similar k": to(*SIMILAR, {"items": ["1"], "k": 99}, "k: 99; expected at most 30"),
    "similar to many": to(*SIMILAR, {"items": ["1"] * 21}, "items: 21; expected at most 20"),
    "new item null": to(*PUT, {"items": [None]}, "items[0]: null; expected an object"),
    "new items none": to(*PUT, {"items": []}, "items: a list of 0; expected 1 entry"),
    "new item without id": to(*PUT, {"items": [{"title": "Soap"}]}, 'items[0]: has no "item"'),
    "new item without title": to(*PUT, {"items": [{"item": 7000}]}, 'items[0]: has no "title"'),
    "new item, blank title": to(*PUT, {"items": [{"item": 7000, "title": " "}]}, '"title" is'),
    "new item, nested": to(*PUT, {"items": [{"item": 7000, "title": "a", "tags": ["b"]}]}, '"tags"'),
    "new item, long": to(*PUT, {"items": [{"item": 7, "title": "a" * 10_001}]}, "10,001 characters"),
    "new item, known": to(*PUT, {"items": [{"item": 7, "title": "a"}]}, "recommended already", 409),
    "new item, twice": to(*PUT, {"items": [{"item": 7000, "title": "a"}] * 2}, "given twice"),
    "new item, other ids": to(*PUT, {"items": [{"item": "x", "title": "a"}]}, "whole numbers"),
    "removed unknown": Bad("DELETE", "/items/nothing", None, 404, "no item has the id 'nothing'", {}),
    "removed a path": Bad("DELETE", "/items/..%2f..%2fetc", None, 404, "no item has the id", {}),
    "reload elsewhere": to(*RELOAD, {"path": "/etc"}, "path: '/etc'; expected a folder below", 403),
    "reload above": to(*RELOAD, {"path": "../.."}, "path: '../..'; expected a folder below", 403),
    "reload zero byte": to(*RELOAD, {"path": "a\0b"}, "expected a folder below", 403),
    "reload a number": to(*RELOAD, {"path": 3}, "path: 3; expected text"),
    "reload nothing there": to(*RELOAD, {"path": "empty"}, "neither a saved model"),
    "reload a damaged one": to(*RELOAD, {"path": "damaged"}, "checksum"),
    # HTTP
    "another path": Bad("GET", "/recommendations", None, 404, "no such path; /docs lists all", {}),
    "another method": Bad("GET", "/recommend", None, 405, "expected POST", {}),
    "DELETE of all": Bad("DELETE", "/items", None, 405, "expected GET, PUT", {}),
    "PATCH": Bad("PATCH", "/recommend", b"{}", 405, "expected POST"),
    "no type": Bad("POST", "/recommend", b"{}", 415, "expected application/json", {}),
    "a form": Bad(
        "POST", "/recommend", b"k=3", 415, "expected", {"content-type": "application/x-www-form-urlencoded"}
    ),
    "compressed": Bad(
        "POST", "/recommend", b"\x1f\x8b", 415, "not compressed", {**JSON, "content-encoding": "gzip"}
    ),
    "too large": recommend({"histories": [["1"]], "x": "y" * 70_000}, "more than 65,536 bytes", 413),
}  # fmt: skip
