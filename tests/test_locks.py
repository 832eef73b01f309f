"""Locks: only one process works at a time, and a lock ends with its holder."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from grasp_jax.core import locks
from grasp_jax.core.locks import only_one
from tests.refusal import assert_names, refusal


def enter(path: pathlib.Path) -> None:
    with only_one(path, "wait for it"):
        pass


def test_a_held_lock_names_its_holder(tmp_path: pathlib.Path) -> None:
    """Two runs would write into one folder."""
    path = tmp_path / "run" / ".lock"
    with only_one(path, "wait for it"):
        assert_names(
            refusal(enter, path),
            (str(path), f"process {os.getpid()} on {socket.gethostname()}", "wait for it"),
        )
    enter(path)
    assert not list(path.parent.iterdir()), "nothing stays"


def test_a_killed_holder_is_followed(tmp_path: pathlib.Path) -> None:
    """After kill -9 nobody could go on."""
    path = tmp_path / ".lock"
    program = f"import pathlib, os, grasp_jax.core.locks as l\nwith l.only_one(pathlib.Path({str(path)!r}), ''): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert path.exists()
    enter(path)
    assert not list(tmp_path.iterdir())


def test_a_pid_that_was_used_again(tmp_path: pathlib.Path) -> None:
    """A lock of a process long dead would be honoured because another now has its number."""
    path = tmp_path / ".lock"
    path.write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "another boot-12"})
    )
    enter(path)


def test_a_lock_that_cannot_be_read_is_refused(tmp_path: pathlib.Path) -> None:
    """Another user's lock that only they may read would be tried again for ever, at full speed."""
    path = tmp_path / ".lock"
    path.mkdir()  # root, who runs tests in containers, may read every file
    assert_names(refusal(enter, path), (str(path), "not readable", "wait for it"))


def test_a_lock_that_is_no_text_is_followed_once_it_is_old(tmp_path: pathlib.Path) -> None:
    """Half a disk block in its place would end every later run with a traceback."""
    path = tmp_path / ".lock"
    path.write_bytes(b"\xff\x00")
    assert_names(refusal(enter, path), (str(path), "this lock names no process"))
    os.utime(path, (1, 1))
    enter(path)
    assert not path.exists()


def left_by_another_host(folder: pathlib.Path, age: float) -> pathlib.Path:
    """A lock of another host that was touched so many seconds ago."""
    path = folder / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "x"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize("age, free", [(0.0, False), (2 * locks.DEAD_AFTER, True)])
def test_another_hosts_lock_is_honoured_while_it_is_touched(
    tmp_path: pathlib.Path, age: float, free: bool
) -> None:
    """On a shared file system, nobody can check whether the process of another host still runs."""
    path = left_by_another_host(tmp_path, age)
    if free:
        enter(path)
    else:
        assert_names(
            refusal(enter, path),
            (
                "process 1 on elsewhere",
                "wait for it",
                "ago",
                "10 minutes after that",
                "remove this file",
            ),
        )


@pytest.mark.parametrize(
    "age, said",
    [
        (310.0, "last touched 5 minutes ago"),
        (70.0, "last touched 1 minute ago"),
        (5.0, "less than a minute ago"),
        (-60.0, "less than a minute ago"),
        (-2 * 86400.0, "its age is not known and it is not taken over"),
    ],
)
def test_the_age_of_another_hosts_lock_is_said(
    tmp_path: pathlib.Path, age: float, said: str
) -> None:
    """A user would not know whether to wait or to look for a process; after a clock was set back, a dead lock would seem new for days."""
    path = left_by_another_host(tmp_path, age)
    assert_names(refusal(enter, path), (said, "remove this file if nothing runs there"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": 5}'])
def test_a_damaged_lock_is_honoured_while_it_is_new(tmp_path: pathlib.Path, content: str) -> None:
    """A lock that cannot be read may be somebody's."""
    path = tmp_path / ".lock"
    path.write_text(content)
    message = refusal(enter, path)
    assert_names(message, ("this lock names no process", "ago", "remove this file"))
    assert "process 0" not in message
    os.utime(path, (time.time() - 2 * locks.DEAD_AFTER,) * 2)
    enter(path)


def test_of_many_one_enters(tmp_path: pathlib.Path) -> None:
    """Processes that find a dead lock at the same moment would all take it over."""
    path, out, count = tmp_path / "run" / ".lock", tmp_path / "out", 5
    out.mkdir()
    path.parent.mkdir()
    path.write_text(
        json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": "never"})
    )
    program = f"""
import os, pathlib, time, grasp_jax.core.locks as l
from grasp_jax.core.errors import UserError
out = pathlib.Path({str(out)!r})
def note(what): (out / f"{{what}}-{{os.getpid()}}").touch()
def until(count, *whats):
    while sum(len(list(out.glob(f"{{what}}-*"))) for what in whats) < count: time.sleep(0.001)
note("ready")
until({count}, "ready")
try:
    with l.only_one(pathlib.Path({str(path)!r}), ''):
        note("entered")
        until({count}, "entered", "refused")  # holds the lock until all have tried
except UserError:
    note("refused")
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
    try:
        assert [process.wait(300) for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
    assert len(list(out.glob("entered-*"))) == 1
    assert len(list(out.glob("refused-*"))) == count - 1
