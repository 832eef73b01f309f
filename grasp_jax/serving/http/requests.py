"""Bodies of requests: their fields, checks and limits, and the one line that says what is wrong with one."""

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.data.id_text import NOT_IN_IDS, trimmed
from grasp_jax.serving.http.settings import Limits

LONGEST_ID = 512
LONGEST_TEXT = 10_000  # characters of a title or another column
SHOWN = 60  # characters of a value in a message
EXPECTED_ID = f"expected an id: text of 1 to {LONGEST_ID} characters, or a whole number"
_INT64 = 2**63
_ID_SCHEMA = {"anyOf": [{"type": "string", "maxLength": LONGEST_ID}, {"type": "integer"}]}
_LIST_SCHEMA = {"type": "array", "items": _ID_SCHEMA}


class Refused(UserError):
    """A refused request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def as_refused(error: Exception) -> Refused:
    """The answer that the caller gets for an error."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, EndpointError):
        return Refused(
            503,
            "the server that encodes texts for this service does not answer as it should, so a new text cannot be encoded; try again later",
        )
    if isinstance(error, UserError):
        return Refused(422, str(error))
    return Refused(
        500,
        "a fault of the service, not of the request; its log says more under the x-request-id of this answer",
    )


def is_id(value: object) -> bool:
    """Whether a JSON value may be an id; blanks around it do not count."""
    if isinstance(value, str):
        return len(trimmed(value)) > 0 and len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64


def _an_id(value: Any) -> Any:
    if not is_id(value):
        raise ValueError(EXPECTED_ID)
    return value


def _id_lists(value: Any) -> Any:
    """One list of ids, or one list for each person."""
    if not isinstance(value, list):
        raise ValueError("expected a list of ids, or a list of such lists, one for each person")
    nested = [isinstance(own, list) for own in value]
    if any(nested) and not all(nested):
        raise ValueError("has ids and lists; expected ids alone, or one list for each person")
    for own in value if any(nested) else [value]:
        for name in own:
            if not is_id(name):
                raise ValueError(f"holds {shown(name)}; {EXPECTED_ID}")
    return value


def _a_new_item(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError('expected an object such as {"item": "B00A", "title": "Green soap"}')
    for needed in ("item", "title"):
        if needed not in value:
            raise ValueError(f'has no "{needed}"; expected "item", "title" and any further columns')
    if not is_id(value["item"]):
        raise ValueError(f'"item" is {shown(value["item"])}; {EXPECTED_ID}')
    if re.search(NOT_IN_IDS, trimmed(str(value["item"]))):
        raise ValueError(
            f'"item" is {shown(value["item"])}; expected an id in one line, without control characters'
        )
    for name, text in value.items():
        if len(name) > LONGEST_ID or not name.isprintable():
            raise ValueError(f"has the column {shown(name)}; expected a name of the items table")
        if name == "item":
            continue
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            raise ValueError(
                f'"{name}" has {len(text):,} characters; expected at most {LONGEST_TEXT:,}'
            )
        is_value = isinstance(text, str | int | float | None) and not isinstance(text, bool)
        if not is_value or (isinstance(text, float) and not math.isfinite(text)):
            raise ValueError(f'"{name}" is {shown(text)}; expected text, a number or null')
        if isinstance(text, int) and not -_INT64 <= text < _INT64:
            raise ValueError(f'"{name}" is too large; expected text, a number or null')
    if not isinstance(value["title"], str) or not value["title"].strip():
        raise ValueError(f'"title" is {shown(value["title"])}; expected text')
    return value


Id: TypeAlias = Annotated[Any, AfterValidator(_an_id), WithJsonSchema(_ID_SCHEMA)]
IdLists: TypeAlias = Annotated[
    Any,
    AfterValidator(_id_lists),
    WithJsonSchema({"anyOf": [_LIST_SCHEMA, {"type": "array", "items": _LIST_SCHEMA}]}),
]
NewItem: TypeAlias = Annotated[
    Any,
    AfterValidator(_a_new_item),
    WithJsonSchema(
        {
            "type": "object",
            "required": ["item", "title"],
            "properties": {"item": _ID_SCHEMA, "title": {"type": "string"}},
            "additionalProperties": {
                "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]
            },
        }
    ),
]


class Body(BaseModel):
    """A JSON object; unknown fields are refused, and numbers and texts are not converted into each other."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Recommend(Body):
    """Body of `POST /recommend`; fields as in `Recommender.recommend`."""

    users: list[Id] | None = Field(None, min_length=1, description="ids of users of the data")
    histories: list[list[Id]] | None = Field(
        None, min_length=1, description="in place of users: item ids of each person, oldest first"
    )
    k: int = Field(10, ge=1, description="items for each person, at most")
    candidates: IdLists | None = Field(None, description="item ids to choose from")
    exclude: IdLists | None = Field(None, description="item ids that are left out")
    exclude_seen: bool | None = Field(
        None,
        description="leave out what the person has had; null: as config.recommend.exclude_seen of the model",
    )
    diversity: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="0: the best items; 1: items as unlike each other as can be",
    )
    why: int = Field(
        0,
        ge=0,
        le=10,
        description="number of items of the history to return with each recommendation: those with the largest cosine to it. Methods "
        "with gates or with trust return these, too",
    )
    unknown: Literal["popular", "error"] = Field(
        "popular",
        description="popular: ignore unknown ids, and give popular items to a person without a known item; error: refuse the request",
    )


class Similar(Body):
    """Body of `POST /similar`."""

    items: list[Id] = Field(min_length=1, description="item ids")
    k: int = Field(10, ge=1, description="items for each, at most")


class NewItems(Body):
    """Body of `PUT /items`."""

    items: list[NewItem] = Field(
        min_length=1, description="id, title (text that is not empty) and further columns of each"
    )


class Reload(Body):
    """Body of `POST /reload`."""

    path: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="a folder below --models; without it, the present folder is loaded again",
    )


BodyType = TypeVar("BodyType", bound=Body)
_MESSAGES = {  # by the types of errors of pydantic
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a whole number of 64 bits",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "string_too_short": "expected text that is not empty",
    "string_too_long": "expected at most {max_length} characters",
    "list_type": "expected a list",
    "too_short": "expected {min_length} entry at least",
    "model_type": "expected a JSON object",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
}


def read(kind: type[BodyType], content: bytes, limits: Limits) -> BodyType:
    """Parses and checks the body of a request.

    Raises:
      Refused: the body is not JSON, has a field twice or one that is not allowed, or exceeds a limit.
    """
    try:
        body = kind.model_validate_json(content)
    except ValidationError as error:
        raise Refused(422, first_error(error, list(kind.model_fields))) from None
    json.loads(content, object_pairs_hook=_each_once)
    _check_limits(body, limits)
    return body


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    """Refuses a JSON object that has a name twice: parsers take either value."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Refused(422, f"the body: {shown(name)} is given twice; leave one out")
        seen.add(name)


def first_error(error: ValidationError, fields: list[str]) -> str:
    """The first error of a body, in one line."""
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    field, kind = _path(first["loc"]), first["type"]
    if kind == "json_invalid":
        return f'the body: {first["msg"]}; expected a JSON object such as {{"{fields[0]}": ...}}'
    if kind == "extra_forbidden":
        return f"{shown(field)}: no such field; expected some of {', '.join(fields)}"
    if kind == "missing":
        return f"{field}: is missing; expected some of {', '.join(fields)}"
    if kind in _MESSAGES:
        message = _MESSAGES[kind].format(**first.get("ctx", {}))
    else:
        message = first["msg"].removeprefix("Value error, ")
    value = f" {shown(first['input'])};" if message.startswith("expected") else ""
    return f"{field or 'the body'}:{value} {message}"


def shown(value: object) -> str:
    """A value in a message, cut short."""
    if isinstance(value, str):
        text = repr(value[:SHOWN])
        return f"{text}..." if len(value) > SHOWN else text
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _INT64:
        return "a whole number of more than 64 bits"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value)[:SHOWN]


def _path(location: tuple[int | str, ...]) -> str:
    """("histories", 0, 2) -> histories[0][2]."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f"{'.' if n else ''}{part}"
        for n, part in enumerate(location)
    )


def _check_limits(body: Body, limits: Limits) -> None:
    match body:
        case Recommend():
            people = [value for value in (body.users, body.histories) if value is not None]
            if len(people) != 1:
                raise Refused(
                    422,
                    "users, histories: expected one of them, a list of user ids or of lists of item ids",
                )
            name = "users" if body.users is not None else "histories"
            _at_most(name, len(people[0]), limits.people, "send several requests")
            for n, history in enumerate(body.histories or []):
                _at_most(
                    f"histories[{n}]",
                    len(history),
                    limits.history,
                    "give the newest items of the person",
                )
            if body.candidates == []:
                raise Refused(422, "candidates: an empty list; expected ids, or leave it out")
            for name in ("candidates", "exclude"):
                value = getattr(body, name) or []
                count = sum(len(part) if isinstance(part, list) else 1 for part in value)
                _at_most(name, count, limits.listed, "send several requests")
            _at_most("k", body.k, limits.k, "request fewer items")
        case Similar():
            _at_most("items", len(body.items), limits.people, "send several requests")
            _at_most("k", body.k, limits.k, "request fewer items")
        case NewItems():
            _at_most("items", len(body.items), limits.new_items, "send several requests")


def _at_most(name: str, count: int, limit: int, remedy: str) -> None:
    if count > limit:
        number = f"{count:,}" if count < _INT64 else "a number of more than 64 bits"
        raise Refused(422, f"{name}: {number}; expected at most {limit:,}; {remedy}")
