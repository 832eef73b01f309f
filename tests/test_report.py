"""The report: its numbers are those of the runs and of the paper, in every format, and the page stands alone."""

import csv
import dataclasses
import io
import json
import pathlib
import re
import sys
import warnings
import xml.etree.ElementTree
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.core.files import write_sealed
from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.report.figures import all_figures, curve_families, families
from grasp_jax.report.formats import comma_separated, latex, markdown
from grasp_jax.report.joined import joined
from grasp_jax.report.names import run_labels
from grasp_jax.report.paper import SIZES, is_other_data
from grasp_jax.report.runs import FinishedRun, read_runs
from grasp_jax.report.tables import ReportTable, all_tables, overall
from grasp_jax.report.write import write_report
from grasp_jax.training.records import Records, as_line
from tests.command_line import one_line_error, run
from tests.refusal import assert_names, refusal

SEEDS = (1, 2)
MAIN = (sys.executable, "-m", "grasp_jax.main", "--mode=report")
GROUPS = ("all", "tail_item", "head_item", "tail_user", "head_user")


def workdir(
    folder: pathlib.Path,
    methods: dict[str, float],
    dataset: str = "fashion",
    failed: tuple[str, ...] = (),
    sizes: tuple[int, int] | None = None,
    **config: Any,
) -> str:
    """A finished run whose NDCG@10 is given for each method (and 0.01 more for its second seed).

    Its numbers of users and items are `sizes`, or by default those of the paper's data of that name.
    """
    sizes = sizes or SIZES.get(dataset, (5_000, 7))
    settings = Config().with_fields(config)
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "backbone": "sasrec",
            "seed": seed,
            "protocol": protocol,
            "group": group,
            "dropout": 0.2,
        }
        | {
            f"{metric}@{k}": value + 0.01 * s
            for metric in ("NDCG", "HR")
            for k in (1, 3, 5, 10, 20)
        }
        | {"MRR": value, "n": 5}
        for method, value in methods.items()
        for s, seed in enumerate(SEEDS)
        for protocol in PROTOCOLS
        for group in GROUPS
    ]
    names = list(methods)
    tested = {
        "protocol": "full",
        "backbone": "sasrec",
        "difference": 0.1,
        "low": 0.05,
        "high": 0.2,
        "p_value": 0.01,
    }
    comparisons = [{**tested, "first": names[0], "second": name} for name in names[1:]]
    about = {
        "command": "python -m grasp_jax.main --config=x&y",
        "cores": 2,
        "cpu": "a CPU",
        "device": "cpu",
        "versions": {"jax": "1"},
        "commit": "abc",
        "lengths": {"3": 5, "9": 1},
        "table1": {"dataset": dataset, "users": sizes[0], "items": sizes[1], "interactions": 20},
    }
    failures = [
        {"method": name, "backbone": "sasrec", "reason": "loss nan at step 3"} for name in failed
    ]
    epochs = [
        {
            "event": "epoch",
            "method": method,
            "backbone": "sasrec",
            "seed": 1,
            "dropout": 0.2,
            "epoch": epoch,
            "loss": 1 / epoch,
        }
        | {"valid_ndcg@10": value * epoch / 3}
        for method, value in methods.items()
        for epoch in (1, 2, 3)
    ]
    example = {
        "user": "u1",
        "history": ["<script>alert(1)</script>", "b"],
        "truth": "c",
        "gates": {"self": 0.5},
        "place": 2,
    }
    example["top"] = [{"title": title, "score": 1.0} for title in "acd"]
    (folder / "examples").mkdir(parents=True)
    (folder / "gates").mkdir()
    (folder / "config.json").write_text(json.dumps(settings.to_dict()))
    (folder / "results.json").write_text(
        json.dumps({"rows": rows, "comparisons": comparisons, "failed": failures, "about": about})
    )
    for record in epochs:
        Records(folder / "metrics.jsonl").append(record)
    for method in methods:
        (folder / "examples" / f"{method}-sasrec.json").write_text(json.dumps([example]))
    corrupted = np.arange(40) < 10
    np.savez(
        folder / "gates" / "grasp-sasrec.npz",
        gates=np.random.default_rng(0).random((40, 3)),
        corrupted=corrupted,
    )
    return str(folder)


@pytest.fixture
def fashion(tmp_path: pathlib.Path) -> FinishedRun:
    return read_runs(
        workdir(tmp_path / "one", {"plain": 0.40, "grasp": 0.50}, failed=("llm_esr",))
    )[0]


def test_overall_stands_beside_the_paper(fashion: FinishedRun) -> None:
    """A reader would compare with another cell of the paper, or see another mean than the runs have."""
    table = overall(fashion, "sampled100")
    cell = {
        (row[1], name): value
        for row in table.rows
        for name, value in zip(table.header, row, strict=True)
    }
    assert cell["grasp", "NDCG@10"] == "50.50 ± 0.71" and cell["plain", "HR@5"] == "40.50 ± 0.71"
    assert cell["grasp", "over plain"] == "+24.7 %" and cell["plain", "over plain"] == "-"
    assert (
        cell["plain", "paper NDCG@10"] == "44.13" and cell["plain", "difference NDCG@10"] == "-3.63"
    )
    assert cell["plain", "paper HR@10"] == "49.95" and cell["plain", "difference HR@10"] == "-9.45"
    assert cell["llm_esr", "NDCG@5"] == "failed: loss nan at step 3"
    best = {(table.rows[r][1], table.header[c]) for r, c in table.best}
    assert {name for name, _ in best} == {"grasp"} and ("grasp", "NDCG@10") in best
    assert "paper NDCG@10" not in overall(fashion, "full").header


def test_a_trial_without_a_protocol_has_empty_cells(fashion: FinishedRun) -> None:
    """A resumed run of an earlier version would show "+nan", and a warning of NumPy on the terminal."""
    rows = [
        row
        for row in fashion.results["rows"]
        if (row["method"], row["protocol"]) != ("grasp", "sampled100")
    ]
    fewer = dataclasses.replace(fashion, results=fashion.results | {"rows": rows})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = overall(fewer, "sampled100")
    (row,) = [dict(zip(table.header, own, strict=True)) for own in table.rows if own[1] == "grasp"]
    assert row["difference NDCG@10"] == row["difference HR@10"] == row["NDCG@10"]
    assert "nan" not in str(row)


def test_latex_escapes_all_special_characters() -> None:
    """The reason of a failure would stop LaTeX, or be printed as something else."""
    cell = r"{x}^2 \a ~ $5 & 6% #_> <"
    text = latex(ReportTable("t", "T", ["a", "b"], [["m", cell]]))
    line = next(line for line in text.splitlines() if line.startswith("m & "))
    commands = (r"\textasciicircum{}", r"\textbackslash{}", r"\textasciitilde{}", "$>$", "$<$")
    for command in commands:
        assert command in line
        line = line.replace(command, "")
    rest = line.removeprefix("m & ").removesuffix(r" \\")
    assert rest == r"\{x\}2 a  \$5 \& 6\% \#\_ "


def test_gains_are_over_ids_alone(tmp_path: pathlib.Path) -> None:
    """A run that `init` set up has sasrec_ce and no plain: its column of gains would be empty."""
    run = read_runs(workdir(tmp_path / "one", {"sasrec_ce": 0.40, "grasp_plus": 0.50}))[0]
    table = overall(run, "full")
    column = table.header.index("over sasrec_ce")
    assert [row[column] for row in table.rows] == ["-", "+24.7 %"]
    shown = {row.method: row.cells[2].text for row in joined([run], {"one": "one"}).rows}
    assert shown["grasp_plus"] == "+24.7 %" and shown["sasrec_ce"] == "-"


def test_another_cut_of_the_data_has_no_difference(tmp_path: pathlib.Path) -> None:
    """A difference to the paper would be claimed on data that are not the paper's."""
    table = overall(
        read_runs(workdir(tmp_path / "one", {"plain": 0.4}, dataset="beauty5"))[0], "sampled100"
    )
    assert (
        "difference NDCG@10" not in table.header
        and "another version of the data" in table.note
        and "30.58" in table.rows[0]
    )


def test_another_shop_under_a_papers_name_has_no_figures_of_it(tmp_path: pathlib.Path) -> None:
    """The paper's figures for Beauty would stand next to those of a shop that was read with Beauty's config."""
    for number, sizes in enumerate((SIZES["beauty5"], (1_000, 400))):
        folder = workdir(tmp_path / f"{number}", {"plain": 0.4}, "beauty5", sizes=sizes)
        tables = all_tables(read_runs(folder)[0])
        shown = [column for table in tables for column in table.header if "paper" in column]
        assert bool(shown) is (number == 0), shown
    assert not is_other_data("my-shop", 1_000, 400)


def test_other_groups_than_the_papers_are_told(tmp_path: pathlib.Path) -> None:
    """A reader would compare our tail items with the paper's, which are other items."""

    def note(name: str, dataset: str, counted: str) -> str:
        folder = workdir(tmp_path / name, {"plain": 0.4}, dataset, **{"eval.groups": counted})
        table = next(t for t in all_tables(read_runs(folder)[0]) if t.name == "groups-sampled100")
        assert "paper, tail item" in table.header
        return table.note

    assert "config.eval.groups=paper" in note("ours", "fashion", "training")
    assert note("theirs", "fashion", "paper") == "Percent, test"
    assert "another cut" in note("other", "beauty5", "paper")


def test_ablations_are_against_grasp(tmp_path: pathlib.Path) -> None:
    """Table 4 would be compared with another variant."""
    one = read_runs(
        workdir(tmp_path / "one", {"grasp": 0.50, "grasp_wo_attention": 0.40}, dataset="beauty5")
    )[0]
    table = next(table for table in all_tables(one) if table.name == "ablation")
    row = dict(zip(table.header, table.rows[1], strict=True))
    assert table.rows[1][3] == f"{100 * (40.5 / 50.5 - 1):+.1f} %"
    assert (row["paper NDCG@10"], row["paper against GRASP"]) == (
        "33.41",
        f"{100 * (33.41 / 42.76 - 1):+.1f} %",
    )


def test_mean_gates_by_description(fashion: FinishedRun) -> None:
    """Gates of users with a wrong description would be mixed with the others'."""
    table = next(table for table in all_tables(fashion) if table.name == "gates")
    gates = np.random.default_rng(0).random((40, 3))
    assert [row[2] for row in table.rows] == ["as written", "wrong"]
    assert table.rows[1][3] == f"{gates[:10, 0].mean():.4f} ± {gates[:10, 0].std():.4f}"
    assert table.rows[0][5].startswith(f"{gates[10:, 2].mean():.4f}")


def test_formats_keep_every_cell() -> None:
    """A number would be lost on the way to a paper, or LaTeX not compile."""
    rows = [["sasrec", "grasp_plus", "1.00 ± 0.10"], ["", "b", "5 %"]]
    table = ReportTable(
        "t", "A & B", ["backbone", "method", "x_y"], rows, "p < 0.05", frozenset({(0, 2)})
    )
    assert list(csv.reader(io.StringIO(comma_separated(table)))) == [table.header, *table.rows]
    assert "| sasrec | grasp_plus | **1.00 ± 0.10** |" in markdown(table)
    assert r"| a\|b |" in markdown(ReportTable("t", "T", ["x"], [["a|b"]])), (
        "a bar in a title is no column"
    )
    text = latex(table)
    assert (
        r"sasrec & grasp\_plus & \textbf{1.00 $\pm$ 0.10} \\" in text
        and r"5 \%" in text
        and r"A \& B. p $<$ 0.05." in text
    )
    assert text.count(r"\begin") == text.count(r"\end") == 2 and "{llr}" in text


def test_a_paper_can_take_the_tables_as_they_are(fashion: FinishedRun) -> None:
    """A reader of the paper would not know what ± and bold are, nor a program get at the numbers behind them."""
    table = overall(fashion, "full")
    caption = next(line for line in latex(table).splitlines() if line.startswith(r"\caption"))
    for part in ("2 seeds of each", "standard deviation over seeds, with n - 1", "Bold", "5 test"):
        assert part in caption, part
    cell = dict(zip(table.header, table.rows[0], strict=True))
    assert (cell["dropout"], cell["learning rate"]) == ("0.2", "-"), "these rows have no rate"
    (first, second) = csv.DictReader(io.StringIO(comma_separated(table)))
    assert (first["method"], first["seeds"], first["dropout"]) == ("plain", "2", "0.2")
    assert float(second["NDCG@10 mean"]) == pytest.approx(50.5, abs=1e-12)
    assert float(second["NDCG@10 sd"]) == pytest.approx(np.std([50, 51], ddof=1), abs=1e-9)
    tables = {own.name: own for own in all_tables(fashion)}
    (pair,) = csv.DictReader(io.StringIO(comma_separated(tables["significance"])))
    assert (pair["first"], pair["second"], float(pair["p"])) == ("plain", "grasp", 0.01)
    assert "tail_item mean" in comma_separated(tables["groups-full"])


def test_page_stands_alone(tmp_path: pathlib.Path) -> None:
    """The page would need a network, run a title as a script, or lack a part."""
    runs = read_runs(
        ",".join(
            [
                workdir(tmp_path / "one", {"plain": 0.40, "grasp": 0.50}),
                workdir(tmp_path / "two", {"plain": 0.3}, **{"model.features": 32}),
            ]
        )
    )
    paths = write_report(runs, tmp_path / "out")
    assert all(path.is_file() for path in paths)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(1)" in page and "x&amp;y" in page
    loaded = re.findall(r"""(?:src|href)=["'](?!\#)([^"']*)""", page)
    assert loaded == ["data:,"] and "url(" not in page, "loads something"
    for part in (
        'id="learning"',
        "Gates",
        "Lengths of histories",
        "Recommendations",
        "9,094 users",
        "self 0.500",
        "fashion, features 64",
    ):
        assert part in page, part
    assert page.count('<span class="badge">hit') == 2, "the item is marked in both lists"
    assert "hit at place 2" in page
    report = (tmp_path / "out" / "REPORT.md").read_text()
    assert (
        "## fashion, features 64" in report
        and "50.50" in report
        and (tmp_path / "out" / "tables" / "two-overall-full.csv").is_file()
    )
    for path in (tmp_path / "out" / "figures").glob("*.svg"):
        root = xml.etree.ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg") and float(root.attrib["width"]) >= 340, path


def drawn(runs: list[FinishedRun]) -> dict[str, Any]:
    """Figures of runs by their titles."""
    return all_figures(runs, run_labels(runs))


def test_curves_join_runs_that_differ_in_one_field(tmp_path: pathlib.Path) -> None:
    """A curve would join runs that differ in more than its axis, or miss one that compiled elsewhere or measured something more."""

    def made(name: str, **config: Any) -> str:
        return workdir(tmp_path / name, {"grasp": 0.3}, **config)

    k5, k10 = (
        made(
            f"k{k}",
            **{
                "knowledge.num_neighbours": k,
                "compilation_cache": f"cache{k}",
                "eval.full": k == 5,
            },
        )
        for k in (5, 10)
    )
    wide = [made(f"w{k}", **{"knowledge.num_neighbours": k, "model.features": 32}) for k in (1, 20)]
    alone = made("alone", **{"knowledge.num_neighbours": 40, "train.batch_size": 64})
    runs = read_runs(",".join([k10, alone, *wide, k5]))
    found = [[(k, run.name) for k, run in family] for family in curve_families(runs, "K")]
    assert found == [[(5, "k5"), (10, "k10")], [(1, "w1"), (20, "w20")]]
    assert not curve_families(runs, "D") and "Width D" not in drawn(runs)
    assert "Number of neighbours K" in drawn(runs) and not curve_families(runs[:2], "K")

    gates = [
        made(f"g{query}{s}", **{"model.gate_scale": s, "model.gate_query": query})
        for s in (1.0, 4.0)
        for query in ("user", "prefix")
    ]
    assert "Temperature of the gate" in drawn(read_runs(",".join(gates)))
    assert "Temperature of the gate" not in drawn(read_runs(",".join(gates[:2])))
    swap = {"knowledge.corruption.kind": "swap"}
    wrong = [
        made(f"c{share}", **swap, **{"knowledge.corruption.share": share}) for share in (0.1, 0.5)
    ]
    other = made("clean of another data", **{"data.max_length": 7})
    together = families(read_runs(",".join([*wrong, other, gates[0]])), "knowledge.corruption")
    assert [[run.name for run in family] for family in together] == [["c0.1", "c0.5", "guser1.0"]]
    assert "Wrong descriptions" in drawn(read_runs(",".join(wrong)))
    assert "Wrong descriptions" not in drawn(read_runs(",".join(gates)))


def test_a_checksum_is_no_field(tmp_path: pathlib.Path) -> None:
    """Every run of today has another checksum in its config, and no two would stand on one curve, or have it for a name."""
    for k in (5, 10):
        folder = pathlib.Path(
            workdir(tmp_path / f"k{k}", {"grasp": 0.3}, **{"knowledge.num_neighbours": k})
        )
        config = json.loads((folder / "config.json").read_text())
        write_sealed(folder / "config.json", config)
        write_sealed(folder / "results.json", json.loads((folder / "results.json").read_text()))
    runs = read_runs(f"{tmp_path / 'k5'},{tmp_path / 'k10'}")
    assert [[k for k, _ in family] for family in curve_families(runs, "K")] == [[5, 10]]
    assert run_labels(runs)["k5"] == "fashion, num_neighbours 5"


def test_faults_are_one_line(tmp_path: pathlib.Path) -> None:
    """A mistyped folder would be a traceback, or a page without its numbers."""
    assert "--runs is empty" in one_line_error(run([*MAIN, f"--out={tmp_path}"]))
    assert "nowhere/config.json does not exist" in one_line_error(run([*MAIN, "--runs=nowhere"]))
    trained = pathlib.Path(workdir(tmp_path / "trained", {"plain": 0.4}))
    (trained / "results.json").unlink()
    told = ("no results yet", f"grasp-jax --mode=evaluate --workdir={trained}")
    assert_names(refusal(read_runs, str(trained)), told)
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4}))
    assert_names(refusal(read_runs, f"{folder},{folder}"), ("two folders are called one", "rename"))
    gates = folder / "gates" / "grasp-sasrec.npz"
    for damaged in (gates.read_bytes()[:100], b"", b"PK"):
        gates.write_bytes(damaged)
        assert_names(
            refusal(read_runs, str(folder)), ("grasp-sasrec.npz", "not readable", "--mode=evaluate")
        )
    assert_names(
        refusal(read_runs, str(folder / "config.json")),
        ("config.json", "not readable", "workdirs of finished runs"),
    )
    assert f"--out: {folder / 'config.json'} is a file" in one_line_error(
        run([*MAIN, f"--runs={folder}", f"--out={folder / 'config.json'}"])
    )
    (folder / "results.json").write_text("[]")
    gates.unlink()
    assert_names(
        refusal(read_runs, str(folder)), ("results.json", "holds []; expected a JSON object")
    )
    (folder / "config.json").write_text("[]")
    assert_names(
        refusal(read_runs, str(folder)), ("config.json", "holds []; expected a JSON object")
    )


RECORD = as_line({"event": "epoch", "method": "a", "backbone": "b", "epoch": 1})
DAMAGE: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "config is a list": ("config.json", b"[]", ("config.json: holds []", "expected a JSON object")),
    "config is no text": ("config.json", b"\xff\xfe{", ("config.json:1: ", "is not UTF-8")),
    "config without sections": ("config.json", b"{}", ("config.json: not the config of a run",)),
    "width is text": (
        "config.json",
        b'{"data":{},"knowledge":{},"model":{"features":"wide"}}',
        ('model.features is "wide"',),
    ),
    "results are a number": ("results.json", b"5", ("results.json: holds 5",)),
    "results have no rows": ("results.json", b'{"rows": []}', ("results.json: holds no rows",)),
    "a row is a number": (
        "results.json",
        b'{"rows": [5]}',
        ("results.json: rows, entry 1: 5", "expected an object"),
    ),
    "a row without metrics": (
        "results.json",
        b'{"rows": [{"dataset": "a"}]}',
        ("rows, entry 1: no 'method'",),
    ),
    "records are no text": (
        "metrics.jsonl",
        b'{"a": 1}\n\xff\xff\n',
        ("metrics.jsonl:2: ", "is not UTF-8"),
    ),
    "a record without loss": (
        "metrics.jsonl",
        RECORD.encode(),
        ("epoch record 1: no 'loss'",),
    ),
    "examples are an object": (
        "examples/plain-sasrec.json",
        b"{}",
        ("expected a list of examples",),
    ),
    "an example is a number": ("examples/plain-sasrec.json", b"[5]", ("example 1: 5",)),
    "an example without history": (
        "examples/plain-sasrec.json",
        b'[{"user": "u"}]',
        ("example 1: no 'history'",),
    ),
    "gates are empty": ("gates/grasp-sasrec.npz", b"", ("grasp-sasrec.npz: not readable",)),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_runs_are_one_line(how: str, tmp_path: pathlib.Path) -> None:
    """A file that an editor or a crash has changed would be a traceback, or a page without its numbers."""
    name, content, parts = DAMAGE[how]
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4, "grasp": 0.5}))
    (folder / name).write_bytes(content)
    assert_names(refusal(read_runs, str(folder)), (str(folder), *parts))


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (4,)])
def test_gates_of_another_shape(shape: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    """An empty or cut array would fail in the midst of a figure."""
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4}))
    np.savez(
        folder / "gates" / "grasp-sasrec.npz",
        gates=np.zeros(shape),
        corrupted=np.zeros(shape[0], bool),
    )
    assert_names(
        refusal(read_runs, str(folder)),
        ("grasp-sasrec.npz", f"of shape {shape}", "--mode=evaluate"),
    )


def test_a_line_that_is_no_record(tmp_path: pathlib.Path) -> None:
    """A number among the records would end the report."""
    folder = pathlib.Path(workdir(tmp_path / "one", {"plain": 0.4}))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("5\n[]\n")
    assert_names(
        refusal(read_runs, str(folder)),
        ("metrics.jsonl:4: '5'", "grasp_jax did not write it", "remove that line"),
    )
