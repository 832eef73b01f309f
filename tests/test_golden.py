"""Small runs have the results that are stored in tests/golden/values: a refactoring changes no number.

By default a subset of the cases is run, with GRASP_JAX_GOLDEN=all every case. Floats may differ by a ten-thousandth, because processors
differ; with GRASP_JAX_GOLDEN_EXACT=1, on the machine that wrote the values, they must be equal to the bit.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.command_line import run
from tests.golden.measure import CASES, QUICK, part_of
from tests.golden.write import VALUES, measured

MEASURED = CASES if os.environ.get("GRASP_JAX_GOLDEN") == "all" else QUICK
EXACT = bool(os.environ.get("GRASP_JAX_GOLDEN_EXACT"))
RELATIVE, ABSOLUTE = 1e-4, 1e-6
NO_GRADIENT = "/key/bias"  # a softmax does not see it, so Adam makes steps of the rounding of zeros


def differences(expected: Any, found: Any, exact: bool = False, where: str = "") -> Iterator[str]:
    """What differs between two trees of JSON, a line for each leaf: which numbers of a list, and how many.

    Args:
      expected: as it was written.
      found: as it is today.
      exact: whether floats, and hashes that stand under "bits", must be the same bit for bit.
      where: path of both in their trees.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        if missing := sorted(expected.keys() ^ found.keys()):
            yield f"{where}: {', '.join(missing)} on one side only"
        for name in sorted(expected.keys() & found.keys()):
            if exact or (name != "bits" and not f"{where}/{name}".endswith(NO_GRADIENT)):
                yield from differences(expected[name], found[name], exact, f"{where}/{name}")
    elif (
        isinstance(expected, list)
        and isinstance(found, list)
        and any(isinstance(value, dict) for value in expected)
    ):
        if len(expected) != len(found):
            yield f"{where}: {len(expected)} entries before and {len(found)} now"
        for number, (before, now) in enumerate(zip(expected, found, strict=False)):
            yield from differences(before, now, exact, f"{where}/{number}")
    elif _is_numeric(expected) and _is_numeric(found):
        yield from _of_numbers(np.asarray(expected), np.asarray(found), exact, where)
    elif expected != found:
        yield f"{where}: {str(expected)[:80]} before and {str(found)[:80]} now"


def _is_numeric(value: Any) -> bool:
    return isinstance(value, list | int | float) and np.asarray(value).dtype.kind in "if"


def _of_numbers(expected: np.ndarray, found: np.ndarray, exact: bool, where: str) -> Iterator[str]:
    if expected.shape != found.shape:
        yield f"{where}: shape {expected.shape} before and {found.shape} now"
        return
    near = not exact and "f" in (expected.dtype.kind, found.dtype.kind)
    same = np.isclose(found, expected, RELATIVE, ABSOLUTE) if near else expected == found
    if not same.all():
        at = tuple(int(index) for index in np.argwhere(~same)[0])
        yield f"{where}: {(~same).sum()} of {same.size} differ, first at {list(at)}: {expected[at]} before and {found[at]} now"


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cases compute now."""
    if MEASURED is CASES:
        return measured(list(CASES))
    out = tmp_path_factory.mktemp("golden") / "out.json"
    done = run([sys.executable, "-m", "tests.golden.measure", "--quick", str(out), *QUICK])
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MEASURED)
def test_a_run_computes_what_it_did(name: str, today: dict[str, Any]) -> None:
    """Would break if a model, its training, its ranking or its recommendations came to be others without anyone's meaning it."""
    expected = json.loads((VALUES / f"{name}.json").read_text(encoding="utf-8"))
    found = list(differences(part_of(expected, MEASURED[name]), today[name], EXACT))
    assert not found, f"{len(found)} values of {name} differ:\n" + "\n".join(found[:40])


@pytest.mark.slow
def test_every_case_computes_what_it_did() -> None:
    """The same of the methods, losses, gates and towers that the tests above leave out."""
    for name, found in measured(list(CASES)).items():
        expected = json.loads((VALUES / f"{name}.json").read_text(encoding="utf-8"))
        differing = list(differences(expected, found, EXACT))
        assert not differing, f"{len(differing)} values of {name} differ:\n" + "\n".join(
            differing[:40]
        )


def test_a_difference_is_seen() -> None:
    """Would break the tests above, which then passed whatever a run computed."""
    before = {
        "loss": [1.0, 2.0],
        "ranks": [1, 2, 3],
        "rows": [{"n": 1, "score": 0.5}],
        "bits": "ab",
        "form": "float32[2]",
    }
    assert not list(differences(before, json.loads(json.dumps(before)), exact=True))
    now = {
        "loss": [1.0, 2.00001],
        "ranks": [1, 3, 2],
        "rows": [{"n": 1, "score": 0.6}],
        "bits": "cd",
        "form": "float32[3]",
    }
    near, exact = list(differences(before, now)), list(differences(before, now, exact=True))
    assert [line.split(":")[0] for line in near] == ["/form", "/ranks", "/rows/0/score"]
    assert "/ranks: 2 of 3 differ, first at [1]: 2 before and 3 now" in near
    assert [line.split(":")[0] for line in exact] == [
        "/bits",
        "/form",
        "/loss",
        "/ranks",
        "/rows/0/score",
    ]
    assert list(differences({"a": 1}, {"b": 1})) == [": a, b on one side only"]
    assert list(differences([1, 2], [1, 2, 3])) == [": shape (2,) before and (3,) now"]
