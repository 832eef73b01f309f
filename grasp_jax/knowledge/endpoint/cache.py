"""The cache of the answers of endpoints and local models: a journal that survives a killed process, and is compacted into Parquet shards.

Shards also survive a loss of power: they are on the disk before the journal is emptied. Of the journal, such a loss may take the answers of
about the last half minute, which the system has not written to the disk yet.

An answer is found by a hash of everything that it depends on (`answer_key`), so a changed prompt, model or parameter leads to a new
request, and an unchanged one never does. Each answer has a CRC, so that a flipped byte on the disk does not become another answer: the
request of a damaged journal line is sent again, and a damaged shard is refused. Memory has keys and positions, 24 bytes for each answer,
and a few shards of text. Keys are 16 bytes, handled as two [n, 2] uint64 halves; the index is sorted by the first.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import remove_left_behind, replacing, sync
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line

SHARD_ANSWERS = 16_384
SHARDS_IN_MEMORY = 4
READ_BATCH = 1024  # answers that are read while other threads wait for the lock
SCHEMA = pa.schema(
    [
        ("key", pa.binary(16)),
        ("text", pa.string()),
        ("status", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("answer_tokens", pa.int64()),
        ("crc", pa.uint32()),
    ]
)
COLUMNS_WITHOUT_CRC = SCHEMA.names[:-1]  # of shards of earlier versions, which are still read


class StoredAnswer(NamedTuple):
    """What came back for one prompt.

    Attributes:
      text: the text after `clean`; empty if there is none.
      status: "ok", or why the text is not used: one of `clean.STATUSES`.
      prompt_tokens, answer_tokens: as the endpoint counts them.
    """

    text: str
    status: str = "ok"
    prompt_tokens: int = 0
    answer_tokens: int = 0


def answer_key(prompt: str, model: str, parameters: dict[str, Any]) -> bytes:
    """16 bytes: the filled prompt holds template and fields, the parameters everything else that decides the answer, such as the server's
    address.
    """
    return hashlib.sha256(
        json.dumps([prompt, model, parameters], sort_keys=True).encode()
    ).digest()[:16]


def as_line(key: bytes, answer: StoredAnswer) -> tuple[bytes, int]:
    """The journal's line of an answer, without its end, and the CRC; a lone surrogate becomes a question mark."""
    line = json.dumps([key.hex(), *answer], ensure_ascii=False).encode("utf-8", errors="replace")
    return line, zlib.crc32(line)


class AnswerSink(Protocol):
    """Receives answers as they arrive: a cache, or an object that sends them to one."""

    def add(self, key: bytes, answer: StoredAnswer) -> None:
        """Stores one answer.

        Raises:
          UserError: it cannot be stored, because a disk is full or a folder cannot be written any more.
        """


class AnswerCache:
    """Answers in a folder; one process at a time may open it, with several threads.

    Raises:
      UserError: another process has the folder open, or a shard is not readable.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("w")
        except OSError as error:
            raise UserError(
                f"{folder}: cannot keep answers here ({error.strerror}); name another folder"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another process has these answers open; wait for it, or name another folder"
            ) from error
        self._thread_lock = threading.RLock()
        self._journal_path = folder / "journal.jsonl"
        self._pending: dict[bytes, StoredAnswer] = {}
        self._read_shard = functools.lru_cache(SHARDS_IN_MEMORY)(self._load_shard)
        try:
            self._index()
            self._recover()
        except (
            BaseException
        ):  # an object that was never made would hold the folder until it is collected
            self._lock_file.close()
            raise
        self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __enter__(self) -> "AnswerCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._keys) + len(self._pending)

    def add(self, key: bytes, answer: StoredAnswer) -> None:
        """Stores an answer by one write, which outlives this process from then on.

        Raises:
          UserError: the disk is full, or the folder cannot be written any more; nothing of this answer is stored, unless it was the
            writing of a shard that failed.
        """
        line, crc = as_line(key, answer)
        data = line[:-1] + b", %d]\n" % crc
        with self._thread_lock:
            with _disk_errors(self._journal_path):
                end = os.fstat(self._journal).st_size
                if os.write(self._journal, data) != len(data):
                    os.ftruncate(self._journal, end)  # or the next answer would end half a line
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._pending[key] = answer
            if len(self._pending) >= SHARD_ANSWERS:
                self._compact()

    def copy(self, keys: np.ndarray, others: np.ndarray) -> None:
        """Stores the answers of [n, 2] keys under [n, 2] others too; a key without an answer is skipped."""
        answered = ~self.missing(keys)
        for other, answer in zip(others[answered], self.read(keys[answered]), strict=True):
            self.add(other.tobytes(), answer)

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """[n, 2] keys -> [n] bool: not answered yet."""
        with self._thread_lock:
            found = self._places(keys) >= 0
            if self._pending:
                pending = (key.tobytes() in self._pending for key in keys)
                found |= np.fromiter(pending, bool, len(keys))
        return ~found

    def unanswered(self, keys: np.ndarray) -> np.ndarray:
        """[n, 2] keys -> rows whose requests must be sent: those without an answer, only the first of each key."""
        rows = np.flatnonzero(self.missing(keys))
        _, first = np.unique(keys[rows], axis=0, return_index=True)
        return rows[np.sort(first)]

    def read(self, keys: np.ndarray) -> Iterator[StoredAnswer]:
        """Answers of [n, 2] keys, in order.

        Raises:
          KeyError: a key has no answer.
          UserError: an answer differs from what was stored.
        """
        for begin in range(0, len(keys), READ_BATCH):
            part = keys[begin : begin + READ_BATCH]
            with self._thread_lock:
                found = [
                    self._read_one(key.tobytes(), int(place))
                    for key, place in zip(part, self._places(part), strict=True)
                ]
            yield from found

    def _read_one(self, key: bytes, place: int) -> StoredAnswer:
        """The answer at a place of `_places`; errors as of `read`."""
        if place < 0 or key in self._pending:  # which is newer
            return self._pending[key]
        shard, row = divmod(place, SHARD_ANSWERS)
        columns = self._read_shard(shard)
        with _shard_errors(self._shards[shard]):
            found = [columns[name][row].as_py() for name in columns]
            answer = StoredAnswer(*found[1 : len(COLUMNS_WITHOUT_CRC)])
            if len(found) > len(COLUMNS_WITHOUT_CRC) and as_line(key, answer)[1] != found[-1]:
                raise ValueError(f"row {row + 1} differs from what was kept")
        return answer

    def close(self) -> None:
        """Writes pending answers to a shard and releases the folder."""
        if self._journal >= 0:
            try:
                self._compact()
            finally:
                os.close(self._journal)
                self._journal = -1
                self._lock_file.close()

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """[n] int64 shard * SHARD_ANSWERS + row, -1 where no shard has the key."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._keys[:, 0], keys[:, 0]), len(self._keys) - 1)
        return np.where((self._keys[at] == keys).all(axis=1), self._place[at], -1)

    def _index(self) -> None:
        """Reads the keys of all shards."""
        self._shards = sorted(self.folder.glob("answers-*.parquet"))
        self._keys, self._place = np.empty((0, 2), np.uint64), np.empty(0, np.int64)
        keys, places = [self._keys], [self._place]
        for shard, path in enumerate(self._shards):
            keys.append(_shard_keys(path))
            places.append(shard * SHARD_ANSWERS + np.arange(len(keys[-1])))
        self._set_index(np.concatenate(keys), np.concatenate(places))

    def _set_index(self, keys: np.ndarray, places: np.ndarray) -> None:
        """Of a key with two answers, the one that was stored last counts."""
        order = np.argsort(keys[:, 0], kind="stable")
        keys, places = keys[order], places[order]
        last = np.ones(len(keys), bool)
        last[:-1] = (keys[1:] != keys[:-1]).any(axis=1)
        self._keys, self._place = keys[last], places[last]

    def _recover(self) -> None:
        """Recovers the answers that a killed process left in the journal."""
        if not self._journal_path.exists():
            return
        with _disk_errors(self._journal_path):
            self._pending = _read_journal(self._journal_path)
        known = as_keys(list(self._pending))
        places = self._places(known)
        for key, place in zip(known[places >= 0], places[places >= 0], strict=True):
            answer = self._pending.pop(key.tobytes())
            # equal: the process was killed after it wrote the shard and before it emptied the journal; otherwise the journal is newer
            if self._read_one(key.tobytes(), int(place)) != answer:
                self._pending[key.tobytes()] = answer
        self._compact()

    def _compact(self) -> None:
        """Moves pending answers into new shards, then empties the journal."""
        while self._pending:
            batch = list(self._pending.items())[:SHARD_ANSWERS]
            checks = [as_line(key, answer)[1] for key, answer in batch]
            columns = [
                [key for key, _ in batch],
                *zip(*(answer for _, answer in batch), strict=True),
                checks,
            ]
            # After the last one's number, not their count: one that was moved away must not let another be overwritten.
            number = int(self._shards[-1].stem.removeprefix("answers-")) + 1 if self._shards else 0
            path = self.folder / f"answers-{number:06d}.parquet"
            with _disk_errors(path):
                arrays = [
                    pa.array(column, kind)
                    for column, kind in zip(columns, SCHEMA.types, strict=True)
                ]
                remove_left_behind(path)
                with replacing(path) as partial:
                    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), partial)
                    sync(partial)
                sync(self.folder)
            places = len(self._shards) * SHARD_ANSWERS + np.arange(len(batch))
            self._shards.append(path)
            self._set_index(
                np.concatenate([self._keys, as_keys(columns[0])]),
                np.concatenate([self._place, places]),
            )
            for key, _ in batch:
                del self._pending[key]
        with _disk_errors(self._journal_path), contextlib.suppress(FileNotFoundError):
            os.truncate(self._journal_path, 0)

    def _load_shard(self, shard: int) -> dict[str, pa.ChunkedArray]:
        with _shard_errors(self._shards[shard]):
            table = pq.read_table(self._shards[shard])
            if table.column_names not in (COLUMNS_WITHOUT_CRC, SCHEMA.names):
                raise ValueError(f"columns {', '.join(table.column_names)}")
            return {name: table[name] for name in table.column_names}


def open_answers(folder: str) -> AnswerCache:
    """The cache in a folder that a config names."""
    return AnswerCache(pathlib.Path(os.path.expanduser(folder)))


def stored_keys(folder: pathlib.Path) -> set[bytes]:
    """Keys of all answers in a folder that no process has open; changes nothing there."""
    shards = [_shard_keys(path) for path in folder.glob("answers-*.parquet")]
    return {key.tobytes() for keys in shards for key in keys} | _read_journal(
        folder / "journal.jsonl"
    ).keys()


def _shard_keys(path: pathlib.Path) -> np.ndarray:
    """[n, 2] keys of a shard."""
    with _shard_errors(path):
        column = pq.read_table(path, columns=["key"])["key"]
        if column.type != SCHEMA.field("key").type or len(column) > SHARD_ANSWERS:
            raise ValueError(f"{len(column):,} keys of type {column.type}")
        return as_keys(column.to_pylist())


def _read_journal(path: pathlib.Path) -> dict[bytes, StoredAnswer]:
    """Answers of complete lines; lines that are incomplete (a killed process) or damaged are ignored."""
    found: dict[bytes, StoredAnswer] = {}
    damaged = []
    if path.exists():
        with _disk_errors(path):
            lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            if answered := _parsed(line):
                found[answered[0]] = answered[1]
            else:
                damaged.append(number)
    if damaged:
        logger.warning(
            f"{path}: line {damaged[0]} is no whole answer ({len(damaged)} such lines); the request of such a line is sent again when it "
            "is needed"
        )
    return found


def _parsed(line: bytes) -> tuple[bytes, StoredAnswer] | None:
    """Key and answer of a line of the journal; None where it is damaged. Earlier versions wrote no CRC."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        name, text, status, prompt_tokens, answer_tokens, *crc = json.loads(line.decode("utf-8"))
        key, answer = (
            bytes.fromhex(name),
            StoredAnswer(str(text), str(status), int(prompt_tokens), int(answer_tokens)),
        )
        if len(key) == 16 and crc in ([], [as_line(key, answer)[1]]):
            return key, answer
    return None


def as_keys(keys: Sequence[bytes]) -> np.ndarray:
    """[n] keys of 16 bytes -> [n, 2] uint64."""
    return np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)


@contextlib.contextmanager
def _shard_errors(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, LookupError, ValueError, TypeError) as error:
        reason = one_line(error)
        raise UserError(
            f"{path}: not a readable shard of answers ({reason}); move it away, and its prompts are sent again"
        ) from error


@contextlib.contextmanager
def _disk_errors(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; the answers so far are kept, so make room and run again"
        ) from error
