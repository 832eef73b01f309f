"""Neighbours from Ray workers equal those of a local run, even if a worker or the program is killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from grasp_jax.knowledge.neighbours.search import top_neighbours
from grasp_jax.knowledge.neighbours.search_blocks import SearchBlocks, SearchTable, write_labels
from tests import command_line
from tests.command_line import ROOT, one_line_error, run, script, write_dataset
from tests.refusal import assert_names
from tests.test_neighbours import K, unit_vectors
from tests.test_ray import workers_of

ITEMS, USERS = 300, 400


def on_ray(data: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
    """Command line of the program on `write_dataset`'s files, with few rows a task."""
    given = command_line.arguments(data, workdir, "--rows-per-task=10", *more)
    return [sys.executable, "launch/ray_neighbours.py", *given[3:]]


def checksums(workdir: pathlib.Path) -> dict[str, str]:
    return json.loads((workdir / "knowledge" / "manifest.json").read_text())["checksums"]


def test_blocks_are_the_neighbours_of_their_rows(tmp_path: pathlib.Path) -> None:
    """A block would be another's, a damaged one be taken for whole, or one of another K be used."""
    vectors, labels = unit_vectors(), np.arange(101, dtype=np.int32)
    labels[40:] //= 2
    np.save(tmp_path / "items.npy", vectors)
    folder = tmp_path / "blocks"
    write_labels(folder, labels)
    table = SearchTable(str(tmp_path / "items.npy"), "float32", K, str(folder), 25)
    one, other = SearchBlocks(table), SearchBlocks(table)
    assert one.count == 5 and one.missing() == [0, 1, 2, 3, 4]
    other.neighbours(3)
    assert one.missing() == [0, 1, 2, 4]
    found = np.concatenate([one.neighbours(number) for number in range(5)])
    assert np.array_equal(found, top_neighbours(vectors, K, labels=labels))
    path = folder / "block-000002.npz"
    path.write_bytes(path.read_bytes()[:-9])
    assert one.missing() == [2]
    assert SearchBlocks(table._replace(k=K - 1)).missing() == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_same_neighbours_whoever_is_killed(tmp_path: pathlib.Path) -> None:
    """A cluster would find other neighbours than one machine, or a worker that dies take its block with it."""
    pytest.importorskip("ray", reason="ray is not installed")
    data = write_dataset(tmp_path / "data", USERS, ITEMS)
    local = run(command_line.arguments(data, tmp_path / "local", "--mode=prepare"))
    assert local.returncode == 0, local.stderr
    marked = os.environ | {"DRIVER_OF_THIS_TEST": str(os.getpid()), "PYTHONPATH": str(ROOT)}
    arguments, partial = on_ray(data, tmp_path / "ray"), tmp_path / "ray" / "knowledge.partial"
    with open(tmp_path / "log", "w") as log:
        driver = subprocess.Popen(arguments, cwd=ROOT, env=marked, stdout=log, stderr=log)
        deadline, victims = time.monotonic() + 240, []
        while not victims and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.05)
            victims = workers_of(os.getpid()) if list(partial.glob("*_search/block-*")) else []
        assert victims, (tmp_path / "log").read_text()
        os.kill(victims[0], signal.SIGKILL)
        driver.wait(timeout=240)
    assert driver.returncode == 0, (tmp_path / "log").read_text()
    assert checksums(tmp_path / "ray") == checksums(tmp_path / "local")
    assert not list((tmp_path / "ray" / "knowledge").glob("*_search")), "left in the bank"


def test_what_is_not_searched_exactly_is_refused(tmp_path: pathlib.Path) -> None:
    """A bank would say that clusters were searched, and hold what exact search finds."""
    data = write_dataset(tmp_path / "data")
    _, *asked = on_ray(data, tmp_path / "ray", "--config.knowledge.retrieval=clusters")
    message = one_line_error(run(script(*asked)))
    assert_names(message, ("config.knowledge.retrieval: 'clusters'", "expected 'exact'"))
