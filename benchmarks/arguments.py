"""Flags that benchmarks share."""

import argparse
import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Iterable


def parser_of(module: str, about: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.MODULE`, with --quick and --out; a benchmark adds its own flags.

    Args:
      about: the module's docstring; its first line is the help.
    """
    about = (about or "").split("\n")[0].split(": python -m")[0]
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=about)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, to see that it runs; writes nothing unless --out is given",
    )
    parser.add_argument(
        "--out",
        type=place_of_record,
        help="JSON file, or folder for a file of the usual name (a new one: FOLDER/); by default the folder is benchmarks/results",
    )
    return parser


def place_of_record(text: str) -> pathlib.Path:
    """The file or folder in `--out`; a new folder, whose name ends with a slash, is made.

    Raises:
      argparse.ArgumentTypeError: it could be either, or cannot be made.
    """
    path = pathlib.Path(text)
    if text.endswith(("/", os.sep)):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r}: {error.strerror}; expected a folder, new or old"
            ) from None
    elif not path.exists() and path.suffix != ".json":
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected a JSON file, as in {text}.json, or a folder, a new one as in {text}/"
        )
    return path


def parser_of_pages(module: str, about: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.MODULE`, which writes pages or stores runs; it refuses what the program does not read.

    Args:
      about: the module's docstring, the help.
    """
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def names_of(
    parser: argparse.ArgumentParser, flag: str, value: str, known: Iterable[str]
) -> list[str]:
    """The names in a comma-separated flag; an unknown name ends the program with the parser's error and exit status 2."""
    names = value.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{flag}: {', '.join(unknown)}; expected some of {', '.join(known)}")
    return names


def number_from(least: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    """A reader of numbers from `least` on, for argparse; anything else raises ArgumentTypeError, which ends the program in one line."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError, OverflowError):
            if least <= kind(text) < math.inf:
                return kind(text)
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected a {'whole ' if kind is int else ''}number from {least} on"
        )

    return read
