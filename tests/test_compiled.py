"""Where compiled programs of tests stay between sessions."""

import pathlib

import pytest
from jax._src.compilation_cache import compress_executable

from tests.compiled import CHECKED, compiled_folder


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {CHECKED}


@pytest.fixture
def kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder that only the first process of a session looks after, as this one is now."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return tmp_path


def test_a_folder_that_has_grown_is_emptied_by_the_first_process_alone(
    kept: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk would fill with programs of code that is gone, or one worker remove what another reads."""
    folder, program = compiled_folder(kept), compress_executable(b"x" * 100)
    assert folder.parent == kept
    (folder / "program").write_bytes(program)
    compiled_folder(kept, most_bytes=len(program))
    assert names(folder) == {"program"}
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    compiled_folder(kept, most_bytes=1)
    assert names(folder) == {"program"}
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert compiled_folder(kept, most_bytes=1) == folder
    assert names(folder) == set()


def test_a_half_written_program_is_removed(kept: pathlib.Path) -> None:
    """JAX would warn of it in every later session, and compile that program each time."""
    folder, program = compiled_folder(kept), compress_executable(bytes(range(256)) * 9)
    (folder / "whole").write_bytes(program)
    (folder / "torn").write_bytes(program[: len(program) // 2])
    (folder / "empty").write_bytes(b"")
    compiled_folder(kept)
    assert names(folder) == {"whole"}
