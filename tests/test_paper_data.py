"""The table of runs on the paper's data beside the paper's: its cells are the runs' and the paper's, and groups are the paper's."""

import json
import pathlib

import pytest

from benchmarks import paper_data
from tests.refusal import assert_names, refusal
from tests.test_report import workdir


@pytest.fixture(autouse=True)
def empty_results(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_data, "RESULTS", tmp_path)


def test_cells_stand_beside_those_of_the_paper(tmp_path: pathlib.Path) -> None:
    """A reader would compare with another cell of the paper, or with groups that count something else."""
    assert paper_data.section() == ""
    ours = workdir(tmp_path / "a", {"plain": 0.4}, **{"eval.groups": "training"})
    paper_data.keep("fashion-gru4rec-llm-esr", ours)
    assert paper_data.section() == ""
    paper_data.keep(
        "fashion-sasrec", workdir(tmp_path / "b", {"plain": 0.4}, **{"eval.groups": "paper"})
    )
    ndcg, hits = paper_data.section().split("HR@10 among 100 negatives")
    assert "| fashion | sasrec | ours | 2 | 40.50 ± 0.71 (44.13) |" in ndcg
    assert "| fashion | sasrec | ours | 2 | 40.50 ± 0.71 (49.95) |" in hits
    tables = json.loads(
        (pathlib.Path(paper_data.paper.__file__).parent / "paper_tables.json").read_text()
    )
    theirs = next(
        row
        for row in tables["groups"]
        if (row["dataset"], row["backbone"], row["method"]) == ("Fashion", "SASRec", "backbone")
    )
    in_order = ["tail_item", "head_item", "tail_user", "head_user"]
    expected = " | ".join(f"40.50 ± 0.71 ({theirs[f'{group}/NDCG@10']:.2f})" for group in in_order)
    assert (
        expected in ndcg and "| 1.000 | 1.000 |" in ndcg
    )  # all groups of the made-up run have 5 users


def test_what_is_refused(tmp_path: pathlib.Path) -> None:
    """A run would be stored under a name that no page reads, or a message not say what is wrong."""
    told = refusal(paper_data.keep, "fashion", "runs/fashion")
    assert_names(told, ("fashion=runs/fashion", "fashion-sasrec"))
    assert_names(refusal(paper_data.keep, "fashion-sasrec", str(tmp_path / "none")), ("none",))
