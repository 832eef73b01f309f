"""Log messages of the library: the command line prints them, other programs decide for themselves."""

import subprocess
import sys

import pytest

from tests.command_line import ROOT

SPEAK = "\nlogger.info('100 % done')\nlogger.warning('damaged')\n"
START = (
    "import logging, sys\nfrom grasp_jax.core.log import logger, print_messages, show_progress\n"
)
HOW = {
    "as imported": ("", "", "damaged\n"),
    "progress": ("show_progress()", "100 % done\ndamaged\n", ""),
    "progress twice": ("show_progress()\nshow_progress()", "100 % done\ndamaged\n", ""),
    "the command line": (
        "print_messages()\nlogging.basicConfig(level=logging.INFO)",
        "100 % done\ndamaged\n",
        "",
    ),
    "a level of the program's own": ("logger.setLevel(logging.ERROR)\nshow_progress()", "", ""),
    "a root that shows all": (
        "logging.basicConfig(level=logging.INFO, format='%(name)s: %(message)s')\nshow_progress()",
        "",
        "grasp_jax: 100 % done\ngrasp_jax: damaged\n",
    ),
    "a standard output that changes": (
        "print_messages()\nimport os\nsys.stdout = open(os.devnull, 'w')",
        "",
        "",
    ),
}


@pytest.mark.parametrize("how", HOW)
def test_who_hears_what(how: str) -> None:
    """A notebook would be silent or hear all twice, or a service find its output full of ours."""
    program, out, err = HOW[how]
    result = subprocess.run(
        [sys.executable, "-c", START + program + SPEAK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == (out, err)
