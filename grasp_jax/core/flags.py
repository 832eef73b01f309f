"""Command lines parsed by argparse, whose errors are one line, as for all other input."""

import argparse
from typing import Any, NoReturn

from grasp_jax.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        expected = f"expected {self.usage}; " if self.usage else ""
        raise UserError(f"{self.prog}: {message}; {expected}{self.prog} --help lists the flags")


class Once(argparse.Action):
    """Stores a value, as argparse does, but refuses a second one, of which argparse would silently keep the last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Raises argparse.ArgumentError if there is a value already."""
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given more than once; expected one value")
        setattr(namespace, self.dest, values)


def command_parser(usage: str, description: str, examples: str) -> Parser:
    """The parser of a command that begins with two words, such as "grasp-jax init".

    Args:
      usage: its form, "grasp-jax init FOLDER [--out=FILE.py]".
      description, examples: what --help prints before and after the flags, as they stand.
    """
    made = Parser(
        prog=" ".join(usage.split()[:2]),
        usage=usage,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    made.add_argument("-h", "--help", "-help", action="help", help="prints this text")
    return made


def filled(text: str) -> str:
    """The type of a value that is not empty.

    Raises:
      argparse.ArgumentTypeError: it is.
    """
    if not text:
        raise argparse.ArgumentTypeError("empty; expected a value")
    return text
