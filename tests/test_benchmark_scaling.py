"""The benchmarks of several devices and of users' tables on the host, at sizes of seconds."""

import json
import pathlib
import sys

import pytest

from benchmarks import report
from tests.command_line import run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scaling", "host_users"])
def test_quick_run_is_a_section_of_the_page(name: str, tmp_path: pathlib.Path) -> None:
    """A record would lack what the page shows; or ways be compared that do not train the same, which both see to themselves."""
    path = tmp_path / "record.json"
    done = run([sys.executable, "-m", f"benchmarks.{name}", "--quick", f"--out={path}"])
    assert done.returncode == 0, done.stderr
    section = report.SECTIONS["cpu"][f"{name.replace('_', '-')}-cpu"](json.loads(path.read_text()))
    for table in section if isinstance(section, list) else [section]:
        assert table.rows and all(len(row) == len(table.header) for row in table.rows), table.title
