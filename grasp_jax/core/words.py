"""Values and lists in messages."""

from collections.abc import Collection, Sequence


def one_line(value: object, most: int = 200) -> str:
    """A value, such as an error, in one line of at most so many characters."""
    return " ".join(str(value).split())[:most]


def first_of(names: Collection[str], most: int = 8, longest: int = 80) -> str:
    """The first names, each cut at so many characters, and how many more there are: "user, item, price and 3 more"."""
    shown = ", ".join(name[:longest] for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def all_of(parts: Sequence[str]) -> str:
    """All of one or more parts: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
