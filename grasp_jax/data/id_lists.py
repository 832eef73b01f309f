"""Columns with several ids in each row, which would be read as one id: a whole history would become one item.

Titles and addresses as ids hold blanks too, so texts are lists only if most have three parts or more, all parts have one shape (N12345,
digits), and the same part stands at several places of the lists. Groups of one id are short and as many in each text: 06 12 34 56 78.
"""

import ast
import collections
import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from grasp_jax.core.errors import UserError
from grasp_jax.data.tables import SourceTable, shortened

SAMPLED = 2000  # distinct values
FEWEST = 3  # parts of a list
MANY = 6  # parts of a list of short numbers, since 06 12 34 56 78 may be one number
FEWEST_VALUES = 3  # distinct, for one or two texts may look like anything
LONG = 5  # digits of a number that is no part of a number
MOST_DIGITS = 17  # of a telephone number: 15 (ITU-T E.164), and 00 in place of its +
MOST_GROUPS = 12  # parts of one id; an IBAN has up to 9
ALIKE = 0.95  # share of the parts that have one shape
MOVED = 0.1  # share of the parts that stand at another place too
_BETWEEN = re.compile(r"[\s,;|]+")
_BRACKETS = re.compile(r"\s*[\[(].*[\])]\s*", re.DOTALL)
_FRACTION = re.compile(r"[+-]?\d+\.\d*")
_CODE = re.compile(r"([A-Za-z_-]*)\d+([-:]\d+)?")


def refuse_lists(table: SourceTable, name: str, text: pa.Array, codes: np.ndarray) -> None:
    """Refuses a column of texts if most are lists of ids.

    Args:
      table: with the column.
      name: the column.
      text: distinct values, in the order of their first rows.
      codes: [rows] place of each row's value in `text`.

    Raises:
      UserError: names the first row with a list.
    """
    values = text.slice(0, SAMPLED).to_pylist()
    filled = [value for value in values if value.strip()]
    if len(filled) < FEWEST_VALUES or not (_are_in_brackets(filled) or _are_lists(filled)):
        return
    first = max(
        range(len(values)), key=lambda place: (len(split_ids(values[place])) >= FEWEST, -place)
    )
    row = table.row(int((codes == first).argmax()))
    call = _splitting(values[first])
    begin = "import ast; " if "ast." in call else ""
    remedy = f"{begin}frame[{name!r}] = frame[{name!r}]{call}; frame = frame.explode({name!r})"
    raise UserError(
        f"{table.path}: row {row} has {shortened(values[first])} in column {name!r}, several ids at once, as most rows have; expected "
        f"one id, with a row for each user and item; in pandas: {remedy}"
    )


def column_of_lists(table: SourceTable, name: str, kind: pa.DataType, first: str) -> UserError:
    """The error of a column whose type is a list.

    Args:
      table: with the column.
      name: the column.
      kind: its type.
      first: its first value in words.
    """
    remedy = f"frame = frame.explode({name!r}, ignore_index=True)"
    if pa.types.is_struct(kind.value_type):
        fields = [kind.value_type.field(place).name for place in range(kind.value_type.num_fields)]
        remedy += f"; frame = frame.join(pandas.json_normalize(frame.pop({name!r}))), which makes columns of {', '.join(fields)[:60]}"
    return UserError(
        f"{table.path}: column {name!r} holds lists{first}; expected one id, with a row for each user and item; in pandas: {remedy}"
    )


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of lists."""
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)


def split_ids(value: str) -> list[str]:
    """The parts of a text between blanks, commas, semicolons and bars, without brackets and quotation marks."""
    parts = (part.strip("[]()'\"") for part in _BETWEEN.split(value))
    return [part for part in parts if part]


def _are_in_brackets(values: Sequence[str]) -> bool:
    """Whether the texts are lists as Python and JSON write them."""
    return any("," in value for value in values) and all(map(_is_in_brackets, values))


def _is_in_brackets(value: str) -> bool:
    """Whether a text is a list; (Smith, John) and [Foo, Bar] are names."""
    if not _BRACKETS.fullmatch(value):
        return False
    if _is_literal_list(value):
        return True
    return value.lstrip().startswith("[") and all(map(_shape, split_ids(value)))


def _is_literal_list(value: str) -> bool:
    """Whether Python reads a text as a list or tuple."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes in texts
            return isinstance(ast.literal_eval(value.strip()), list | tuple)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def _are_lists(values: Sequence[str]) -> bool:
    texts = [split_ids(value) for value in values]
    lists = [parts for parts in texts if len(parts) >= FEWEST]
    if 2 * len(lists) <= len(values):
        return False
    if not _are_alike([part for own in lists for part in own]):
        return False
    if _are_groups([parts for parts in texts if len(parts) > 1]):
        return False
    return _share_moved(lists) >= MOVED


def _are_alike(parts: Sequence[str]) -> bool:
    """Whether nearly all parts are ids of one kind: of one beginning and digits, or long and of one length, as those of Amazon."""
    shapes = collections.Counter(map(_shape, parts))
    words = shapes.pop("", 0)
    lengths = collections.Counter(len(part) for part in parts if _has_length_of_id(part))
    alike = max(*shapes.values(), *lengths.values(), 0, 0)
    return words <= (1 - ALIKE) * len(parts) and alike >= ALIKE * len(parts)


def _are_groups(texts: Sequence[Sequence[str]]) -> bool:
    """Whether the parts are groups of one id, such as 33 6 12 34 56 78 or C24|C16: short, and as many in each text; histories differ."""
    lists = [own for own in texts if len(own) >= FEWEST]
    parts = [part for own in lists for part in own]
    if 2 * sum(map(_is_long, parts)) >= len(parts):
        return False
    are_numbers = all(map(str.isdigit, parts))
    if are_numbers and 10 * sum(len(own) >= MANY for own in lists) < len(lists):
        return True
    if _are_phone_numbers(texts):
        return True
    count, times = collections.Counter(map(len, texts)).most_common(1)[0]
    if count > MOST_GROUPS or times < ALIKE * len(texts):
        return False
    same = [own for own in texts if len(own) == count]
    return are_numbers or all(map(_have_one_width, zip(*same, strict=True)))


def _are_phone_numbers(texts: Sequence[Sequence[str]]) -> bool:
    """Whether some texts have one part more than the others, the code of a country, as 06 12 34 56 78 and 33 6 12 34 56 78 do.

    Most codes are the same. Behind it, most numbers begin as one without a code does, but for its 0. Lists of ids write each id in one way,
    so they have no 06 next to 6. The groups behind have the same widths.
    """
    lengths = collections.Counter(map(len, texts))
    fewer = min((count for count, _ in lengths.most_common(2)), default=0)
    national, international = (
        [own for own in texts if len(own) == fewer + more] for more in (0, 1)
    )
    both = [*national, *international]
    if fewer < FEWEST or not international or len(both) < ALIKE * len(texts):
        return False
    if any(len("".join(own).lstrip("+")) > MOST_DIGITS for own in both):
        return False
    if not all(part.isdigit() for own in both for part in (own[0].lstrip("+"), *own[1:])):
        return False
    codes = collections.Counter(own[0] for own in international)
    begins = {own[0] for own in national}
    alike = sum("0" + own[1] in begins for own in international)
    ends = zip(*(own[1 - fewer :] for own in both), strict=True)
    most = len(international) / 2
    return max(codes.values()) >= most and alike > most and all(map(_have_one_width, ends))


def _have_one_width(parts: Sequence[str]) -> bool:
    """Whether nearly all parts have as many characters."""
    return max(collections.Counter(map(len, parts)).values()) >= ALIKE * len(parts)


def _shape(part: str) -> str:
    """What ids of one kind have in common; empty for a word and a number with a point, such as a coordinate."""
    if found := _CODE.fullmatch(part):
        return found[1] or "0"
    return f"{len(part)} characters" if _has_length_of_id(part) else ""


def _has_length_of_id(part: str) -> bool:
    """Whether a part with digits is so long that its length alone tells its kind."""
    return len(part) > 7 and any(map(str.isdigit, part)) and not _FRACTION.fullmatch(part)


def _is_long(part: str) -> bool:
    """Whether a part is an id of its own, such as N55262, and not a group of one."""
    return sum(map(str.isdigit, part)) >= LONG or _has_length_of_id(part)


def _share_moved(lists: Iterable[Sequence[str]]) -> float:
    """The share of all parts that stand at several places of lists; those of a composed id, such as shop, shelf and box, do not."""
    places: dict[str, set[int]] = collections.defaultdict(set)
    times: collections.Counter[str] = collections.Counter()
    for parts in lists:
        for place, part in enumerate(parts):
            places[part].add(place)
        times.update(parts)
    return sum(times[part] for part in times if len(places[part]) > 1) / times.total()


def _splitting(value: str) -> str:
    """The call of pandas that splits texts like this one."""
    if _BRACKETS.fullmatch(value):
        return ".map(ast.literal_eval)" if _is_literal_list(value) else r".str.findall(r'[\w-]+')"
    if not re.search("[,;|]", value):
        return ".str.split()"
    return (
        ".str.split(',')"
        if not re.search(r"[\s;|]", value)
        else r".str.split(r'[\s,;|]+', regex=True)"
    )
