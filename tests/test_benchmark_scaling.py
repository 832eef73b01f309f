"""The benchmark of several devices, at sizes of seconds."""

import json
import pathlib
import sys

import pytest

from benchmarks import report
from tests.command_line import run


@pytest.mark.slow
def test_quick_run_is_a_section_of_the_page(tmp_path: pathlib.Path) -> None:
    """A record would lack what the page shows; or a stage of it fail."""
    path = tmp_path / "record.json"
    done = run([sys.executable, "-m", "benchmarks.scaling", "--quick", f"--out={path}"])
    assert done.returncode == 0, done.stderr
    section = report.SECTIONS["cpu"]["scaling-cpu"](json.loads(path.read_text()))
    for table in section if isinstance(section, list) else [section]:
        assert table.rows and all(len(row) == len(table.header) for row in table.rows), table.title
