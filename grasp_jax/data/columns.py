"""Which column of a table has which role: the configured name in any case; an error about a missing column lists the existing ones."""

import pathlib
import re
from collections.abc import Collection, Mapping, Sequence

from grasp_jax.core.errors import UserError

Where = pathlib.Path | str  # the start of a message: a file, or a frame in words
DEFAULTS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
TIME_NAMES = {
    "timestamp",
    "timestamps",
    "time_stamp",
    "time",
    "ts",
    "date",
    "datetime",
    "date_time",
    "day",
    "event_time",
    "eventtime",
    "event_timestamp",
    "event_date",
    "unixreviewtime",
    "reviewtime",
    "created_at",
    "createdat",
    "created",
    "creation_time",
    "order_date",
    "order_time",
    "purchase_date",
    "purchase_time",
    "unix_time",
    "unixtime",
    "epoch",
    "t_dat",
    "utc",
    "when",
    "occurred_at",
    "updated_at",
    "visit_time",
    "click_time",
    "timestamp_ms",
    "time_ms",
    "invoicedate",
    "unix_timestamp",
}
# Words that make a name one of times, such as purchaseDate or TRANSACTION_DT.
TIME_WORDS = {"date", "time", "timestamp", "datetime", "ts", "dt", "day", "utc"}
# With one of these words the name is not of the moment of an interaction: it is of another moment, or of a part of the calendar.
OTHER_WORDS = {
    *("birth", "born", "release", "released", "publish", "published", "publication", "launch"),
    *("expiry", "expiration", "expires", "expire", "valid", "due", "limit", "upload", "uploaded"),
    *("delivery", "delivered", "shipping", "shipped", "ship", "shipment", "estimated", "arrival"),
    *("signup", "sign", "registration", "registered", "register", "joined", "join", "membership"),
    *("prev", "previous", "prior", "next", "since", "until", "before", "after", "zone", "offset"),
    *("of", "per", "part", "period", "slot", "week", "num", "number", "count", "is", "has"),
    *("diff", "difference", "delta", "gap", "sin", "cos", "name", "type", "format"),
    *("same", "up", "one", "bin", "norm"),
}
# A time with one of these words is a duration; a date (`last_watch_dt`) is not.
DURATION_WORDS = {
    *("play", "played", "watch", "watched", "listen", "listened", "read", "reading", "stay"),
    *(
        "dwell",
        "spent",
        "spend",
        "wait",
        "waiting",
        "response",
        "load",
        "loading",
        "run",
        "elapsed",
    ),
    *("total", "avg", "average", "mean", "median", "max", "min", "sum", "remaining", "left"),
    *("cook", "cooking", "prep", "preparation", "lead", "travel", "processing", "active", "idle"),
    *("screen", "length", "duration", "on", "in", "to", "real", "full", "first"),
    *("session", "engagement", "exposure", "reaction", "page", "video", "lap", "best", "show"),
    *("meal", "opening", "closing", "working", "bed", "prime"),
}
_JOINED_NAMES = {name.replace("_", "") for name in TIME_NAMES}
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# names in small letters without a mark between their words, such as eventdate
_JOINED_NAME = re.compile(
    "(event|order|purchase|transaction|trans|review|rating|visit|click|view|invoice|log|action|utc)"
    "(date|time|timestamp|datetime)"
)


def match(names: Collection[str], wanted: str) -> str | None:
    """The column `wanted`, or the only one that differs from it just in case or outer blanks; None if there is none."""
    if wanted in names:
        return wanted
    alike = [name for name in names if name.strip().casefold() == wanted.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def needed(names: Collection[str], wanted: str, setting: str, path: Where) -> str:
    """A column that must be there.

    Args:
      names: columns of the table.
      wanted: the configured name.
      setting: the config's field of it, for the message, such as "config.data.columns.user".
      path: the file or frame, for the message.

    Raises:
      UserError: it is not there; names the columns that are, and the field to set.
    """
    if not wanted:
        raise UserError(
            f"{path}: {setting} is empty; expected the name of one of its columns {listed(names)}"
        )
    found = match(names, wanted)
    if found is None:
        raise UserError(
            f"{path}: no column {wanted!r}; it has {listed(names)}; set {setting} to one of them"
        )
    return found


def time_name(names: Collection[str], wanted: str, path: Where) -> str | None:
    """The column of times, or None where the rows are in the order of time.

    Raises:
      UserError: the configured column is not there, or none is configured and another looks like one.
    """
    setting = "config.data.columns.timestamp"
    if not wanted:
        return None
    if wanted != DEFAULTS["timestamp"] or match(names, wanted):
        return needed(names, wanted, setting, path)
    alike = sorted(filter(is_time_name, names), key=lambda name: not is_usual_time_name(name))
    if alike:
        others = f", and so may {listed(alike[1:])}" if len(alike) > 1 else ""
        raise UserError(
            f"{path}: no column {wanted!r}, but {alike[0]!r} looks like one{others}; set {setting}={alike[0]}, "
            f"or {setting}='' for the order of the rows in the file; it has {listed(names)}"
        )
    return None


def is_time_name(name: str) -> bool:
    """Whether the name of a column suggests the time of an interaction.

    It is a usual one; or has one of `TIME_WORDS`, and no word that says that it is a duration or another moment. The values may be
    anything: `purchase_day` may count from 1 to 7.
    """
    if is_usual_time_name(name):
        return True
    words = {word.casefold() for word in _words(name)}
    found = words & TIME_WORDS
    if words & DURATION_WORDS:
        found -= {"time"}
    return bool(found) and not words & OTHER_WORDS


def is_usual_time_name(name: str) -> bool:
    """Whether a name is one of `TIME_NAMES`, with or without `_`, or like `eventdate`, or ends as `ordered_at` does, but not `born_at`."""
    joined = bare(name).replace("_", "")
    words = [word.casefold() for word in _words(name)]
    ends_in_at = len(words) > 1 and words[-1] == "at" and not OTHER_WORDS & {*words}
    return joined in _JOINED_NAMES or bool(_JOINED_NAME.fullmatch(joined)) or ends_in_at


def _words(name: str) -> list[str]:
    """The words of a name, without the type that RecBole writes behind a colon: 'purchaseDate' -> ['purchase', 'Date']."""
    return [word for word in _BETWEEN_WORDS.split(name.split(":")[0]) if word]


def rating_name(names: Collection[str], wanted: str, min_rating: float, path: Where) -> str | None:
    """The column of ratings; None where none is needed.

    Raises:
      UserError: `min_rating` needs one, or one is configured, and it is not there.
    """
    if min_rating > 0 or wanted not in ("", DEFAULTS["rating"]):
        return needed(names, wanted or DEFAULTS["rating"], "config.data.columns.rating", path)
    return None


def renamed(used: Mapping[str, str | None], wanted: Mapping[str, str]) -> list[str]:
    """Notes on columns whose spelling differs from the configured one."""
    return [
        f"column {name!r} is read as {wanted[purpose]!r}, which differs in case"
        for purpose, name in used.items()
        if name and wanted.get(purpose) and name != wanted[purpose]
    ]


def listed(names: Collection[str], most: int = 12) -> str:
    """'user, item, price and 3 more'."""
    shown = ", ".join(name[:60] for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "no columns"


def bare(name: str) -> str:
    """A name without case, blanks and the type that RecBole writes behind a colon."""
    return name.split(":")[0].strip().casefold().replace(" ", "_").replace("-", "_")


def some_of(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(name[:80] for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
