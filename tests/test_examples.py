"""The examples about representations and exported models run as they stand, and a page that quotes their output quotes what they print."""

import pathlib
import re
import runpy
import sys

import pytest
from threadpoolctl import threadpool_limits

DOCS = pathlib.Path(__file__).parent.parent / "docs"
NEAR = 0.03  # by which figures of the same example may differ between machines
pytestmark = pytest.mark.slow


def printed(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What an example prints, run without arguments."""
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(DOCS / "examples" / name), run_name="__main__")
    return capsys.readouterr().out


def figures(text: str) -> dict[str, list[float]]:
    """For the click model without and with representations: AUC and the ends of its interval, then log loss in the same form."""
    lines = re.findall(r"^(without|with) +(\d.*)$", text, re.MULTILINE)
    return {name: [float(number) for number in re.findall(r"\d\.\d+", own)] for name, own in lines}


def test_a_click_model_gains_from_representations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors would be joined to other users or items and say nothing, or the page would promise another gain."""
    with threadpool_limits(
        limits=1, user_api="openmp"
    ):  # threads that wait for each other take minutes on a busy machine
        found = figures(printed("click_model.py", capsys, monkeypatch))
    _, auc_low, auc_high, _, loss_low, _ = found["without"]
    assert auc_low < 0.5 < auc_high, "popularity alone was not to tell what was taken"
    assert found["with"][1] > auc_high and found["with"][5] < loss_low, found
    page = figures((DOCS / "representations.md").read_text(encoding="utf-8"))
    assert {name: pytest.approx(own, abs=NEAR) for name, own in page.items()} == found


def test_an_index_finds_what_exact_search_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example would read an export of another form, or its index lose most of the best items."""
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    out = printed("serve_with_faiss.py", capsys, monkeypatch)
    assert re.findall(r"^(\w+): [\d,]+ people a second$", out, re.MULTILINE) == [
        "IndexFlatIP",
        "IndexHNSWFlat",
    ]
    recall = re.search(r"^500 items of width 64: recall@10 (\d\.\d{3})$", out, re.MULTILINE)
    assert recall is not None and float(recall[1]) > 0.9, out
