"""Checks folders and files that a user names, before anything is written into them."""

import os
import pathlib
import re
from collections.abc import Sequence

from grasp_jax.core.errors import UserError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|file:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATTERN = re.compile(r"[*?\[\]{}\\]")  # Orbax and TensorStore take names with these for patterns
SAVED_MODEL = "model.json"  # in every folder of a saved model
LONGEST_NAME = 255 - 40  # bytes of a folder or file; partial files have a suffix


def check_folder(name: str, flag: str) -> pathlib.Path:
    """A folder, new or old, that can be written into by what the program writes with.

    Args:
      name: as given.
      flag: what it was given to, "--workdir" or "config.knowledge.path".

    Raises:
      UserError: naming the flag, the name and what is wrong with it.
    """
    path = check_name(name, flag)
    if path.exists() and not path.is_dir():
        raise UserError(f"{flag}: {path} is a file; expected a folder, new or old")
    _check_parents(path, flag)
    return path


def check_earlier_folder(name: str, flag: str, expected: str) -> pathlib.Path:
    """A folder of an earlier run, from which a run takes over something that a saved model does not hold.

    Args:
      name: as given.
      flag: what it was given to.
      expected: what the folder should be, for the message.

    Raises:
      UserError: there is no such folder, or it is a saved model.
    """
    folder = pathlib.Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"{flag}: {folder}: there is no such folder; {expected}")
    if (folder / SAVED_MODEL).is_file():
        raise UserError(f"{flag}: {folder} is a saved model ({SAVED_MODEL}); {expected}")
    return folder


def other_files(folder: pathlib.Path, what: str) -> UserError:
    """The error that a folder in which something is to be written has files, but not of an earlier one: "saved model"."""
    return UserError(
        f"{folder}: holds other files and no {what}; name a new folder, or an empty one"
    )


def check_file(name: str, flag: str, suffixes: Sequence[str]) -> pathlib.Path:
    """A file to be written, whose suffix says how.

    Raises:
      UserError: naming the flag, the name and what is wrong with it.
    """
    path = check_name(name, flag)
    if path.suffix not in suffixes:
        raise UserError(
            f"{flag}: {name!r} ends in {path.suffix!r}; expected one of {', '.join(suffixes)}, which says the format"
        )
    if path.is_dir():
        raise UserError(
            f"{flag}: {path} is a folder; expected a file, such as {path / ('recommendations' + path.suffix)}"
        )
    _check_parents(path.parent, flag)
    return path


def check_name(name: str, flag: str) -> pathlib.Path:
    """A path of this machine, with nothing in it that a library takes for something else.

    Raises:
      UserError: it is empty, of a remote store, has characters of patterns or of control, or is too long.
    """
    if not name.strip():
        raise UserError(f"{flag}: {name!r} is empty; expected a path")
    if found := _CONTROL.search(name):
        raise UserError(
            f"{flag}: {name!r} holds the control character {found[0]!r}; expected a path without it"
        )
    if _SCHEME.match(name):
        raise UserError(
            f"{flag}: {name!r} is an address; expected a path of this machine: mount the store, or copy the result there"
        )
    if name.startswith("~"):
        raise UserError(
            f"{flag}: {name!r} begins with ~, which no shell expands there; expected the folder written out"
        )
    try:
        whole = pathlib.Path(name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{flag}: {name[:200]!r} cannot be followed ({error}); expected another path"
        ) from error
    for part in whole.parts[1:]:
        if found := _PATTERN.search(part):
            pattern = f"{part!r} of {str(whole)!r} holds {found[0]!r}, which makes it a pattern"
            raise UserError(f"{flag}: {pattern}; expected a path without *?[]{{}} and \\")
        if len(os.fsencode(part)) > LONGEST_NAME:
            raise UserError(
                f"{flag}: {part[:40]!r}... is {len(os.fsencode(part))} bytes long; expected names of at most {LONGEST_NAME}"
            )
    if len(os.fsencode(str(whole))) > 3500:
        raise UserError(
            f"{flag}: a path of {len(os.fsencode(str(whole)))} bytes; expected a shorter one"
        )
    return pathlib.Path(name)


def _check_parents(folder: pathlib.Path, flag: str) -> None:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(
            f"{flag}: {existing} is a file, so {folder} cannot be a folder; expected another path"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"{flag}: {existing} cannot be written to; expected another folder, or the right to write there"
        )
