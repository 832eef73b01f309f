"""The train benchmark: rivals get the package's split and candidates, stop as it stops, and are measured by its formula."""

import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import train
from benchmarks.lengths import log_to_time
from benchmarks.own_training import data_of, prepared_run
from benchmarks.rivals import protocol
from benchmarks.sections import training
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split
from grasp_jax.evaluation.metrics import metrics, ndcg_at_10
from grasp_jax.training.early_stopping import Progress
from tests import popular_rival
from tests.refusal import refusal

CHANCE = float(np.sum(1 / np.log2(np.arange(10) + 2)) / 101)  # NDCG@10 of scores drawn at random
SETTINGS = train.settings_to_time(quick=True)
NUM_GROUPS, EPOCHS = 6, 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Split]:
    """A folder as rivals get it, and the split that it was made of."""
    folder = tmp_path_factory.mktemp("train")
    train.write_interactions(folder, log_to_time(quick=True))
    own = prepared_run(folder, SETTINGS)
    protocol.write(folder, SETTINGS, data_of(own))
    return folder, own.run.split


def test_rivals_read_the_split_and_its_candidates(prepared: tuple[pathlib.Path, Split]) -> None:
    """A rival would train on what it is tested on, be asked from another history, or choose among items that the user has seen."""
    (folder, split), log = prepared, prepared[1].log
    settings, data = protocol.read(folder)
    assert settings == SETTINGS and data.num_items == log.num_items
    everyone = data.training_histories()
    assert len(everyone) == log.num_users
    histories = {name: data.histories(name) for name in ("valid", "test")}
    assert (data.valid.users == split.valid.evaluated).all() and (
        data.test.users == split.test.evaluated
    ).all()
    short = np.setdiff1d(np.arange(log.num_users), data.test.users)
    assert len(short) and all(len(everyone[user]) == log.lengths[user] for user in short)
    for k, user in enumerate(data.test.users):
        own = log.items[log.offsets[user] : log.offsets[user + 1]]
        assert (
            (everyone[user] == own[:-2]).all()
            and (histories["valid"][k] == own[:-2]).all()
            and (histories["test"][k] == own[:-1]).all()
        )
        assert data.valid.candidates[k, 0] == own[-2] and data.test.candidates[k, 0] == own[-1]
        for held_out in (data.valid, data.test):
            negatives = held_out.candidates[k, 1:]
            assert len(set(negatives)) == 100 and not set(negatives) & set(own)


def test_rivals_are_measured_as_the_package_measures() -> None:
    """A tie, or a score that is no number, would count for a rival and against us."""
    scores = np.array(
        [
            [1.0, 0.5, 2.0],
            [1.0, 1.0, 0.0],
            [np.nan, 0.0, 0.0],
            [3.0, np.nan, 0.0],
            [3.0, 0.0, -np.inf],
        ]
    )
    assert protocol.ranks_of(scores).tolist() == [1, 1, 2, 1, 0]
    lost = np.array([[-np.inf, 0.0, -np.inf, 1.0]])  # an item that a rival does not know
    assert protocol.ranks_of(lost).tolist() == [3]
    ranks = np.random.default_rng(0).integers(0, 30, 500)
    assert (
        protocol.ndcg_at_10(ranks)
        == pytest.approx(ndcg_at_10(ranks))
        == pytest.approx(metrics(ranks)["NDCG@10"])
    )


@pytest.mark.parametrize("left", [False, True])
def test_histories_are_padded_on_the_side_asked_for(left: bool) -> None:
    """A rival would read a history backwards, without its newest items, or shifted."""
    rows = protocol.padded(
        [np.array([5, 6, 7, 8]), np.array([9]), np.array([], int)], 3, fill=0, left=left
    )
    assert rows.tolist() == [[6, 7, 8], [0, 0, 9] if left else [9, 0, 0], [0, 0, 0]]


def test_rivals_stop_when_the_package_stops() -> None:
    """A rival would train longer or shorter than we do on the same validation scores."""
    scores = [
        4,
        5,
        3,
        5,
        4,
        3,
        4,
        0,
    ]  # rank of every target: the third epoch is the best, the sixth no better
    course, progress = (
        protocol.Course(SETTINGS._replace(patience=4, max_epochs=50)),
        Progress.start(1),
    )
    for rank in scores:
        ranks = np.full(7, rank)
        kept = course.after_epoch(1.0, ranks)
        progress, better = progress.after_epoch(np.array([ndcg_at_10(ranks)]), 4)
        assert (
            kept == better[0]
            and course.best_epoch == progress.best_epoch[0]
            and course.ends == progress.stopped[0]
        )
        if course.ends:
            break
    assert course.ends and course.best_epoch == 3 and len(course.valid_ndcg) == 7
    bounded = protocol.Course(SETTINGS._replace(patience=4, max_epochs=2))
    bounded.after_epoch(1.0, np.zeros(7))
    assert not bounded.ends
    bounded.after_epoch(1.0, np.zeros(7))
    assert bounded.ends
    late = protocol.Course(SETTINGS._replace(patience=4, max_epochs=50, max_seconds=1e-9))
    late.after_epoch(1.0, np.zeros(7))
    assert late.ends


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a quick run with a rival that scores by popularity and one that fails."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("popular", "broken"):
        python = folder / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    rivals = {
        "popular": train.Rival("popularity", "tests.popular_rival", needs="popular"),
        "broken": train.Rival("broken one", "tests.no_such_module", needs="broken"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "RIVALS", rivals)
        patch.setattr(train, "ENVIRONMENTS", folder)
        out = folder / "train.json"
        message = refusal(
            train.main, ["--quick", "--rivals=broken,popular", "--rival-epochs=2", f"--out={out}"]
        )
    assert message == "broken one failed, see above; the others were measured"
    return json.loads(out.read_text())


def test_quick_run_measures_all_by_one_formula(
    trained: dict[str, Any], prepared: tuple[pathlib.Path, Split]
) -> None:
    """A row would show other ranks than its implementation's, or a failed rival cost the results of the others."""
    ours, popular = trained["rows"]
    assert (ours["implementation"], popular["implementation"]) == (
        "grasp_jax",
        "popularity",
    ) and trained["benchmark"] == "train"
    data = protocol.read(prepared[0])[1]
    expected = metrics(popular_rival.ranks(data, "test"))
    assert popular["NDCG@10"] == pytest.approx(expected["NDCG@10"]) and popular[
        "HR@10"
    ] == pytest.approx(expected["HR@10"])
    assert popular["valid_ndcg"] == pytest.approx(
        [ndcg_at_10(popular_rival.ranks(data, "valid"))] * 2
    )
    assert (popular["epochs"], popular["best_epoch"], popular["stopped"]) == (
        2,
        1,
        False,
    ) and popular["epoch_seconds"] == 0.5
    assert ours["ratio"] == 1 and popular["ratio"] == pytest.approx(0.5 / ours["epoch_seconds"])


def test_our_training_learns_and_is_timed_apart(trained: dict[str, Any]) -> None:
    """Epochs would hold compilation, or quality be that of a model that was evaluated wrongly."""
    ours = trained["rows"][0]
    assert ours["NDCG@10"] > 2 * CHANCE and max(ours["valid_ndcg"]) > 2 * CHANCE
    assert (
        len(ours["all_epoch_seconds"])
        == len(ours["valid_ndcg"])
        == ours["epochs"]
        <= SETTINGS.max_epochs
        and ours["stopped"]
    )
    assert ours["valid_ndcg"][ours["best_epoch"] - 1] == max(ours["valid_ndcg"])
    assert (
        ours["compile_seconds"] > 0
        and ours["compile_seconds"] + sum(ours["all_epoch_seconds"]) < ours["seconds"]
    )
    assert ours["versions"]["jax"] and ours["peak_memory_bytes"] > 2**20


def test_record_becomes_a_table(trained: dict[str, Any]) -> None:
    """The page would show a training that was cut short as one that stopped early."""
    table = training.train(trained)
    assert len(table.rows) == 2 and all(len(row) == len(table.header) for row in table.rows)
    assert "after 2 epochs" in table.rows[1][4] and "after" not in "".join(table.rows[0])


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder for rivals in which only the newest item says what is next: one of the group after its own."""
    rng = np.random.default_rng(0)
    groups = (rng.integers(NUM_GROUPS, size=(400, 1)) + np.arange(10)) % NUM_GROUPS
    items = groups + NUM_GROUPS * rng.integers(30, size=groups.shape)
    log = build_log("groups", np.repeat(np.arange(400), 10), items.ravel())
    folder, settings = (
        tmp_path_factory.mktemp("following"),
        SETTINGS._replace(threads=1, patience=EPOCHS),
    )
    train.write_interactions(folder, log)
    protocol.write(folder, settings, data_of(prepared_run(folder, settings)))
    return folder


@pytest.mark.parametrize("name", train.RIVALS)
def test_installed_rival_learns(name: str, following: pathlib.Path) -> None:
    """A rival that is trained on other data, or asked from histories that are shifted or padded wrongly, would make us look good."""
    rival = train.RIVALS[name]
    if rival.python is None:
        pytest.skip(f"{name} is not installed: make rival-{rival.needs}")
    got = train.train(rival.python, rival, following, EPOCHS)
    assert got is not None and len(got.epoch_seconds) == len(got.valid_ndcg) == EPOCHS
    assert (
        got.valid_ndcg[got.best_epoch - 1] == max(got.valid_ndcg)
        and 0 < sum(got.epoch_seconds) < got.seconds
    )
    train.check(name, got, protocol.read(following)[1])
    assert ndcg_at_10(np.asarray(got.ranks)) > 2 * CHANCE


@pytest.mark.parametrize("name", train.RIVALS)
def test_rival_needs_nothing_of_ours(name: str) -> None:
    """A rival would not start in its environment, which has neither JAX nor grasp_jax."""
    blocked = "import sys; sys.modules['jax'] = sys.modules['grasp_jax'] = None\n"
    loads = "import benchmarks.rivals.protocol\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + loads],
        cwd=train.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sources = [train.RIVALS[name].module, "benchmarks.torch_backbone"]
    for module in sources:
        text = (train.ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert "import jax" not in text and "grasp_jax" not in text
    needs = train.RIVALS[name].needs
    assert (train.ROOT / "benchmarks" / "rivals" / f"{needs}.txt").exists()


def test_rival_that_is_missing_is_named(
    prepared: tuple[pathlib.Path, Split],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A comparison would be left out without a word, or the name of a rival would be kept with the ranks of another."""
    data = protocol.read(prepared[0])[1]
    num = len(data.test.users)
    good = protocol.Report({"numpy": "2"}, [1.0], [0.2], 1, 0.0, 2.0, [0] * num, 1)
    monkeypatch.setattr(train, "train", lambda *_: good)
    monkeypatch.setattr(train, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    train.main(["--quick", "--rivals=hstu,torch"])
    printed = capsys.readouterr().out
    assert "plain PyTorch is not installed and left out: make rival-torch" in printed
    assert (
        "RecTools HSTUModel (softmax) is not installed and left out: make rival-rectools" in printed
    )
    for ranks in ([0] * (num - 1), [0] * (num - 1) + [101]):
        assert f"expected {num}, from 0 to 100" in refusal(
            train.check, "plain PyTorch", good._replace(ranks=ranks), data
        )


def test_rivals_train_on_the_device_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU's epoch would be set against that of a few cores."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    found = train.installed(list(train.RIVALS), "gpu")
    assert {rival.needs for rival in found} == {"rectools", "torch"}
    assert "RecBole SASRec (BPR) is left out" in capsys.readouterr().out
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert train.settings_to_time(quick=True).device == "cuda"


def test_rivals_are_compared_with_our_model_of_their_loss() -> None:
    """A fast loss of ours would be set against a slow one of theirs, or the other way round."""
    for rival in train.RIVALS.values():
        assert train.alike(rival).loss == rival.loss or rival.loss == "BPR"
    assert len({own.form for own in train.OURS.values()}) == len(train.OURS)


def test_flags_that_say_nothing_are_refused() -> None:
    """A mistyped rival would be left out after an hour of training."""
    assert refusal(train.main, ["--rivals=rectool"]).startswith(
        "--rivals: 'rectool'; expected some of rectools"
    )
    assert refusal(train.main, ["--rival-epochs=-1"]).startswith(
        "--rival-epochs=-1; expected a whole number from 1"
    )
