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


def get(path: str, says: str, status: int = 422) -> Bad:
    return Bad("GET", path, None, status, says, {})


def of_bodies(name: str, route: tuple[str, str], good: dict[str, Any]) -> dict[str, Bad]:
    """Bodies that no route can read, sent to one of them; `good` is one that it can read."""
    bodies = {
        "half": (b'{"items": ["1"', "the body"),
        "no JSON": (b"items=1,2", "expected a JSON object"),
        "no UTF-8": (b'{"items": ["\xff\xfe"]}', "the body"),
        "half a surrogate": (b'{"path": "\\ud800", "items": ["\\ud800"]}', "the body"),
        "a deep list": (DEEP_LIST.encode(), "the body"),
        "a deep object": (DEEP_OBJECT.encode(), "the body"),
        "a list": (b'["1"]', "expected a JSON object"),
        "a text": (b'"1"', "expected a JSON object"),
        "null": (b"null", "expected a JSON object"),
        "a field that is none": (
            json.dumps({**good, "K": 3}).encode(),
            "'K': no such field; expected some of",
        ),
    }
    found = {
        f"{name}: {kind}": Bad(*route, content, 422, says)
        for kind, (content, says) in bodies.items()
    }
    form = {"content-type": "application/x-www-form-urlencoded"}
    found[f"{name}: a form"] = Bad(*route, b"k=3", 415, "expected application/json", form)
    packed = {**JSON, "content-encoding": "br"}
    found[f"{name}: compressed"] = Bad(*route, b"\x1f\x8b", 415, "not compressed", packed)
    large = b'{"items": ["%s"]}' % (b"y" * 70_000)
    found[f"{name}: too large"] = Bad(*route, large, 413, "more than 65,536 bytes")
    return found


DEEP_LIST, DEEP_OBJECT = "[" * 20_000 + "]" * 20_000, '{"a":' * 10_000 + "1" + "}" * 10_000
PUT, SIMILAR, RELOAD = ("PUT", "/items"), ("POST", "/similar"), ("POST", "/reload")
NEW = {"item": 7000, "title": "a"}

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
        {"users": ["nobody"], "unknown": "error"}, "'nobody' is not a user", 404
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
    "a user nan": text('{"users": [NaN]}', "users[0]: nan; expected an id"),
    "a user object": recommend({"users": [{"id": 1}]}, "users[0]: an object of 1; expected an id"),
    "a user of 70 bits": recommend({"users": [2**70]}, "more than 64 bits; expected an id"),
    "a user of 600 letters": recommend({"users": ["x" * 600]}, "expected an id: text of 1"),
    "too many users": recommend({"users": ["1"] * 21}, "users: 21; expected at most 20"),
    "histories as text": recommend({"histories": "1"}, "histories: '1'; expected a list"),
    "histories as number": recommend({"histories": 3}, "histories: 3; expected a list"),
    "histories as object": recommend({"histories": {"0": ["1"]}}, "an object of 1; expected a list"),
    "a history as text": recommend({"histories": ["12"]}, "histories[0]: '12'; expected a list"),
    "a history nested": recommend({"histories": [[["1"]]]}, "histories[0][0]: a list of 1; expected an id"),
    "an item null": recommend({"histories": [[None]]}, "histories[0][0]: null; expected an id"),
    "an item true": recommend({"histories": [[True]]}, "histories[0][0]: true; expected an id"),
    "an item 1.5": recommend({"histories": [[1.5]]}, "histories[0][0]: 1.5; expected an id"),
    "an empty item": recommend({"histories": [[""]]}, "histories[0][0]: ''; expected an id"),
    # the other fields
    "why negative": one("why: -1; expected at least 0", why=-1),
    "why 11": one("why: 11; expected at most 10", why=11),
    "why as text": one("why: '2'; expected a whole number", why="2"),
    "why true": one("why: true; expected a whole number", why=True),
    "why 1.5": one("why: 1.5; expected a whole number", why=1.5),
    "why null": one("why: null; expected a whole number", why=None),
    "why nan": text('{"histories": [["1"]], "why": NaN}', "why: nan; expected"),
    "k as list": one("k: a list of 1; expected a whole number", k=[3]),
    "k infinite": text('{"histories": [["1"]], "k": Infinity}', "k: inf; expected"),
    "candidates true": one("candidates: true; expected a list", candidates=True),
    "a candidate 1.5": one("candidates: holds 1.5; expected an id", candidates=[1.5]),
    "an empty candidate": one("candidates: holds ''; expected an id", candidates=[""]),
    "a candidate nested twice": one("candidates: holds a list of 1; expected an id", candidates=[[["1"]]]),
    "a candidate of 70 bits": one("more than 64 bits; expected an id", candidates=[2**70]),
    "exclude as text": one("exclude: '1'; expected a list", exclude="1"),
    "exclude an object of ids": one("exclude: an object of 1; expected a list", exclude={"1": 1}),
    "exclude null": one("exclude: holds null; expected an id", exclude=[None]),
    "exclude mixed": one("exclude: has ids and lists", exclude=["1", ["2"]]),
    "too many excluded": one("exclude: 501; expected at most 500", exclude=["1"] * 501),
    "exclude_seen a list": one("exclude_seen: a list of 0; expected true or false", exclude_seen=[]),
    "diversity null": one("diversity: null; expected a number", diversity=None),
    "diversity true": one("diversity: true; expected a number", diversity=True),
    "diversity infinite": text('{"histories": [["1"]], "diversity": 1e999}', "diversity: inf; expected"),
    "unknown null": one("unknown: null; expected 'popular' or 'error'", unknown=None),
    "unknown a number": one("unknown: 1; expected 'popular' or 'error'", unknown=1),
    "another letter case": one("'Exclude': no such field", Exclude=["1"]),
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
    "new item, a line break": to(*PUT, {"items": [{"item": "a\tb", "title": "a"}]}, "items[0]: \"item\" is 'a\\tb'; expected an id in"),
    "new item, blank id": to(*PUT, {"items": [{"item": "  ", "title": "a"}]}, '"item" is'),
    "new item, title twice": Bad(
        *PUT, b'{"items": [{"item": 7000, "title": "a", "title": "b"}]}', 422, "the body: 'title' is given twice"
    ),
    "k twice": text('{"histories": [["1"]], "k": 1, "k": 2}', "the body: 'k' is given twice; leave one out"),
    "a search by another name": get("/items?serch=soap", "'serch': no such parameter; expected some of search, k"),
    "new item, other ids": to(*PUT, {"items": [{"item": "x", "title": "a"}]}, "whole numbers"),
    "similar as text": to(*SIMILAR, {"items": "1"}, "items: '1'; expected a list"),
    "similar to null": to(*SIMILAR, {"items": [None]}, "items[0]: null; expected an id"),
    "similar to a list": to(*SIMILAR, {"items": [["1"]]}, "items[0]: a list of 1; expected an id"),
    "similar to true": to(*SIMILAR, {"items": [True]}, "items[0]: true; expected an id"),
    "similar to 1.5": to(*SIMILAR, {"items": [1.5]}, "items[0]: 1.5; expected an id"),
    "similar to 70 bits": to(*SIMILAR, {"items": [2**70]}, "more than 64 bits; expected an id"),
    "similar to no letters": to(*SIMILAR, {"items": [""]}, "items[0]: ''; expected an id"),
    "similar k zero": to(*SIMILAR, {"items": ["1"], "k": 0}, "k: 0; expected at least 1"),
    "similar k as text": to(*SIMILAR, {"items": ["1"], "k": "3"}, "k: '3'; expected a whole number"),
    "similar k null": to(*SIMILAR, {"items": ["1"], "k": None}, "k: null; expected a whole number"),
    "new items as object": to(*PUT, {"items": {"item": 7000}}, "items: an object of 1; expected a list"),
    "new items as text": to(*PUT, {"items": "7000"}, "items: '7000'; expected a list"),
    "new items missing": to(*PUT, {}, "items: is missing"),
    "new items, many": to(*PUT, {"items": [NEW] * 11}, "items: 11; expected at most 10"),
    "new item a list": to(*PUT, {"items": [["7000", "a"]]}, "items[0]: a list of 2; expected an object"),
    "new item, id null": to(*PUT, {"items": [{**NEW, "item": None}]}, '"item" is null; expected an id'),
    "new item, id true": to(*PUT, {"items": [{**NEW, "item": True}]}, '"item" is true; expected an id'),
    "new item, id 1.5": to(*PUT, {"items": [{**NEW, "item": 1.5}]}, '"item" is 1.5; expected an id'),
    "new item, id empty": to(*PUT, {"items": [{**NEW, "item": ""}]}, "\"item\" is ''; expected an id"),
    "new item, id long": to(*PUT, {"items": [{**NEW, "item": "x" * 600}]}, "expected an id: text of 1"),
    "new item, id of 70 bits": to(*PUT, {"items": [{**NEW, "item": 2**70}]}, "more than 64 bits"),
    "new item, title null": to(*PUT, {"items": [{**NEW, "title": None}]}, '"title" is null; expected text'),
    "new item, title 3": to(*PUT, {"items": [{**NEW, "title": 3}]}, '"title" is 3; expected text'),
    "new item, title a list": to(*PUT, {"items": [{**NEW, "title": ["a"]}]}, '"title" is a list of 1'),
    "new item, a flag": to(*PUT, {"items": [{**NEW, "new": True}]}, '"new" is true; expected text'),
    "new item, an object": to(*PUT, {"items": [{**NEW, "brand": {}}]}, '"brand" is an object of 0'),
    "new item, 70 bits": to(*PUT, {"items": [{**NEW, "price": 2**70}]}, '"price" is too large'),
    "new item, long column": to(*PUT, {"items": [{**NEW, "c" * 600: "a"}]}, "has the column"),
    "new item, odd column": to(*PUT, {"items": [{**NEW, "a\0b": "a"}]}, "has the column"),
    "new item, one good": to(*PUT, {"items": [NEW, {"item": 7001}]}, 'items[1]: has no "title"'),
    "removed nothing": Bad("DELETE", "/items/", None, 404, "no item has the id ''", {}),
    "removed a long id": Bad("DELETE", f"/items/{'x' * 3000}", None, 404, "no item has the id", {}),
    "removed unprintable": Bad("DELETE", "/items/a%00b", None, 404, "no item has the id", {}),
    "reload no letters": to(*RELOAD, {"path": ""}, "path: ''; expected text that is not empty"),
    "reload a long path": to(*RELOAD, {"path": "x" * 1001}, "expected at most 1000 characters"),
    "reload a list": to(*RELOAD, {"path": ["saved"]}, "path: a list of 1; expected text"),
    "reload true": to(*RELOAD, {"path": True}, "path: true; expected text"),
    "reload nowhere": to(*RELOAD, {"path": "no folder"}, "path: 'no folder' does not exist; expected a folder below", 403),
    "reload the home folder": to(*RELOAD, {"path": "~/model"}, "expected a folder below", 403),
    "search nothing": get("/items", "search: ''; expected 1 to 200 characters"),
    "search blanks": get("/items?search=%20%20", "expected 1 to 200 characters"),
    "search at length": get(f"/items?search={'x' * 201}", "expected 1 to 200 characters"),
    "search k zero": get("/items?search=a&k=0", "k: 0; expected a whole number from 1 to 30"),
    "search k negative": get("/items?search=a&k=-1", "k: '-1'; expected a whole number"),
    "search k large": get("/items?search=a&k=31", "k: 31; expected a whole number from 1 to 30"),
    "search k of 20 digits": get(f"/items?search=a&k={'9' * 20}", "expected a whole number"),
    "search k as text": get("/items?search=a&k=ten", "k: 'ten'; expected a whole number"),
    "search k 2.5": get("/items?search=a&k=2.5", "k: '2.5'; expected a whole number"),
    "search k in other digits": get("/items?search=a&k=%D9%A3", "expected a whole number"),
    "removed unknown": Bad("DELETE", "/items/nothing", None, 404, "no item has the id 'nothing'", {}),
    "removed a path": Bad("DELETE", "/items/..%2f..%2fetc", None, 404, "no item has the id", {}),
    "reload elsewhere": to(*RELOAD, {"path": "/etc"}, "path: '/etc'; expected a folder below", 403),
    "reload above": to(*RELOAD, {"path": "../.."}, "path: '../..'; expected a folder below", 403),
    "reload zero byte": to(*RELOAD, {"path": "a\0b"}, "expected a folder below", 403),
    "reload a number": to(*RELOAD, {"path": 3}, "path: 3; expected text"),
    "reload nothing there": to(*RELOAD, {"path": "empty"}, "neither a saved model"),
    "reload a damaged one": to(*RELOAD, {"path": "damaged"}, "checksum"),
    **of_bodies("similar", SIMILAR, {"items": ["1"]}),
    **of_bodies("new items", PUT, {"items": [NEW]}),
    **of_bodies("reload", RELOAD, {"path": "saved"}),
    # HTTP
    "PUT of a question": Bad("PUT", "/recommend", b"{}", 405, "expected POST"),
    "GET of similar items": get("/similar", "expected POST", 405),
    "GET of a reload": get("/reload", "expected POST", 405),
    "POST of items": Bad("POST", "/items", b"{}", 405, "expected GET, HEAD, PUT"),
    "POST to a probe": Bad("POST", "/health", b"{}", 405, "expected GET, HEAD"),
    "POST to the page": Bad("POST", "/", b"{}", 405, "expected GET, HEAD"),
    "DELETE of metrics": Bad("DELETE", "/metrics", None, 405, "expected GET, HEAD", {}),
    "GET of one item": get("/items/1", "expected DELETE", 405),
    "a path above": get("/..%2f..%2fetc/passwd", "no such path", 404),
    "a long path": get(f"/{'x' * 3000}", "no such path", 404),
    "no second model": to("POST", "/compare", {"histories": [["1"]]}, "--compare=FOLDER", 404),
    "a length that is no number": Bad(
        "POST", "/recommend", b"{}", 400, "content-length: expected", {**JSON, "content-length": "two"}
    ),
    "another path": Bad("GET", "/recommendations", None, 404, "no such path; /docs lists all", {}),
    "another method": Bad("GET", "/recommend", None, 405, "expected POST", {}),
    "DELETE of all": Bad("DELETE", "/items", None, 405, "expected GET, HEAD, PUT", {}),
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
