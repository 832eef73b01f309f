"""The recommendations that an interrupted call has computed, so that the same call computes only the others.

While a file of many users is written, the folder `.NAME.parts` next to it receives a part for every `PART` users. A part counts only if its
checksum is right, and only for the same users, model and settings. The folder is removed when the file is complete.
"""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from grasp_jax import __version__
from grasp_jax.errors import UserError
from grasp_jax.evaluation.audience import Lists, Wanted
from grasp_jax.files import read_sealed, sha256, write_arrays, write_sealed
from grasp_jax.log import logger

PART = 65_536  # users of a part; fewer users are not worth a folder
MANIFEST = "parts.json"


class Parts:
    """The parts of one output file.

    Attributes:
      num_blocks: number of blocks of users that an interrupted call has stored.
    """

    def __init__(self, output: pathlib.Path, made_from: str) -> None:
        """Finds the parts of an earlier call.

        Args:
          output: the file of recommendations.
          made_from: fingerprint of everything that the recommendations depend on; other parts are removed when the first new one is stored.
        """
        self.folder = output.with_name(f".{output.name}.parts")
        self._made_from = made_from
        self._waiting: list[Lists] = []
        self._stored = self._found()

        self.num_blocks = sum(part["blocks"] for part in self._stored)

    def stored(self) -> Iterator[Lists]:
        """The first `num_blocks` blocks of users, in order."""
        for part in tuple(self._stored):
            with np.load(self.folder / part["file"], allow_pickle=False) as arrays:
                yield from _blocks(arrays)

    def add(self, block: Lists) -> None:
        """Takes the next block, and stores a part if there are enough users for one."""
        self._waiting.append(block)
        if sum(len(own.people) for own in self._waiting) >= PART:
            self._store()

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[dict[str, Any]]:
        """The parts in the manifest, up to the first that is damaged."""
        path = self.folder / MANIFEST
        if not path.exists():
            return []
        try:
            manifest = read_sealed(path, "it is written again")
        except UserError:
            manifest = {"made_from": "", "parts": []}
        found: list[dict[str, Any]] = []
        if manifest["made_from"] == self._made_from:
            for part in manifest["parts"]:
                file = self.folder / part["file"]
                if not file.is_file() or sha256(file) != part["sha256"]:
                    logger.warning(f"{file}: damaged; these users are computed again")
                    break
                found.append(part)
        return found

    def _store(self) -> None:
        if not self._stored:
            self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"part-{len(self._stored):05d}.npz"
        sizes = [len(own.people) for own in self._waiting]
        joined = Lists(*(np.concatenate(column) for column in zip(*self._waiting, strict=True)))
        write_arrays(file, sizes=np.array(sizes), **joined._asdict())
        self._stored.append({"file": file.name, "sha256": sha256(file), "blocks": len(sizes)})
        content = {"made_from": self._made_from, "parts": self._stored}
        write_sealed(self.folder / MANIFEST, content)
        self._waiting = []


def parts_of(
    output: pathlib.Path, made_from: Mapping[str, Any], users: np.ndarray, wanted: Wanted
) -> Parts | None:
    """The parts of an output file; None for a few users, and for several processes, which would have to agree on where to continue.

    Args:
      output: the file of recommendations.
      made_from: fingerprints of data and model.
      users: rows of the users.
      wanted: which items, and how many.
    """
    if len(users) < PART or jax.process_count() > 1:
        return None
    parts = Parts(output, _fingerprint(made_from, users, wanted))
    if parts.num_blocks:
        logger.info(f"continuing with the recommendations in {parts.folder}")
    return parts


def _fingerprint(made_from: Mapping[str, Any], users: np.ndarray, wanted: Wanted) -> str:
    """SHA-256 of everything that recommendations depend on."""
    found = hashlib.sha256(json.dumps([__version__, dict(made_from)], sort_keys=True).encode())
    settings = wanted.top_n, wanted.exclude_seen, wanted.user_block, wanted.item_block
    found.update(repr(settings).encode())
    for array in (users, wanted.allowed, wanted.excluded):
        shape = None if array is None else (array.shape, array.dtype.str)
        found.update(repr(shape).encode())
        found.update(b"" if array is None else array.tobytes())
    return found.hexdigest()


def _blocks(arrays: Mapping[str, np.ndarray]) -> Iterator[Lists]:
    """The blocks that a part joined."""
    ends = np.cumsum(arrays["sizes"])
    people, counts, items, scores = (arrays[name] for name in Lists._fields)
    rows = np.concatenate([[0], np.cumsum(counts)])  # first row of each person
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        own = slice(rows[first], rows[last])
        yield Lists(people[first:last], counts[first:last], items[own], scores[own])
