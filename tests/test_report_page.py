"""What the comparison page says: the verdict, the names of runs, intervals, tiles, and colours that can be read."""

import json
import pathlib
import re
import sys
from typing import Any

import numpy as np
import pytest

from grasp_jax.evaluation.metrics import ndcg_gains
from grasp_jax.evaluation.significance import bootstrap_means
from grasp_jax.report.cards import cards, tile
from grasp_jax.report.intervals import intervals
from grasp_jax.report.joined import joined
from grasp_jax.report.names import method_labels, run_labels
from grasp_jax.report.page import differences_view, page, verdicts
from grasp_jax.report.plot import Panel
from grasp_jax.report.render import PAGE_DARK, PAGE_LIGHT, drawn, render
from grasp_jax.report.runs import FinishedRun, read_runs
from grasp_jax.report.scales import log_ticks, round_ticks, scale_of
from grasp_jax.report.tables import ReportTable
from grasp_jax.report.verdict import main_protocol, verdict
from grasp_jax.report.write import write_report
from tests.refusal import assert_names, refusal
from tests.test_report import workdir


def row(method: str, mean: float, protocol: str = "full", **fields: Any) -> dict[str, Any]:
    begin = {"method": method, "backbone": "sasrec", "protocol": protocol, "group": "all", "n": 500}
    return begin | {"NDCG@10": mean} | fields


def pair(
    first: str, second: str, difference: float, p: float, protocol: str = "full"
) -> dict[str, Any]:
    numbers = {"difference": difference, "low": difference - 0.01, "high": difference + 0.02}
    named = {"protocol": protocol, "backbone": "sasrec", "first": first, "second": second}
    return named | numbers | {"p_value": p}


def test_the_verdict_names_leader_lead_and_significance() -> None:
    """A reader who reads three sentences would take another method for the best, or chance for a lead."""
    rows = [row("plain", 0.30), row("grasp", 0.35), row("grasp_plus", 0.40)]
    comparisons = [
        pair("plain", "grasp_plus", 0.1, 1e-6),
        pair("grasp_plus", "grasp", -0.05, 0.2) | {"low": -0.11, "high": 0.01},
    ]
    lead, measured = verdict(rows, comparisons, "full")
    assert_names(
        lead,
        (
            "grasp_plus with sasrec is ahead of grasp by 5.00 points of NDCG@10",
            "40.00 against 35.00 %",
            "not significant: 95 % interval -1.00 to +11.00, p = 0.2000",
            "and of plain by 10.00 (significant)",
        ),
    )
    assert_names(measured, ("among the whole catalogue", "500 users", "one seed"))
    assert "not tested" in verdict(rows, [], "full")[0]
    of_init = [row("sasrec_ce", 0.30), *rows[1:]]
    assert "and of sasrec_ce by 10.00" in verdict(of_init, [], "full")[0]
    assert "no other model was measured" in verdict(rows[:1], [], "full")[0]
    failed = verdict(rows, [], "full", [{"method": "x", "backbone": "y", "reason": "z"}])
    assert failed[-1] == "Training failed for x with y."


@pytest.mark.parametrize(
    ("p", "low", "words"),
    [
        (0.01, -0.01, "the test is significant but the interval contains 0: 95 %"),
        (0.2, 0.01, "the test is not significant but the interval does not contain 0: 95 %"),
    ],
)
def test_the_verdict_says_where_test_and_interval_disagree(
    p: float, low: float, words: str
) -> None:
    """ "significant" alone would be read as sure, next to an interval that contains 0."""
    rows = [row("plain", 0.30), row("grasp", 0.35)]
    rows += [row("plain", 0.1, "sampled100"), row("grasp", 0.2, "sampled100")]
    tested = [pair("plain", "grasp", 0.05, p, of) | {"low": low} for of in ("full", "sampled100")]
    lead, _, others = verdict(rows, tested, "full")
    assert f"not sure, because {words}" in lead
    assert f"over plain, not sure, because {words.partition(':')[0]})" in others


def test_an_unfinished_training_is_said_everywhere(tmp_path: pathlib.Path) -> None:
    """Numbers of a model after 4 of 2,000 epochs would pass for those of the method."""
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4, "grasp": 0.5}))
    results = json.loads((folder / "results.json").read_text())
    results["unfinished"] = [
        {"method": "grasp", "backbone": "sasrec", "epoch": 4, "max_epochs": 2000}
    ]
    (folder / "results.json").write_text(json.dumps(results))
    write_report(read_runs(str(folder)), tmp_path / "out")
    words = "grasp with sasrec (stopped after 4 of at most 2,000 epochs)"
    for name, times in (("REPORT.md", 4), ("index.html", 5)):
        assert (tmp_path / "out" / name).read_text().count(words) == times, name
    assert words in (tmp_path / "out" / "tables" / "one-overall-full.tex").read_text()
    assert words in verdict([row("plain", 0.3)], [], "full", [], results["unfinished"])[-1]


def test_the_verdict_says_where_protocols_disagree() -> None:
    """A lead among 100 negatives would pass for a lead among all items."""
    rows = [row("plain", 0.30), row("grasp", 0.40)]
    rows += [row("plain", 0.06, "sampled100"), row("grasp", 0.04, "sampled100")]
    rows += [row("plain", 0.05, "full_unseen"), row("grasp", 0.07, "full_unseen")]
    comparisons = [pair("plain", "grasp", -0.02, 0.001, "sampled100") | {"high": -0.01}]
    others = verdict(rows, comparisons, "full")[2]
    assert_names(
        others,
        (
            "It also leads among the items that the user has not had (by 2.00 over plain, not tested)",
            "but among stored negatives plain with sasrec leads (by 2.00, significant)",
        ),
    )
    assert (
        "not had (it stays among them if the user has had it), for 500 users"
        in (verdict(rows, comparisons, "full_unseen")[1])
    )
    assert main_protocol(rows, "sampled100") == "sampled100"
    assert main_protocol(rows[:2], "sampled100") == "full", "what was not measured decides nothing"


def test_several_seeds_and_backbones() -> None:
    """Means would be of one seed, or two backbones be compared though no test did."""
    rows = [
        row("a", 0.30),
        row("a", 0.34),
        row("b", 0.5, backbone="gru4rec"),
        row("b", 0.4, backbone="gru4rec"),
    ]
    lead, measured = verdict(rows, [], "full")
    assert "b with gru4rec is ahead of a with sasrec by 13.00" in lead
    assert "only methods on one backbone are compared" in lead and measured.endswith(
        "with 2 seeds."
    )
    assert verdict([*rows, row("a", 0.3)], [], "full")[1].endswith("with 2 seeds or more.")


def test_runs_are_called_by_what_they_differ_in(tmp_path: pathlib.Path) -> None:
    """A page of folders called run1 and run2 would tell nobody what was compared."""
    folders = [
        workdir(tmp_path / "a", {"grasp": 0.3}),
        workdir(tmp_path / "b", {"grasp": 0.4}, **{"knowledge.num_neighbours": 5}),
        workdir(tmp_path / "c", {"grasp": 0.4}, dataset="other"),
    ]
    runs = read_runs(",".join(folders))
    assert run_labels(runs) == {
        "a": "fashion, num_neighbours 10",
        "b": "fashion, num_neighbours 5",
        "c": "other",
    }
    same = read_runs(",".join([folders[0], workdir(tmp_path / "d", {"plain": 0.2})]))
    assert run_labels(same) == {"a": "fashion (a)", "d": "fashion (d)"}
    first, second = verdicts(runs)
    assert (
        "grasp (num_neighbours 5) with sasrec is ahead of grasp (num_neighbours 10)"
        in first["sentences"][0]
    )
    assert "they were measured in different runs" in first["sentences"][0]
    assert second["dataset"] == "other"


def test_sentences_name_the_fields_that_a_method_has(tmp_path: pathlib.Path) -> None:
    """ "popularity (plus.text_width 32, dropout 0.2)" would name settings that popularity does not have."""
    methods = {"popularity": 0.45, "sasrec_ce": 0.4, "grasp_plus": 0.5}
    wide = {"model.plus.text_width": 32, "train.learning_rate": (0.01,)}
    folders = [
        workdir(tmp_path / "a", methods),
        workdir(tmp_path / "b", methods | {"grasp_plus": 0.6}, **wide),
    ]
    runs = read_runs(",".join(folders))
    names = method_labels(runs)
    assert names["a", "popularity"] == names["b", "popularity"] == "popularity"
    assert names["b", "sasrec_ce"] == "sasrec_ce (learning_rate 0.01)"
    assert "plus.text_width 32" in names["b", "grasp_plus"] and "None" not in str(names)
    (found,) = verdicts(runs)
    assert "with 2 seeds." in found["sentences"][1], "popularity of both runs counts once"
    other = workdir(tmp_path / "c", methods | {"popularity": 0.46}, **wide)
    names = method_labels(read_runs(",".join([folders[0], other])))
    assert names["a", "popularity"] == "popularity (a)", "other results, and no field tells why"


def with_ranks(folder: pathlib.Path, ranks: dict[str, np.ndarray]) -> FinishedRun:
    """A run whose users have these ranks by the protocol `full`, alike for both seeds."""
    path = pathlib.Path(workdir(folder, dict.fromkeys(ranks, 0.4)))
    (path / "ranks").mkdir()
    for method, own in ranks.items():
        for seed in (1, 2):
            np.savez(path / "ranks" / f"{method}-sasrec-seed{seed}-full.npz", rank=own, user=own)
    return read_runs(str(path))[0]


def test_intervals_are_those_of_the_users(tmp_path: pathlib.Path) -> None:
    """A whisker would be another method's, or of another width than the resampled users have."""
    ranks = {
        name: np.random.default_rng(k).integers(0, 20, 300)
        for k, name in enumerate(("plain", "grasp"))
    }
    run = with_ranks(tmp_path / "one", ranks)
    found = {own.method: own for own in intervals(run, "full")}
    for name, own in ranks.items():
        means = bootstrap_means(ndcg_gains(own)[:, None])
        low, high = 100 * np.quantile(means, (0.025, 0.975))
        assert found[name].low == pytest.approx(low, abs=0.05), name
        assert found[name].high == pytest.approx(high, abs=0.05), name
    assert intervals(run, "sampled100")[0].low is None, "no ranks, no interval"
    rows = joined([run], run_labels([run])).rows
    assert {len(row.cells) for row in rows} == {len(joined([run], run_labels([run])).header)}
    shown = next(r for r in rows if r.method == "grasp" and r.protocol == "whole catalogue")
    assert shown.cells[1].text == f"{found['grasp'].low:.2f} to {found['grasp'].high:.2f}"


def test_damaged_ranks_are_one_line(tmp_path: pathlib.Path) -> None:
    """A cut file would end the report in a traceback."""
    run_of = with_ranks(tmp_path / "one", {"plain": np.arange(9)})
    path = tmp_path / "one" / "ranks" / "plain-sasrec-seed1-full.npz"
    assert run_of.gains["plain", "sasrec", "full"].shape == (2, 9)
    path.write_bytes(path.read_bytes()[:50])
    assert_names(refusal(read_runs, str(tmp_path / "one")), (str(path), "not readable"))
    np.savez(path, rank=np.zeros((2, 2)))
    assert_names(refusal(read_runs, str(tmp_path / "one")), ("rank is float64", "whole numbers"))


def test_what_was_read_is_shown(tmp_path: pathlib.Path) -> None:
    """The page would not say which columns the numbers come from; a damaged file would be a traceback."""
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4}))
    (folder / "read.json").write_text(json.dumps({"lines": ["  columns: user is 'u<b>'"]}))
    write_report(read_runs(str(folder)), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "What was read" in page and "columns: user is &#39;u&lt;b&gt;&#39;" in page
    (folder / "read.json").write_text('{"lines": [1]}')
    assert_names(refusal(read_runs, str(folder)), ("read.json: lines is [1]", "a list of texts"))


def test_cards_show_hits_first(tmp_path: pathlib.Path) -> None:
    """A reader would see only misses, or the list of the leader twice."""
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4, "grasp": 0.5, "x": 0.1}))
    miss = {"user": "u0", "history": ["a"], "truth": "z", "place": None, "top": [{"title": None}]}
    for path in (folder / "examples").glob("*.json"):
        hit = json.loads(path.read_text())[0]
        path.write_text(
            json.dumps([miss, hit | {"place": None}] if "x" in path.name else [miss, hit])
        )
    run = read_runs(str(folder))[0]
    shown = cards(run, [("grasp", "sasrec"), ("plain", "sasrec"), ("x", "sasrec")])
    assert [card.user for card in shown] == ["u1", "u0"]
    assert [own.name for own in shown[0].lists] == ["plain", "grasp"]
    assert (
        shown[0].lists[1].outcome == "hit at place 2"
        and shown[1].lists[0].outcome == "not among its 1"
    )
    assert [own.hit for own in shown[0].lists[0].tiles] == [False, True, False]


def test_cards_compare_the_methods_of_the_verdict(tmp_path: pathlib.Path) -> None:
    """The page would say that a method is ahead of the second best, and show its lists next to those of popularity."""
    means = {"popularity": 0.45, "plain": 0.4, "grasp": 0.5, "x": 0.1}
    run = read_runs(workdir(tmp_path / "one", means))[0]
    ranked = [(name, "sasrec") for name in sorted(means, key=lambda name: -means[name])]
    assert [own.name for own in cards(run, ranked)[0].lists] == ["plain", "grasp"]
    shown = re.findall("<div><h4>([a-z]+) <span>", page([(run, [])], {}))
    assert shown[:2] == ["plain", "grasp"]
    few = [("popularity", "sasrec"), ("grasp", "sasrec")]
    assert [own.name for own in cards(run, few)[0].lists] == ["popularity", "grasp"]
    assert cards(run, few[:1]) == [] == cards(run, [("grasp", "sasrec"), ("plain", "gru4rec")])


def test_without_jinja2_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--mode=report` after `pip install .` would end with "a fault of grasp_jax", because figures are drawn before the page."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    for call in (lambda: drawn("<svg/>"), lambda: render("report.html", "title")):
        assert_names(refusal(call), ("Jinja2", "pip install 'grasp-jax[report]'"))


def test_differences_are_in_words(tmp_path: pathlib.Path) -> None:
    """The page would call one protocol by two names, or a phone show a column that is the same in every row instead of the numbers."""
    columns = ["protocol", "backbone", "methods", "difference of NDCG@10"]
    row = ["full_unseen", "sasrec", "b minus a", "+1.00"]
    shown = differences_view(ReportTable("significance", "Differences", columns, [row]), "run")
    assert shown.header == ["protocol", "methods", "difference of NDCG@10"] and shown.left == 2
    assert shown.rows == [["whole catalogue, seen items left out", "b minus a", "+1.00"]]
    other = [*row[:1], "gru4rec", *row[2:]]
    shown = differences_view(
        ReportTable("significance", "Differences", columns, [row, other]), "run"
    )
    assert shown.header == columns and shown.left == 3 and shown.rows[1][1] == "gru4rec"


def test_tiles_are_the_same_for_the_same_title() -> None:
    """An item would change its colour between lists, or a title without letters have none."""
    assert tile("Rose body lotion") == tile("Rose body lotion")
    assert tile("Rose body lotion").letters == "RB" and tile("(new) 5 oils").letters == "5O"
    assert tile("").letters == "?" and tile(None).title == "unknown" and tile("é").letters == "É"


def test_ticks_are_round_and_inside() -> None:
    """An axis would read 0.30000000000000004, have no tick, or one outside of the panel."""
    assert round_ticks(0.0, 1.0, 5) == (
        (0.0, "0.0"),
        (0.2, "0.2"),
        (0.4, "0.4"),
        (pytest.approx(0.6), "0.6"),
        (0.8, "0.8"),
        (1.0, "1.0"),
    )
    assert [label for _, label in round_ticks(-50, 1800, 4)] == ["0", "500", "1,000", "1,500"]
    assert [label for _, label in log_ticks(0.9, 1100, 9)] == ["1", "10", "100", "1,000"]
    for values, log in (([3.0], False), ([], False), ([5.0, 5.0], True), ([-1e-9, 1e9], False)):
        scale = scale_of(values, 10, 100, log, 5)
        assert all(10 <= scale.place(value) <= 100 for value, _ in scale.ticks) and scale.ticks
        assert all(10 <= scale.place(value) <= 100 for value in values)


def test_marks_stand_where_their_values_are() -> None:
    """A line would be upside down, or a value that is no number tear it."""
    panel = Panel(1)
    panel.line(0, [1, 2, 3, 4], [1.0, 2.0, float("nan"), 4.0], 0, "a")
    panel.line(0, [1, 4], [4.0, 1.0], 9, "b <i>")
    figure = panel.figure()
    places = [
        tuple(map(float, found))
        for found in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', figure.panels[0])
    ]
    assert len(places) == 3 and places == sorted(places) and places[0][1] > places[-1][1]
    assert "b &lt;i&gt;" in figure.inline() and "<i>" not in figure.standalone()
    assert [key.colour for key in figure.legend] == [0, 1] and figure.legend[1].dash == 1


def contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [PAGE_LIGHT, PAGE_DARK], ids=["light", "dark"])
def test_colours_can_be_read(colours: dict[str, str]) -> None:
    """Text below 4.5 to 1, or lines below 3 to 1, are not read by everyone (WCAG AA)."""
    for ground in ("page", "card", "mark"):
        for text in ("ink", "soft", "accent", "good", "warn", "bad"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for k in range(8):
        assert contrast(colours[f"s{k}"], colours["card"]) >= 3, k
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
