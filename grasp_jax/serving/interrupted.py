"""The recommendations that an interrupted call has computed, so that the same call computes only the others.

While a file of many users is written, the folder `.NAME.parts` next to it receives a part for every `PART` users. A part counts only if its
checksum is right, and only for the same users, model and settings. The folder is removed when the file is complete.

Other processes may compute parts too (`launch/ray_recommend.py`); the process that writes the file then reads them in their order.
"""

import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from grasp_jax import __version__
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import disk_is_full, read_sealed, sha256, write_arrays, write_sealed
from grasp_jax.core.log import logger
from grasp_jax.evaluation.audience import Lists, Wanted, num_blocks

PART = 65_536  # users of a part; fewer users are not worth a folder
MANIFEST = "parts.json"


class Parts:
    """The parts of one output file. They only save time, so a fault of them is a warning; only a full disk is an error."""

    def __init__(self, output: pathlib.Path, made_from: str) -> None:
        """Finds the parts of an earlier call.

        Args:
          output: the file of recommendations.
          made_from: fingerprint of everything that the recommendations depend on; other parts are removed when the first new one is stored.
        """
        self.folder = output.with_name(f".{output.name}.parts")
        self.made_from = made_from
        self._waiting: list[Lists] = []
        # parts of other processes, by their numbers
        self._out_of_order: dict[int, dict[str, Any]] = {}
        self._stored = self._in_manifest()
        self._can_store = True

    @property
    def count(self) -> int:
        """Number of parts that are stored."""
        return len(self._stored)

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
        """Adds the next block, and stores a part if there are enough users for one."""
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

    def missing(self, num_blocks: int, size: int) -> list[tuple[int, range]]:
        """Numbers and blocks of the parts that are not stored yet, of `size` blocks each; `num_blocks` is that of all users."""
        starts = range(self.num_blocks, num_blocks, size)
        return [
            (number, range(start, min(start + size, num_blocks)))
            for number, start in enumerate(starts, self.count)
        ]

    def begin(self) -> None:
        """Makes the folder for further parts, without the parts of anything else."""
        if not self._stored:
            self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)

    def add_stored(self, number: int, part: dict[str, Any]) -> None:
        """Adds a part that another process has stored by `store_part`; it counts when all parts before it are there."""
        self._out_of_order[number] = part
        while (following := self._out_of_order.pop(self.count, None)) is not None:
            self._add_to_manifest(following)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _in_manifest(self) -> list[dict[str, Any]]:
        """The parts in the manifest."""
        try:
            manifest = read_sealed(self.folder / MANIFEST, "it is written again")
        except UserError:  # there is none, or it cannot be read
            return []
        return list(manifest["parts"]) if manifest.get("made_from") == self.made_from else []

    def _store(self) -> None:
        self.begin()
        self._add_to_manifest(store_part(self.folder, self.count, self._waiting))
        self._waiting = []

    def _add_to_manifest(self, part: dict[str, Any]) -> None:
        """Adds a part to the manifest."""
        self._stored.append(part)
        content = {"made_from": self.made_from, "parts": self._stored}
        write_sealed(self.folder / MANIFEST, content)


Spread = Callable[[Parts, int], None]
"""The parts of a file, and the number of all its blocks: lets other processes store the parts that are missing."""


def store_part(folder: pathlib.Path, number: int, blocks: Sequence[Lists]) -> dict[str, Any]:
    """Writes a part, and returns what the manifest says of it."""
    file = folder / f"part-{number:05d}.npz"
    sizes = [len(own.people) for own in blocks]
    joined = Lists(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
    write_arrays(file, sizes=np.array(sizes), **joined._asdict())
    return {"file": file.name, "sha256": sha256(file), "blocks": len(sizes)}


def parts_of_output(
    output: pathlib.Path,
    made_from: Mapping[str, Any],
    users: np.ndarray,
    wanted: Wanted,
    spread: Spread | None = None,
) -> Parts | None:
    """The parts of an output file; None for a few users, and for several processes, which would have to agree on where to continue.

    Args:
      output: the file of recommendations.
      made_from: fingerprints of data and model.
      users: rows of the users.
      wanted: which items, and how many.
      spread: what lets others compute the parts, however few the users are; None: this process computes them.
    """
    if jax.process_count() > 1 or (len(users) < PART and spread is None):
        return None
    parts = Parts(output, fingerprint_of(made_from, users, wanted))
    if parts.num_blocks:
        logger.info(f"continuing with the recommendations in {parts.folder}")
    if spread is not None:
        spread(parts, num_blocks(users, wanted))
    return parts


def fingerprint_of(made_from: Mapping[str, Any], users: np.ndarray, wanted: Wanted) -> str:
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
