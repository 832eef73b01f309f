"""The campaigns of tests/faults in their quick form; `make faults` runs them whole."""

import pathlib
import subprocess
import sys

import pytest

from tests.command_line import ROOT

CAMPAIGNS = ("kills", "damage", "inputs", "config_values", "environment")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the finished run is that campaigns start from; the first of them makes it."""
    return tmp_path_factory.mktemp("faults") / "base"


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_no_fault_ends_in_a_traceback_or_in_other_results(
    campaign: str, base: pathlib.Path
) -> None:
    """Would break what a user counts on: a killed, damaged or starved run loses nothing, and what is wrong is said in one line."""
    command = [sys.executable, "-m", f"tests.faults.{campaign}", "--quick", f"--base={base}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0 and "CAMPAIGN: " in done.stdout, f"{done.stdout}\n{done.stderr}"


def test_the_page_of_messages_is_up_to_date() -> None:
    """Would break the look-up of a message that the program has and the page has not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.messages", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
