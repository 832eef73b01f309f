"""The campaigns of tests/faults in their quick form; `make faults` runs them whole."""

import pathlib
import re
import subprocess
import sys

import pytest

from tests.command_line import ROOT

CAMPAIGNS = ("kills", "damage", "inputs", "config_values", "environment")
MORE = {"kills": 20, "damage": 40, "config_values": 300, "environment": 6}  # cases of the slow run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the finished run is that campaigns start from; the first of them makes it."""
    return tmp_path_factory.mktemp("faults") / "base"


@pytest.fixture(scope="module")
def printed(base: pathlib.Path) -> dict[str, str]:
    """What each campaign printed, its exit status in the last line."""
    done = program("tests.faults.quick", str(base), *CAMPAIGNS)
    parts = re.split(r"^(\w+: exit \d+)\n", done.stdout, flags=re.MULTILINE)
    ends = dict(zip(parts[1::2], parts[::2], strict=False))
    found = {end.split(":")[0]: f"{text}{end}" for end, text in ends.items()}
    assert found.keys() == set(CAMPAIGNS), f"{done.stdout}\n{done.stderr}"
    return {name: f"{text}\n{done.stderr}" for name, text in found.items()}


def program(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_no_fault_ends_in_a_traceback_or_in_other_results(
    campaign: str, printed: dict[str, str]
) -> None:
    """Would break what a user counts on: a killed, damaged or starved run loses nothing, and what is wrong is said in one line."""
    text = printed[campaign]
    assert f"{campaign}: exit 0" in text and "CAMPAIGN: " in text, text


@pytest.mark.slow
@pytest.mark.parametrize("campaign", MORE)
def test_more_cases(campaign: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the few cases above leave out; `make faults` has all."""
    base = tmp_path_factory.mktemp(campaign) / "base"
    done = program(f"tests.faults.{campaign}", f"--cases={MORE[campaign]}", f"--base={base}")
    assert done.returncode == 0 and "CAMPAIGN: " in done.stdout, f"{done.stdout}\n{done.stderr}"


def test_the_page_of_messages_is_up_to_date() -> None:
    """Would break the look-up of a message that the program has and the page has not."""
    done = program("tests.faults.messages", "--check")
    assert done.returncode == 0, done.stdout
