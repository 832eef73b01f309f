"""Where temporary files of tests lie."""

import os
import pathlib
from types import SimpleNamespace

import pytest

from tests.memory_disk import quick_folder

BLOCK = 4096


@pytest.mark.skipif(not hasattr(os, "ST_NOEXEC"), reason="no folder in memory on this system")
def test_a_folder_in_memory_is_used_only_where_tests_can_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests would fail for want of space, as in a container, whose folder has 64 MB, or for they may start no program there."""
    about = SimpleNamespace(f_bavail=10, f_frsize=BLOCK, f_flag=0)
    monkeypatch.setattr(os, "statvfs", lambda _: about)
    assert quick_folder(tmp_path, 10 * BLOCK) == str(tmp_path)
    assert quick_folder(tmp_path, 10 * BLOCK + 1) is None
    about.f_flag = os.ST_NOEXEC
    assert quick_folder(tmp_path, 0) is None
    about.f_flag = 0
    assert quick_folder(tmp_path / "missing", 0) is None
