"""Methods that are not trained stand in tables and pages without backbone, dropout and learning rate, and once."""

import dataclasses
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

import grasp_jax as gj
from grasp_jax.evaluation.results import COMPARISON_HEADER, comparison_rows, spread, table
from grasp_jax.report.joined import joined
from grasp_jax.report.names import run_labels
from grasp_jax.report.page import differences_view, page
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.tables import ReportTable, all_tables, overall
from grasp_jax.report.verdict import verdict
from grasp_jax.trials.run_results import _compare
from grasp_jax.trials.trial_results import Evaluated
from tests.trained import SMALL, small_shop

GROUPS = ("all", "tail_item", "head_item", "tail_user", "head_user")
METRICS = ("NDCG@5", "NDCG@10", "NDCG@20", "HR@5", "HR@10", "HR@20", "MRR")


def rows_of(method: str, backbone: str, value: float, **fields: Any) -> list[dict[str, Any]]:
    named = {"dataset": "shop", "method": method, "backbone": backbone, "protocol": "full"}
    measured = dict.fromkeys(METRICS, value) | {"seed": 42, "n": 9}
    chosen = {"dropout": 0.3, "learning_rate": 0.001, "best_epoch": 7}
    return [named | measured | chosen | {"group": group} | fields for group in GROUPS]


def run_of(backbones: tuple[str, ...]) -> FinishedRun:
    rows = []
    for k, backbone in enumerate(backbones):
        rows += rows_of("popularity", backbone, 0.25, best_epoch=0)
        rows += rows_of("sasrec_ce", backbone, 0.5 - 0.3 * k)
    results: dict[str, Any] = {"rows": rows, "comparisons": [], "failed": [], "about": {}}
    data = {"source": "files", "path": "shop"}
    return FinishedRun("shop", {"data": data}, results, [], {}, {})


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("backbones", [("sasrec",), ("sasrec", "gru4rec")])
def test_the_printed_table(backbones: tuple[str, ...]) -> None:
    """A reader would ask with which dropout popularity was trained, and why it is the same on each backbone."""
    lines = table(run_of(backbones).rows).splitlines()
    named = [cells_of(line)[:5] for line in lines if "popularity" in line or "sasrec_ce" in line]
    trained = [["sasrec_ce", of, "0.3", "0.001"] for of in backbones]
    assert [cells[:4] for cells in named] == [["popularity", "-", "-", "-"], *trained]
    assert named[0][4] == "25.00"


def test_no_deviation_of_what_has_none() -> None:
    """ "25.00 ± 0.00" would be read as seeds that agree, where there was nothing that a seed could change."""
    run = run_of(("sasrec",))
    again = [row | {"seed": 43} for row in run.rows]
    run = dataclasses.replace(run, results=run.results | {"rows": [*run.rows, *again]})
    printed = table(run.rows).splitlines()
    page_rows = {row.method: row.cells for row in joined([run], run_labels([run])).rows}
    of_report = {line[1]: line for own in all_tables(run) for line in own.rows}
    for method, shown in (("popularity", "25.00"), ("sasrec_ce", "50.00 ± 0.00")):
        (line,) = [line for line in printed if method in line]
        assert set(cells_of(line)[4:]) == {shown}
        assert page_rows[method][0].text == page_rows[method][3].text == shown
        assert {shown} <= set(of_report[method]) <= {shown, method, "sasrec", "-", "-50.0 %"}
    varied = np.array([1.0, 2.0])
    assert spread(varied, "popularity") == "1.50 ± 0.71", (
        "a method of your own may draw by its seed"
    )


def test_the_page() -> None:
    """The same on the page; and a choice of one backbone would hide what all methods must beat."""
    run = run_of(("sasrec", "gru4rec"))
    rows = joined([run], run_labels([run])).rows
    assert [(row.method, row.backbone) for row in rows] == [
        ("popularity", "-"),
        ("sasrec_ce", "sasrec"),
        ("sasrec_ce", "gru4rec"),
    ]
    assert [cell.text for cell in rows[0].cells[-3:]] == ["-", "-", "-"]
    assert [cell.text for cell in rows[1].cells[-3:]] == ["0.3", "0.001", "7"]
    shown = overall(run, "full")
    assert [line[:2] for line in shown.rows] == [
        ["-", "popularity"],
        ["sasrec", "sasrec_ce"],
        ["gru4rec", "sasrec_ce"],
    ]
    ndcg = shown.header.index("NDCG@10")
    over = shown.header.index("over sasrec_ce")
    assert (1, ndcg) in shown.best and (0, ndcg) not in shown.best, "popularity is still compared"
    assert (2, ndcg) not in shown.best, "popularity is ahead of sasrec_ce on gru4rec"
    assert [row.first for row in rows] == [False, True, False], "the same in the table of all runs"
    assert shown.rows[0][over] == "-" == rows[0].cells[2].text, "two backbones have a baseline"
    html = page([(run, all_tables(run))], {})
    plots = re.findall(r"popularity, [\w-]+|sasrec_ce, \w+", html)
    assert set(plots) == {"sasrec_ce, sasrec", "sasrec_ce, gru4rec"}
    assert '<option value="-"' not in html and "<option>-<" not in html
    alone = run_of(("sasrec",))
    assert overall(alone, "full").rows[0][over] == "-50.0 %"
    assert joined([alone], run_labels([alone])).rows[0].cells[2].text == "-50.0 %"
    assert "backbone</th>" not in page([(alone, [])], {}), "a column with nothing to tell apart"


def test_the_verdict() -> None:
    """ "popularity with sasrec" would be taken for a trained model."""
    rows = [*rows_of("popularity", "sasrec", 0.5), *rows_of("sasrec_ce", "sasrec", 0.4)]
    lead = verdict(rows, [], "full")[0]
    assert lead.startswith("popularity is ahead of sasrec_ce with sasrec by 10.00 points")
    told = [row | {"method": row["method"] + " (dropout 0.3)"} for row in rows]
    assert verdict(told, [], "full")[0].startswith("popularity (dropout 0.3) is ahead of sasrec_ce")


def test_the_verdict_of_several_backbones() -> None:
    """ "popularity is ahead of popularity by 0.00 points"; or a pair that was tested would be called untested."""
    rows = run_of(("sasrec", "gru4rec")).rows
    pair = {"protocol": "full", "backbone": "gru4rec", "difference": 0.05, "p_value": 0.001}
    pair |= {"first": "sasrec_ce", "second": "popularity", "low": 0.04, "high": 0.06}
    first = [row for row in rows if row["method"] == "popularity" or row["NDCG@10"] < 0.3]
    lead = verdict(first, [pair], "full")[0]
    assert lead.startswith("popularity is ahead of sasrec_ce with gru4rec by 5.00 points")
    assert "; significant: 95 % interval +4.00 to +6.00" in lead
    alone = [row for row in rows if row["method"] == "popularity"]
    assert "no other model was measured" in verdict(alone, [], "full")[0]


def test_the_table_of_comparisons() -> None:
    """The same difference would stand there for each backbone, which neither of the two methods has."""
    untrained = {"first": "popularity", "second": "semantic_neighbours"}
    of_backbone = {"first": "popularity", "second": "sasrec_ce"}
    numbers = {"difference": 0.1, "low": 0.05, "high": 0.15, "p_value": 0.01}
    rows = [
        {"protocol": protocol, "backbone": backbone} | pair | numbers
        for protocol in ("full", "sampled100")
        for backbone in ("sasrec", "gru4rec")
        for pair in (untrained, of_backbone)
    ]
    assert [line[:3] for line in comparison_rows(rows)] == [
        [protocol, *own]
        for protocol in ("full", "sampled100")
        for own in (
            ["-", "semantic_neighbours minus popularity"],
            ["sasrec", "sasrec_ce minus popularity"],
            ["gru4rec", "sasrec_ce minus popularity"],
        )
    ]
    lines = comparison_rows([row for row in rows if row["backbone"] == "sasrec"])
    shown = differences_view(ReportTable("significance", "", list(COMPARISON_HEADER), lines), "run")
    assert "backbone" not in shown.header, "a column with nothing to tell apart"


def test_a_pair_of_untrained_methods_is_counted_once() -> None:
    """Each further backbone would make every other pair pass one test more, and the same comparison have another p-value there."""
    rng = np.random.default_rng(4)
    known, texts = rng.random((2, 300))
    trained = {of: known + 0.01 + 0.1 * rng.standard_normal(300) for of in ("sasrec", "gru4rec")}
    evaluated = {}
    for backbone, gains in trained.items():
        named = {"popularity": known, "semantic_neighbours": texts, "sasrec_ce": gains}
        for method, own in named.items():
            evaluated[method, backbone] = Evaluated([], {"full": own})
    rows = _compare(evaluated)
    found = {(row["backbone"], row["first"], row["second"]): row["p_value"] for row in rows}
    assert len(rows) == len(found) == 6
    pair = ("popularity", "semantic_neighbours")
    assert found["sasrec", *pair] == found["gru4rec", *pair]

    def raw(first: np.ndarray, second: np.ndarray) -> float:
        return float(stats.ttest_rel(first, second).pvalue)

    pop_texts, pop_own, texts_own = (
        raw(known, texts),
        raw(known, trained["sasrec"]),
        raw(texts, trained["sasrec"]),
    )
    assert texts_own < pop_texts < pop_own, "Holm multiplies by 3, 2 and 1 in this order"
    assert 3 * texts_own < 2 * pop_texts < pop_own, "so none is raised to the one before it"
    assert found["sasrec", "semantic_neighbours", "sasrec_ce"] == pytest.approx(3 * texts_own)
    assert found["sasrec", *pair] == pytest.approx(2 * pop_texts)
    assert found["sasrec", "popularity", "sasrec_ce"] == pytest.approx(pop_own)
    pop_own, texts_own = raw(known, trained["gru4rec"]), raw(texts, trained["gru4rec"])
    assert 2 * texts_own < pop_own, "two pairs are left here: by 2 and 1"
    assert found["gru4rec", "semantic_neighbours", "sasrec_ce"] == pytest.approx(2 * texts_own)
    assert found["gru4rec", "popularity", "sasrec_ce"] == pytest.approx(pop_own)


def test_compare_in_python(tmp_path: pathlib.Path) -> None:
    """The frame of `compare` would name a backbone that popularity does not have."""
    shop = small_shop()
    known = gj.Recommender(method="popularity", **SMALL).fit(shop)
    texts = gj.Recommender(method="semantic_neighbours", **SMALL).fit(shop)
    pairs = gj.compare([known, texts])
    assert set(pairs["first"]) | set(pairs["second"]) == {"popularity", "semantic_neighbours"}
    assert np.isfinite(pairs["difference"]).all()
