"""The recommendations that an interrupted call has computed, so that the same call computes only the others.

While a file of many users is written, the folder `.NAME.parts` next to it receives a part for every `PART` users. A part counts only if its
checksum is right, and only for the same users, model and settings. The folder is removed when the file is complete.
"""

import hashlib
import io
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
from grasp_jax.files import disk_is_full, read_sealed, sha256, write_arrays, write_sealed
from grasp_jax.log import logger

PART = 65_536  # users of a part; fewer users are not worth a folder
MANIFEST = "parts.json"


class Parts:
    """The parts of one output file. They only save time: what is wrong with them is a warning, never an error; only a full disk is one."""

    def __init__(self, output: pathlib.Path, made_from: str) -> None:
        """Finds the parts of an earlier call.

        Args:
          output: the file of recommendations.
          made_from: fingerprint of everything that the recommendations depend on; other parts are removed when the first new one is stored.
        """
        self.folder = output.with_name(f".{output.name}.parts")
        self._made_from = made_from
        self._waiting: list[Lists] = []
        self._stored = self._listed()
        self._can_store = True

    @property
    def num_blocks(self) -> int:
        """Number of blocks of users that are stored; `stored` lowers it if a part is damaged."""
        return sum(part["blocks"] for part in self._stored)

    def stored(self) -> Iterator[Lists]:
        """The first `num_blocks` blocks of users, in order, up to the first part that is damaged."""
        for number, part in enumerate(tuple(self._stored)):
            file = self.folder / part["file"]
            content = _bytes_of(file)
            # compared when it is read, because another call may write the same output meanwhile
            if hashlib.sha256(content).hexdigest() != part["sha256"]:
                logger.warning(f"{file}: missing or damaged; these users are computed again")
                del self._stored[number:]
                return
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                yield from _blocks(arrays)

    def add(self, block: Lists) -> None:
        """Takes the next block, and stores a part if there are enough users for one."""
        if not self._can_store:
            return
        self._waiting.append(block)
        if sum(len(own.people) for own in self._waiting) < PART:
            return
        try:
            self._store()
        except OSError as error:
            if disk_is_full(error):
                raise
            reason = error.strerror or error
            logger.warning(
                f"{self.folder}: not writable ({reason}); if this call is interrupted, the next one computes all later users again"
            )
            self._can_store, self._waiting = False, []

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listed(self) -> list[dict[str, Any]]:
        """The parts in the manifest."""
        try:
            manifest = read_sealed(self.folder / MANIFEST, "it is written again")
        except UserError:  # there is none, or it cannot be read
            return []
        return list(manifest["parts"]) if manifest.get("made_from") == self._made_from else []

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


def _bytes_of(path: pathlib.Path) -> bytes:
    """The content of a file; nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _blocks(arrays: Mapping[str, np.ndarray]) -> Iterator[Lists]:
    """The blocks that a part joined."""
    ends = np.cumsum(arrays["sizes"])
    people, counts, items, scores = (arrays[name] for name in Lists._fields)
    rows = np.concatenate([[0], np.cumsum(counts)])  # first row of each person
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        own = slice(rows[first], rows[last])
        yield Lists(people[first:last], counts[first:last], items[own], scores[own])
