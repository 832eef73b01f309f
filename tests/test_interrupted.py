"""Recommendations that were interrupted: the next call computes only the other users, and ends with the same file."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from grasp_jax.core.files import HOST, write_sealed
from grasp_jax.data.log import InteractionLog
from grasp_jax.evaluation.audience import Wanted, best_items
from grasp_jax.serving import interrupted, recommend
from tests.test_recommend import ITEMS, TOP, Model, audience_of, log_of, model_of, serve

USERS = 40


@pytest.fixture(scope="module")
def shop() -> tuple[Model, InteractionLog]:
    """40 users with two to seven items, and a model of them."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(USERS), rng.integers(2, 8, USERS))
    items = [f"i{k}" for k in rng.integers(0, ITEMS, len(users))]
    log = log_of([f"u{user}" for user in users], items)
    return model_of(log), log


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first block that each call computed; blocks have three users, parts two blocks."""
    monkeypatch.setattr(interrupted, "PART", 4)
    firsts: list[int] = []
    whole = recommend.best_items

    def noted(audience: Any, users: Any, wanted: Any, first: int = 0) -> Iterator[Any]:
        firsts.append(first)
        return whole(audience, users, wanted, first)

    monkeypatch.setattr(recommend, "best_items", noted)
    return firsts


def interrupt(monkeypatch: pytest.MonkeyPatch, blocks: int, *given: Any, **options: Any) -> None:
    """Serves until some blocks are computed."""
    whole = recommend.best_items

    def ends(audience: Any, users: Any, wanted: Any, first: int = 0) -> Iterator[Any]:
        for count, block in enumerate(whole(audience, users, wanted, first)):
            if count == blocks:
                raise KeyboardInterrupt
            yield block

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recommend, "best_items", ends)
        serve(*given, **options)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_interrupted_call_continues(
    suffix: str,
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hours of work would be lost with a killed process; or the file would lack users, or hold them twice."""
    path, plain = tmp_path / f"r.{suffix}", tmp_path / f"plain.{suffix}"
    serve(*shop, plain)
    for blocks in (5, 4):  # two parts of two blocks and a block that is lost; then two more
        interrupt(monkeypatch, blocks, *shop, path)
    assert not path.exists()
    serve(*shop, path)
    assert begun == [0, 0, 4, 8] and path.read_bytes() == plain.read_bytes()
    assert not list(tmp_path.glob(".*")), "parts or partial files stay"


def test_parts_of_something_else_are_not_used(
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file would mix two models, two settings or two lists of users; or hold what a disk has changed."""
    path, plain = tmp_path / "r.csv", tmp_path / "plain.csv"
    first = {"made_from": {"model": "a"}}
    interrupt(monkeypatch, 7, *shop, path, **first)
    others: list[dict[str, Any]] = [
        {"made_from": {"model": "b"}},
        first | {"top_n": 3},
        first | {"exclude_seen": False},
        first | {"rows": np.arange(USERS)[::-1]},
    ]
    for other in others:
        interrupt(monkeypatch, 1, *shop, path, **other)
    assert begun == [0] * 5
    part = tmp_path / ".r.csv.parts" / "part-00001.npz"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    serve(*shop, path, **first)
    assert begun[-1] == 2, "the first part is whole"
    serve(*shop, plain, **first)
    assert path.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("content", ["{", None])
def test_a_manifest_that_cannot_be_read(
    content: str | None,
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that only saves time would stop the call: one that is no JSON, or that another version wrote in its own form."""
    path = tmp_path / "r.csv"
    interrupt(monkeypatch, 7, *shop, path)
    manifest = tmp_path / ".r.csv.parts" / "parts.json"
    if content is None:
        write_sealed(manifest, {"format": 2})
    else:
        manifest.write_text(content)
    serve(*shop, path)
    assert begun == [0, 0] and path.exists()


@pytest.mark.parametrize("other", ["replaces", "removes"])
def test_another_call_changes_the_parts_while_they_are_read(
    other: str,
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two calls on one output: the file would hold users twice and lack others, or the call would end because a file is missing."""
    path, plain = tmp_path / "r.csv", tmp_path / "plain.csv"
    serve(*shop, plain)
    interrupt(monkeypatch, 7, *shop, path)
    stored = interrupted.Parts.stored

    def changed(parts: interrupted.Parts) -> Iterator[Any]:
        for number, block in enumerate(stored(parts)):
            if number == 0:
                first, second = (parts.folder / f"part-0000{k}.npz" for k in range(2))
                second.unlink() if other == "removes" else shutil.copy(first, second)
            yield block

    monkeypatch.setattr(interrupted.Parts, "stored", changed)
    serve(*shop, path)
    assert begun == [0, 0, 2] and path.read_bytes() == plain.read_bytes()


def test_parts_that_cannot_be_written(
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the output can be written, a call would end for want of a folder that only saves time; a full disk still ends it at once."""
    path, plain = tmp_path / "r.csv", tmp_path / "plain.csv"
    serve(*shop, plain)
    (tmp_path / ".r.csv.parts").write_text("a file of that name")
    serve(*shop, path)
    assert path.read_bytes() == plain.read_bytes()
    assert caplog.text.count("not writable (File exists)") == 1

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(interrupted, "write_arrays", full)
    with pytest.raises(OSError, match="No space"):
        serve(*shop, tmp_path / "other.csv")


def test_what_a_killed_call_left_is_removed(
    shop: tuple[Model, InteractionLog], tmp_path: pathlib.Path
) -> None:
    """Each killed call would leave gigabytes that no one sees; or what another call is writing just now would be deleted."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, alive = os.getpid(), os.getppid()
    left = [f".r.csv.{HOST}-{pid}-0123abcd.partial" for pid in (dead.pid, mine)]
    kept = [
        f".r.csv.{HOST}-{alive}-0123abcd.partial",
        f".r.csv.00{HOST[2:]}x-{dead.pid}-0123abcd.partial",
        f".other.csv.{HOST}-{dead.pid}-0123abcd.partial",
        f".r.csv.{HOST}-{dead.pid}-notes.partial",
    ]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    serve(*shop, tmp_path / "r.csv")
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(kept)


@pytest.mark.parametrize("whole", [True, False])
def test_other_processes_store_parts(
    whole: bool,
    shop: tuple[Model, InteractionLog],
    tmp_path: pathlib.Path,
    begun: list[int],
) -> None:
    """Parts that end in another order would be mixed up, one that is missing be passed over, or all be computed again."""
    path, plain = tmp_path / "r.csv", tmp_path / "plain.csv"
    serve(*shop, plain)
    model, log = shop
    given = (audience_of(model, log), np.arange(USERS), Wanted(TOP, user_block=3))
    blocks = list(best_items(*given))

    def spread(parts: interrupted.Parts, num_blocks: int) -> None:
        assert num_blocks == len(blocks) == 14
        missing = dict(parts.missing(num_blocks, 5))
        parts.begin()
        for number in (2, 0, 1) if whole else (2, 0):
            own = [blocks[step] for step in missing.pop(number)]
            parts.add_stored(number, interrupted.store_part(parts.folder, number, own))
        assert parts.num_blocks == (14 if whole else 5)
        assert parts.missing(num_blocks, 5) == (
            [] if whole else [(1, range(5, 10)), (2, range(10, 14))]
        )

    serve(*shop, path, spread=spread)
    assert begun == [0] + [5] * (not whole) and path.read_bytes() == plain.read_bytes()
    assert not list(tmp_path.glob(".*"))
