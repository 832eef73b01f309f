"""Fitted state in a folder: settings as sealed JSON, arrays as .npy files with their checksums; no pickle."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    checksums,
    first_damaged,
    read_array,
    read_sealed,
    write_array,
    write_sealed,
)

STATE = "state.json"
FORMAT_VERSION = 1
REMEDY = "copy the whole folder again, or prepare the knowledge bank again"


class State(NamedTuple):
    """A state that `write_state` wrote.

    Attributes:
      settings: plain JSON.
      arrays: name -> read-only, memory-mapped array.
    """

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]


def write_state(
    folder: pathlib.Path,
    kind: str,
    settings: Mapping[str, object],
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a state; `STATE` comes last, so a folder that has it is complete.

    Args:
      folder: new, or of an earlier state, which is replaced.
      kind: what the state is of, such as the name of an encoder.
      settings: plain JSON.
      arrays: by names that may stand in a file's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STATE).unlink(missing_ok=True)
    names = [f"{name}.npy" for name in arrays or {}]
    for name, array in (arrays or {}).items():
        write_array(folder / f"{name}.npy", np.ascontiguousarray(array))
    content = {"format": FORMAT_VERSION, "kind": kind, "settings": dict(settings)}
    write_sealed(folder / STATE, {**content, "files": checksums(folder, names) if names else {}})


def read_state(folder: pathlib.Path, kind: str | None = None) -> State:
    """Opens a state and compares every file with its checksum.

    Raises:
      UserError: a file is missing or is not as it was written, or the state is of another kind or of a
        later version.
    """
    content = read_content(folder)
    if kind is not None and content["kind"] != kind:
        raise UserError(
            f"{folder / STATE}: the state of {content['kind']!r}; expected that of {kind!r}; {REMEDY}"
        )
    if damage := first_damaged(folder, content["files"]):
        raise UserError(f"{damage}, by the checksum in {folder / STATE}; {REMEDY}")
    names = [name.removesuffix(".npy") for name in content["files"]]
    return State(
        content["settings"],
        {name: read_array(folder / f"{name}.npy", REMEDY, "r") for name in names},
    )


def read_content(folder: pathlib.Path) -> dict[str, Any]:
    """The sealed part of a state: "kind", "settings" and "files".

    Raises:
      UserError: it is missing, damaged or of a later version.
    """
    content = read_sealed(folder / STATE, REMEDY)
    if content.get("format") != FORMAT_VERSION:
        version = f"format {content.get('format')}; this version reads {FORMAT_VERSION}"
        raise UserError(f"{folder / STATE}: {version}; {REMEDY}")
    return content
