"""Whether the first line of a CSV or TSV is data, because the file has no header.

A true header must never be refused, so a name is a sign of data only if it looks like the values of its own column. A header of a wide
table may hold numbers or dates too (`user,2019,2020`), and a text may be equal to its header by chance.
"""

import itertools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from grasp_jax.core.errors import UserError
from grasp_jax.data.columns import DEFAULTS, Where, bare, listed, match
from grasp_jax.data.time_names import TIME_NAMES

FIRST_ROWS = 500  # in which names are looked for
MOST = 0.9  # share of the values of a column that must look like its name
ROLES = ("user", "item")
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}[- ][A-Za-z]{3}[- ]\d{4})([T ,].*)?"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} \d{1,2} .*\d{4}.*"
)
_SECONDS = re.compile(r"(1\d|[3-9])\d{8}((\d{3}){0,3}|\.\d*)")  # from 1979 to 2033, or finer
_FRACTION = re.compile(r"-?\d+[.,]\d*")

# what a name is as a value of its column, in the order in which a message names them
_KINDS = TIME, ID, CODE, NUMBER, WORD = "time", "id", "code", "number", "word"


class Sign(NamedTuple):
    """Why a name looks like data.

    Attributes:
      kind: TIME: a date, or seconds, in a column of these. ID: an id that stands again in its column of ids. CODE: a text with a digit that
        stands again. WORD: a text without one. NUMBER: a number in a column of numbers with as many digits.
      again: how often the name stands again in its column.
    """

    kind: str
    again: int


def refuse_first_line_of_data(
    path: Where,
    line: tuple[Sequence[str], str],
    columns: Sequence[Sequence[str] | None],
    wanted: Collection[str],
    roles: tuple[str, ...] = ROLES,
) -> None:
    """Refuses a file without a header.

    Args:
      path: the file, for the message.
      line: the fields of its first line, and the delimiter between them.
      columns: the first values of each column; None where they are not known.
      wanted: configured names of columns. If the line has none of them, weaker signs of data are enough.
      roles: what the first columns hold, for the header that the message shows.

    Raises:
      UserError: the first line is data.
    """
    fields, delimiter = [field.strip() for field in line[0]], line[1]
    signs = signs_of(fields, columns)
    if _may_be_header(fields, signs, wanted):
        return
    place = min(signs, key=lambda place: (_KINDS.index(signs[place].kind), place))
    again = ", which stands again in its column," if signs[place].again else ""
    shown = repr(fields[place][:60]) + again
    header = delimiter.join(suggested_header(fields, columns, signs, roles))
    header = header.replace("\t", "\\t") + (" (\\t: a tab)" if delimiter == "\t" else "")
    if any(is_known_name(field, roles) for field in fields):
        raise UserError(
            f"{path}: the first row is partly data ({shown} where a name should be: {listed(fields)}); expected a name for each column, "
            f"such as {header}; put that line above the first row of data, and its own values back into that row"
        )
    are_names = len(signs) < len(fields) and roles == ROLES
    instead = (
        "; if these are names of columns, set config.data.columns.user and .item instead"
        if are_names
        else ""
    )
    raise UserError(
        f"{path}: the first row looks like data ({shown} where a name should be: {listed(fields)}); expected a header, such as {header}; "
        f"check which column is which, and add it as the first line{instead}"
    )


def may_be_header(fields: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether a line may be a header, given the first values of each column."""
    fields = [field.strip() for field in fields]
    return _may_be_header(fields, signs_of(fields, columns), ROLES)


def are_numbers(fields: Sequence[str]) -> bool:
    """Whether all fields of a line are numbers."""
    return all(_NUMBER.fullmatch(field.strip()) for field in fields)


def _may_be_header(fields: Sequence[str], signs: dict[int, Sign], wanted: Collection[str]) -> bool:
    known = any(match(fields, name) for name in wanted if name)
    return not (is_data(fields, signs) if known else is_probably_data(fields, signs))


def signs_of(fields: Sequence[str], columns: Sequence[Sequence[str] | None]) -> dict[int, Sign]:
    """Position of a field -> why it looks like data; fields that do not are left out, and rows that are the whole line again."""
    found = {}
    for place, (field, values) in enumerate(zip(fields, _others(fields, columns), strict=True)):
        sign = field and values and not is_known_name(field) and _sign(field, values)
        if sign:
            found[place] = sign
    return found


def _others(
    fields: Sequence[str], columns: Sequence[Sequence[str] | None]
) -> Sequence[Sequence[str] | None]:
    """The columns without the rows that repeat the line: joined files repeat a header, and a log of purchases may repeat any row."""
    known = [column for column in columns if column is not None]
    if len(known) < len(columns):
        return columns
    rows = [row for row in zip(*known, strict=True) if [value.strip() for value in row] != fields]
    return [*zip(*rows, strict=True)] or [None] * len(columns)


def _sign(field: str, values: Sequence[str]) -> Sign | None:
    filled = [value.strip() for value in values if value.strip()]
    again = filled.count(field)
    if not filled or not (again or any(map(str.isdigit, field))):
        return None

    def do_most(pattern: re.Pattern[str]) -> bool:
        return sum(map(bool, map(pattern.fullmatch, filled))) >= MOST * len(filled)

    if any(pattern.fullmatch(field) and do_most(pattern) for pattern in (_DATE, _SECONDS)):
        return Sign(TIME, again)
    are_ids = len(set(filled)) > 2 and sum(map(_is_id, filled)) >= MOST * len(filled)
    if again and _is_id(field) and are_ids:
        return Sign(ID, again)
    if _NUMBER.fullmatch(field):
        alike = {_digits(value) for value in filled}
        return Sign(NUMBER, again) if do_most(_NUMBER) and _digits(field) in alike else None
    return Sign(CODE if any(map(str.isdigit, field)) else WORD, again) if again else None


def _is_id(value: str) -> bool:
    """Whether a value has the digits of an id, which names of columns do not have."""
    digits = sum(map(str.isdigit, value))
    return digits >= 5 or (digits >= 3 and any(map(str.isalpha, value)))


def _digits(number: str) -> int:
    """How many digits a number has before its point."""
    return len(re.split("[.,]", number.lstrip("-"))[0])


def is_data(fields: Sequence[str], signs: dict[int, Sign]) -> bool:
    """Whether the signs are such as no header has, so that the file must be refused even if the configured names are there."""
    counted = _counted(fields)
    left = [sign for place, sign in signs.items() if place not in counted]
    if any(sign.kind in (TIME, ID) for sign in signs.values()):
        return True
    again = [sign for sign in left if sign.kind in (CODE, WORD)]
    often = any(sign.again > 1 for sign in again)  # not by chance in a single row
    if len(again) > 1 and often and any(sign.kind == CODE for sign in again):
        return True
    numbers = [sign for sign in left if sign.kind == NUMBER]
    return len(numbers) == len(fields) > 1 and any(_digits(field) > 2 for field in fields)


def is_probably_data(fields: Sequence[str], signs: dict[int, Sign]) -> bool:
    """Whether the signs are such as a header seldom has; enough for a file without the configured names, which is refused anyway."""
    # 1,2 or u1,u2 alone are ids, but beside names such as kunde,artikel they are names too
    counted = _counted(fields)
    if len(counted | signs.keys()) == len(fields):
        counted = set()
    kinds = [sign.kind for place, sign in signs.items() if place not in counted]
    numbers = sorted(int(field) for field in fields if field.isdecimal())
    if numbers == list(range(len(fields))):
        return False  # as pandas names columns
    return (
        is_data(fields, signs)
        or CODE in kinds
        or kinds.count(WORD) > 1
        or 2 * kinds.count(NUMBER) >= len(fields)
    )


def _counted(fields: Sequence[str]) -> set[int]:
    """Positions of neighbours that are counted, such as 2019, 2020 or user1, user2: a header names columns so."""
    found: set[int] = set()
    parts = [re.fullmatch(r"(.*?)(\d{1,9})", field) for field in fields]
    for place, (one, other) in enumerate(itertools.pairwise(parts)):
        if one and other and one[1] == other[1] and int(one[2]) + 1 == int(other[2]):
            found |= {place, place + 1}
    return found


def is_known_name(field: str, roles: Collection[str] = ()) -> bool:
    """Whether a field is a usual name of a column; a title such as "Last Day" is none, though it has a word of times."""
    return match([*DEFAULTS, *roles], field) is not None or bare(field) in TIME_NAMES


def suggested_header(
    fields: Sequence[str],
    columns: Sequence[Sequence[str] | None],
    signs: dict[int, Sign],
    roles: tuple[str, ...],
) -> list[str]:
    """A name for each field: those of the line that are names, the roles, and `column3` for a column that may be anything."""
    names = [field if is_known_name(field, roles) else "" for field in fields]
    are_interactions = roles == ROLES

    def name(place: int | None, new: str) -> None:
        if place is not None and new not in names:
            names[place] = new

    if are_interactions and not TIME_NAMES & {bare(own) for own in names}:
        name(next((place for place in signs if signs[place].kind == TIME), None), "timestamp")
    for role in roles:
        free = [place for place, own in enumerate(names) if not own]
        texts = [place for place in free if any(map(str.isalpha, fields[place]))]
        ids = [place for place in free if not _FRACTION.fullmatch(fields[place])]
        likely = [*(texts if role == "title" else []), *ids, *free]
        name(next(iter(likely), None), role)
    if are_interactions:
        free = [place for place, own in enumerate(names) if not own]
        name(next((place for place in free if _are_stars(columns[place])), None), "rating")
    return [own or f"column{place + 1}" for place, own in enumerate(names)]


def _are_stars(values: Sequence[str] | None) -> bool:
    """Whether values are numbers from 0 to 10."""
    filled = [value.strip() for value in values or () if value.strip()]
    return bool(filled) and all(
        _NUMBER.fullmatch(value) and 0 <= float(value.replace(",", ".")) <= 10 for value in filled
    )
