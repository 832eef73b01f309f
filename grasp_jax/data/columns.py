"""Which column of a table has which role: the configured name in any case; an error about a missing column lists the existing ones."""

import pathlib
from collections.abc import Collection, Mapping

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import first_of
from grasp_jax.data.time_names import is_time_name, is_usual_time_name

Where = pathlib.Path | str  # the start of a message: a file, or a frame in words
KINDS_OF_EVENTS = set(  # names of columns that say what a row is, such as a view or a purchase
    (
        "event event_type event_name type action action_type behavior behavior_type behaviour "
        "behaviour_type interaction interaction_type transaction_type feedback_type status "
        "order_status payment_status financial_status is_click is_purchase is_read"
    ).split()
)
DEFAULTS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}


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
        by_name = in_python(setting, "NAME")
        raise UserError(
            f"{path}: no column {wanted!r}; it has {listed(names)}; "
            + (
                f"rename one of them, or give Dataset.from_frames {by_name}"
                if isinstance(path, str)
                else f"set {setting} to one of them (in Python: {by_name})"
            )
        )
    return found


def in_python(setting: str, value: str) -> str:
    """The argument of `Dataset.read` and `from_frames` that sets a field: columns={'user': NAME}, or title_column=NAME."""
    section, _, name = setting.removeprefix("config.data.").rpartition(".")
    return f"{section}={{{name!r}: {value}}}" if section else f"{name}={value}"


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
        if isinstance(path, str):
            raise UserError(
                f"{path}: no column {wanted!r}, but {alike[0]!r} looks like one{others}; pass {in_python(setting, repr(alike[0]))}, "
                f"or '' in its place for the order of the rows; it has {listed(names)}"
            )
        raise UserError(
            f"{path}: no column {wanted!r}, but {alike[0]!r} looks like one{others}; set {setting}={alike[0]}, "
            f"or {setting}='' for the order of the rows in the file; it has {listed(names)}"
        )
    return None


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
    return first_of(names, most, 60) or "no columns"


def bare(name: str) -> str:
    """A name without case, blanks and the type that RecBole writes behind a colon."""
    return name.split(":")[0].strip().casefold().replace(" ", "_").replace("-", "_")


def names_kinds(name: str) -> bool:
    """Whether a column is called as those that tell kinds of events apart."""
    return bare(name) in KINDS_OF_EVENTS
