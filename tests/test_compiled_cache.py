"""Compiled programs that outlive a process are whole."""

import os
import pathlib
import warnings

import jax
import pytest
from jax._src.compilation_cache import compress_executable

from grasp_jax.core import compiled

PROGRAM = compress_executable(bytes(range(256)) * 9)


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {compiled.CHECKED}


def test_a_partly_written_program_is_removed(tmp_path: pathlib.Path) -> None:
    """After one full disk, JAX would warn in every later process, and compile that program each time."""
    (tmp_path / "answers").mkdir()
    contents = {
        "whole-cache": PROGRAM,
        "torn-cache": PROGRAM[: len(PROGRAM) // 2],
        "empty-cache": b"",
        "other_compressor-cache": b"\x00\x01of another environment",
        "notes.txt": b"not a program",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    compiled.remove_partly_written(tmp_path)
    assert names(tmp_path) == {"answers", *contents} - {"torn-cache", "empty-cache"}


def test_a_check_that_was_killed_is_repeated(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that it had not read yet would count as whole for ever."""
    torn = tmp_path / "torn-cache"
    torn.write_bytes(PROGRAM[:9])
    os.utime(torn, (1, 1))
    with monkeypatch.context() as killed:
        killed.setattr(pathlib.Path, "read_bytes", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compiled.remove_partly_written(tmp_path)
    compiled.remove_partly_written(tmp_path)
    assert names(tmp_path) == set()


def test_only_new_programs_are_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start would read the whole folder, which may be large."""
    old, new = tmp_path / "old-cache", tmp_path / "new-cache"
    old.write_bytes(PROGRAM)
    os.utime(old, (1, 1))
    compiled.remove_partly_written(tmp_path)
    new.write_bytes(PROGRAM)
    read, read_bytes = [], pathlib.Path.read_bytes
    monkeypatch.setattr(
        pathlib.Path, "read_bytes", lambda path: (read.append(path.name), read_bytes(path))[1]
    )
    compiled.remove_partly_written(tmp_path)
    assert read == ["new-cache"]


def test_a_folder_that_is_not_there_yet_is_no_fault(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start of all would fail, or a folder with a torn program be used as it is."""
    named: list[tuple[str, object]] = []
    monkeypatch.setattr(compiled, "in_use", lambda: False)
    monkeypatch.setattr(jax.config, "update", lambda name, value: named.append((name, value)))
    compiled.keep(str(tmp_path / "new"))
    (tmp_path / "torn-cache").write_bytes(PROGRAM[:9])
    compiled.keep(str(tmp_path))
    assert names(tmp_path) == set()
    folders = [value for name, value in named if name == "jax_compilation_cache_dir"]
    assert folders == [str(tmp_path / "new"), str(tmp_path)]


def test_a_full_disk_under_the_cache_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run would show a warning with a line of JAX's source for each program; other warnings would be hidden."""
    monkeypatch.setattr(compiled, "in_use", lambda: False)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    failed = "Error writing persistent compilation cache entry for 'jit_f': OSError: [Errno 28] No space left on device"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        others: list[str] = []
        monkeypatch.setattr(
            warnings, "showwarning", lambda message, *_, **__: others.append(str(message))
        )
        compiled.keep(str(tmp_path))
        for message in (failed, failed.replace("jit_f", "jit_g"), "another"):
            warnings.warn(message, stacklevel=1)
    assert others == ["another"]
    (line,) = caplog.messages
    assert "No space left on device" in line and str(tmp_path) in line and "goes on" in line
