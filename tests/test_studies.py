"""The stored results of a study's runs, and the pages made from them."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks import (
    studies,
    study_intervals,
    study_labels,
    study_late_fusion,
    study_records,
    study_search,
    study_trials,
)
from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from tests.test_report import SEEDS, workdir


@pytest.fixture
def pages(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Empty results, and a page by hand that has places for the gates' study and the robustness study."""
    monkeypatch.setattr(study_records, "RESULTS", tmp_path)
    monkeypatch.setattr(studies, "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    for page in {page for page, _ in studies.STUDIES.values()}:
        marks = "".join(
            f"\nbefore {name}\n<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in studies.STUDIES
        )
        (tmp_path / "docs" / page).write_text(marks)
    return tmp_path / "docs"


def gate_run(folder: pathlib.Path, scale: float, value: float) -> str:
    return workdir(
        folder, {"grasp": value}, **{"model.gate_scale": scale, "model.gate_query": "prefix"}
    )


def test_a_page_says_what_the_kept_runs_measured(
    tmp_path: pathlib.Path, pages: pathlib.Path
) -> None:
    """A figure would come from another run, or the words around it be lost."""
    study_records.keep(
        "gates", [gate_run(tmp_path / "a", 1.0, 0.3), gate_run(tmp_path / "b", 8.0, 0.4)]
    )
    studies.write_pages()
    text = (pages / "attention-and-leakage.md").read_text()
    assert (
        "| prefix | 1 | 0.333 | 30.00 | 30.50 ± 0.71 |" in text
        and "| prefix | 8 | 0.333 | 40.00 | 40.50 ± 0.71 |" in text
    )
    assert "before gates\n<!-- gates -->" in text and "<!-- robustness -->\nold" in text
    assert (pages / "figures" / "gates.svg").read_text().startswith("<svg")


def test_a_run_kept_again_replaces_itself(tmp_path: pathlib.Path, pages: pathlib.Path) -> None:
    """A repeated run would be in the study twice, or the other runs would be dropped."""
    study_records.keep("gates", [gate_run(tmp_path / "a", 1.0, 0.3)])
    study_records.keep("gates", [gate_run(tmp_path / "b", 8.0, 0.4)])
    study_records.keep("gates", [gate_run(tmp_path / "again" / "a", 1.0, 0.2)])
    stored = json.loads((tmp_path / "study-gates.json").read_text())["runs"]
    assert [(run["name"], run["results"]["rows"][0]["NDCG@10"]) for run in stored] == [
        ("a", 0.2),
        ("b", 0.4),
    ]


def test_robustness_tells_wrong_descriptions_apart(
    tmp_path: pathlib.Path, pages: pathlib.Path
) -> None:
    """Gates of users with a wrong description would be averaged with the others, or a method's numbers stand under another's name."""
    for share, value in ((0.0, 0.4), (0.5, 0.3)):
        config = {"knowledge.corruption.kind": "swap", "knowledge.corruption.share": share}
        folder = workdir(tmp_path / f"p{share}", {"grasp": value, "llm_esr": value - 0.1}, **config)
        study_records.keep("robustness", [folder])
    text, _ = studies.robustness()
    assert "| swap | 50 % | 30.50 ± 0.71 | 20.50 ± 0.71 | 30.50 ± 0.71 | 20.50 ± 0.71 |" in text
    assert text.count("| wrong |") == 2 and text.count("| as written |") == 2


def test_committed_pages_are_those_of_the_committed_runs() -> None:
    """A page would show figures that no kept run has."""
    for name, (page, make) in studies.STUDIES.items():
        if studies.has_runs(name):
            text = (studies.DOCS / page).read_text(encoding="utf-8")
            assert make()[0] in text, (
                f"{page}: {name} is not what `python -m benchmarks.studies` writes"
            )


def test_where_files_lay_is_not_kept(tmp_path: pathlib.Path, pages: pathlib.Path) -> None:
    """The folders of whoever ran the study would be published with it."""
    given = {
        "knowledge.sentence.model": "/home/somebody/models/minilm/model",
        "data.items_file": "../shared/items.jsonl",
    }
    study_records.keep("encoders", [workdir(tmp_path / "a", {"grasp": 0.3}, **given)])
    kept = (tmp_path / "study-encoders.json").read_text()
    assert "minilm/model" in kept and "somebody" not in kept and "../shared/items.jsonl" in kept


def test_seeds_of_one_row_in_two_runs_are_one_row(
    tmp_path: pathlib.Path, pages: pathlib.Path
) -> None:
    """A variant of grasp_plus would be averaged with another one, or each seed get a row of its own."""
    given = {"train.loss": "ce", "train.max_epochs": study_trials.EPOCHS}
    study_records.keep(
        "ahead",
        [
            workdir(tmp_path / "ahead-best-seed42", {"grasp_plus": 0.3, "llm_esr": 0.1}, **given),
            workdir(tmp_path / "ahead-best-seed43", {"grasp_plus": 0.5}, **given),
            workdir(tmp_path / "ahead-no_match", {"grasp_plus": 0.2}, **given),
            workdir(tmp_path / "ahead-published", {"llm_esr": 0.4}),
        ],
    )
    runs = study_trials.merged(study_records.read("ahead")[0])
    means = {
        trial: values(run, *trials(run)[0], "full", "all", "NDCG@10").mean()
        for trial, run in runs.items()
    }
    assert means == pytest.approx(
        {
            ("best", "cross-entropy"): 40.5,
            ("llm_esr", "cross-entropy"): 10.5,
            ("no_match", "cross-entropy"): 20.5,
            ("llm_esr", "BCE"): 40.5,
        }
    )


def test_rows_are_of_the_dropout_that_validation_prefers() -> None:
    """The test would choose the rate, or a row be the mean over models of different rates."""

    def tried(name: str, rate: float, valid: float, test: float) -> FinishedRun:
        row = {"method": "llminit", "backbone": "sasrec", "dropout": rate, "seed": 42}
        rates = [rate, rate - 0.1]  # the run has tried another, which is worse
        epochs = [
            {**row, "dropout": each, "epoch": k, "valid_ndcg@10": valid - 0.01 * k - n}
            for n, each in enumerate(rates)
            for k in range(2)
        ]
        rows = [{**row, "protocol": "full", "group": "all", "NDCG@10": test}]
        return FinishedRun(name, {"train": {"loss": "ce"}}, {"rows": rows}, epochs, {}, {})

    runs = [
        tried("ahead-llminit", 0.5, 0.3, 0.9),
        tried("ahead-dropouts", 0.7, 0.4, 0.1),
        tried("ahead-llminit-seed43", 0.5, 0.2, 0.8),
    ]
    ((trial, run),) = study_trials.merged(runs).items()
    assert trial == ("llminit", "cross-entropy")
    assert [row["NDCG@10"] for row in run.rows] == [0.1]


def test_differences_are_those_of_the_ranks(tmp_path: pathlib.Path) -> None:
    """A row would be compared with another baseline or protocol, or with a sign the wrong way round."""
    rng = np.random.default_rng(0)
    folders, ranks = [], {}
    for method in ("sasrec_ce", "llm_esr"):
        given = {"train.loss": "ce", "train.max_epochs": study_trials.EPOCHS}
        folders.append(workdir(tmp_path / method, {method: 0.3}, **given))
        (tmp_path / method / "ranks").mkdir(exist_ok=True)
        for protocol in study_records.PROTOCOLS:
            for seed in SEEDS:
                own = ranks[method, protocol, seed] = rng.integers(0, 30, 400)
                name = f"{method}-sasrec-seed{seed}-{protocol}.npz"
                np.savez(tmp_path / method / "ranks" / name, rank=own)
    found = study_intervals.differences(folders)
    assert list(found) == ["llm_esr cross-entropy"]
    for protocol in ("full", "sampled100"):
        base, own = (
            np.mean([ndcg_at_10(ranks[method, protocol, seed]) for seed in SEEDS])
            for method in ("sasrec_ce", "llm_esr")
        )
        difference, low, high = found["llm_esr cross-entropy"][protocol]
        assert difference == pytest.approx(100 * (own - base)) and low < difference < high
    rejected = {("llm_esr", "cross-entropy"): (0.9, 0.0)}  # validation chose another dropout
    assert study_intervals.differences(folders, rejected) == {}


def epochs_of(row: dict[str, object], scores: dict[float, float]) -> list[dict[str, object]]:
    """One epoch of a model for each dropout, with its validation NDCG@10."""
    return [
        row | {"dropout": rate, "epoch": 1, "valid_ndcg@10": score, "train_seconds": 60.0}
        for rate, score in scores.items()
    ]


def tried_run(
    name: str, seed: int, scores: dict[float, float], test: float, **train: int
) -> FinishedRun:
    """A run of LLMInit by cross-entropy that tried several rates, and tested the best."""
    row = {"method": "llminit", "backbone": "sasrec", "seed": seed, "learning_rate": 0.002}
    rows = [
        row
        | {"dropout": max(scores, key=lambda rate: scores[rate])}
        | {"protocol": "full_unseen", "group": "all", "NDCG@10": test}
    ]
    config = {"train": {"loss": "ce", **train}, "model": {}}
    return FinishedRun(name, config, {"rows": rows}, epochs_of(row, scores), {}, {})


def test_what_was_tried_is_told_in_full() -> None:
    """A row would be believed to be tuned though one setting was tried, or another setting be told as the chosen one."""
    runs = [
        tried_run("ahead-a", 42, {0.3: 0.07, 0.5: 0.08}, 0.06),
        tried_run("ahead-b", 43, {0.5: 0.06}, 0.05),
        tried_run("ahead-long", 42, {0.6: 0.09}, 0.07, max_epochs=40),
    ]
    table = study_search.table(runs)
    assert [row[0] for row in table.rows] == ["`llminit`", "`llminit`, 40 epochs"]
    assert table.rows[0][3:] == ["dropout 0.3: 7.00; **dropout 0.5: 7.00**", "3"]
    assert table.rows[1][3:] == ["**dropout 0.6: 9.00**", "1"]


def test_one_method_has_the_same_figures_in_two_tables() -> None:
    """The row without text that wrong texts are compared with would be of other models than the row of the headline table."""
    pages = (study_late_fusion.ahead()[0], study_late_fusion.wrong()[0])
    first, second = (
        next(line for line in page.splitlines() if line.startswith("| `sasrec_ce`"))
        for page in pages
    )
    assert first.split(" | ")[3:9] == second.split(" | ")[3:9]


def test_variation_is_pooled_over_rows() -> None:
    """A difference that seeds alone make would be told as a finding."""
    runs = [
        tried_run("ahead-a", 42, {0.5: 0.1}, 0.050),
        tried_run("ahead-b", 43, {0.5: 0.1}, 0.054),
        tried_run("ahead-long-a", 42, {0.5: 0.1}, 0.070, max_epochs=40),
        tried_run("ahead-long-b", 43, {0.5: 0.1}, 0.072, max_epochs=40),
        tried_run("ahead-single", 42, {0.5: 0.1}, 0.090, max_epochs=60),
    ]
    said = study_search.variation(study_trials.merged(runs).values())
    # 5.0 and 5.4 have a variance of 0.08, 7.0 and 7.2 one of 0.02; Student's t of two degrees of freedom is 4.303 at 97.5 %
    assert "0.224 (2 degrees of freedom)" in said
    assert f"can be {4.303 * 2**0.5 * 0.05**0.5:.2f} apart" in said


def test_a_learning_rate_that_validation_rejects_is_left_out() -> None:
    """A row would be a mean over models of different learning rates."""
    good = tried_run("ahead-a", 42, {0.5: 0.08}, 0.06)
    bad = tried_run("ahead-b", 43, {0.5: 0.07}, 0.09)
    for entry in (*bad.rows, *bad.epochs):
        entry["learning_rate"] = 0.004
    ((_, run),) = study_trials.merged([good, bad]).items()
    assert [row["NDCG@10"] for row in run.rows] == [0.06]


def test_public_logs_stand_beside_our_rows(tmp_path: pathlib.Path, pages: pathlib.Path) -> None:
    """The lead over a public log would be computed from another row or metric, or its source be left out."""
    given = {"train.loss": "ce", "train.max_epochs": study_trials.EPOCHS}
    study_records.keep(
        "ahead", [workdir(tmp_path / "ahead-idtext-validated_match", {"grasp_plus": 0.5}, **given)]
    )
    log = {
        "model": "SASRec",
        "source": "https://github.com/someone/something/tree/abc/logs",
        "settings": "dropout 0.6",
        "valid_ndcg@10": [0.5, 0.7],
        "ndcg@10": [0.3, 0.5],
        "hr@10": [0.6, 0.8],
    }
    record = {"data": {"users": 22363, "items": 7, "interactions": 20}, "runs": [log]}
    (tmp_path / "study-public.json").write_text(json.dumps(record))
    text, _ = studies.public()
    assert "22,363 users" in text
    source = "[someone/something](https://github.com/someone/something/tree/abc/logs): dropout 0.6"
    assert (
        f"| SASRec | {source} | 2 | 60.00 ± 14.14 | 40.00 ± 14.14 | 70.00 ± 14.14 | +26 % |" in text
    )
    ours = "| `grasp_plus` | this package | 2 |"
    assert text.index("| SASRec |") < text.index(ours)
    assert "| 50.50 ± 0.71 | 50.50 ± 0.71 |  |" in text


def test_losses_are_compared_for_the_same_method(
    tmp_path: pathlib.Path, pages: pathlib.Path
) -> None:
    """The gain by the loss would be that of another method, or SASRec be left out because its two rows have two names."""
    ce = {"train.loss": "ce", "train.max_epochs": study_trials.EPOCHS}
    study_records.keep(
        "ahead",
        [
            workdir(tmp_path / "ahead-published", {"plain": 0.2, "llm_esr": 0.1}),
            workdir(
                tmp_path / "ahead-ce", {"sasrec_ce": 0.6, "llm_esr": 0.2, "llminit": 0.5}, **ce
            ),
        ],
    )
    text, _ = studies.by_loss()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "±" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| `llm_esr`", "| `plain`"]
    factor = 60.5 / 20.5
    assert f"| BCE | 2 / 2 | 20.50 ± 0.71 | 60.50 ± 0.71 | {factor:.2f} |" in rows[1]


def test_a_row_of_grasp_plus_has_the_name_of_its_defaults() -> None:
    """Today's runs would be shown as those with the former defaults, or the other way round."""
    for start, expected in (("text", study_labels.DEFAULT), ("random", study_trials.OURS)):
        config = {"model": {"plus": {"id_start": start}}}
        for name in ("ahead-grasp_plus-seed1", "ahead-seed1"):
            run = FinishedRun(name, config, {"rows": []}, [], {}, {})
            assert study_late_fusion._variant(run) == expected
        run = FinishedRun("ahead-grasp_plus-seed1", config, {"rows": []}, [], {}, {})
        assert study_trials.label(run, study_trials.OURS) == expected
    other = FinishedRun("domain-x-validated_match-seed3", config, {"rows": []}, [], {}, {})
    assert study_late_fusion._variant(other) == study_trials.RANDOM_START
