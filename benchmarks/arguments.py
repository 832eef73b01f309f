"""Flags that benchmarks share."""

import argparse
from collections.abc import Iterable


def names_of(parser: argparse.ArgumentParser, flag: str, value: str, known: Iterable[str]) -> list[str]:
    """The names in a comma-separated flag; the parser's error, exit status 2, for one that is not known."""
    names = value.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{flag}: {', '.join(unknown)}; expected some of {', '.join(known)}")
    return names
