"""A workdir records what each of its files was made from: nothing on disk is used unchecked."""

import json
import os
import pathlib
import shutil
import socket
import sys
from typing import Any

import numpy as np
import pytest

from grasp_jax import Recommender
from grasp_jax.config import CONFIG_FILE, Config, check_workdir, save_config
from grasp_jax.core.locks import only_one
from grasp_jax.modes import Options, run_mode
from grasp_jax.report.runs import read_runs
from grasp_jax.serving.http.source import open_model
from grasp_jax.training.checkpoint import MANIFEST, Checkpoints, find_model, record_newest
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.records import Records
from grasp_jax.trials import trial_results
from grasp_jax.trials.run import open_run
from grasp_jax.trials.run_results import how_to_report, how_to_serve
from grasp_jax.workdir import LOCK
from tests.command_line import write_dataset
from tests.refusal import assert_names, refusal


def config_of(data: pathlib.Path, **changes: Any) -> Config:
    # As `command_line.arguments` has it, whose programs are compiled for other tests too.
    config = Config().with_fields(
        {
            "data.path": str(data),
            "data.tail_user_below": 0,
            "knowledge.encoder": "file",
            "knowledge.item_file": "items.npy",
            "knowledge.user_file": "users.npy",
            "knowledge.num_neighbours": 3,
            "model.method": "plain",
            "model.backbone": "gru4rec",
            "model.features": 8,
            "model.mlp": (16,),
            "model.num_layers": 1,
            "model.dropout": (0.2,),
            "train.seeds": (1, 2),
            "train.batch_size": 16,
            "train.max_epochs": 2,
            "train.patience": 9,
            "eval.select": "sampled100",
            "eval.groups": "paper",
            "eval.num_negatives": 10,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
    )
    return config


def call(mode: str, config: Config, workdir: pathlib.Path, **flags: Any) -> None:
    """What the command line does once its flags are read."""
    options = Options(**flags)
    check_workdir(config, workdir)
    run_mode(
        mode,
        lambda: open_run(config, workdir, None, mode == "refresh", options.allow_older),
        workdir,
        options,
    )


def rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    return json.loads((workdir / "results.json").read_text())["rows"]


def plain(of_all: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one method, which is all that a run of it alone has."""
    return [row for row in of_all if row["method"] == "plain"]


def flip(path: pathlib.Path, place: float = 0.5) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with data and the workdir "run" of plain and grasp; every epoch was saved."""
    folder = tmp_path_factory.mktemp("workdir")
    data = write_dataset(folder / "data")
    call(
        "all",
        config_of(data, model__method="plain,grasp", train__checkpoint_seconds=0.0),
        folder / "run",
    )
    return folder


@pytest.fixture
def copy(finished: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may spoil."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def both(folder: pathlib.Path, **changes: Any) -> Config:
    return config_of(folder / "data", model__method="plain,grasp", **changes)


def in_another_order(text: str) -> str:
    return (
        "\n".join(
            sorted(
                text.splitlines(), key=lambda line: (int(line.split()[0]), -int(line.split()[1]))
            )
        )
        + "\n"
    )


def renumbered(text: str) -> str:
    return (
        "\n".join(f"{line.split()[0]} {41 - int(line.split()[1])}" for line in text.splitlines())
        + "\n"
    )


def a_day_more(text: str) -> str:
    return text + "3 7\n4 9\n"


@pytest.mark.parametrize("mode", ["all", "train", "evaluate", "recommend"])
@pytest.mark.parametrize("change", [in_another_order, renumbered, a_day_more])
def test_other_data_in_place_are_told(copy: pathlib.Path, change: Any, mode: str) -> None:
    """The new statistics would stand above the old metrics, and recommendations come from rows of other items."""
    path = copy / "data" / "inter.txt"
    path.write_text(change(path.read_text()))
    message = refusal(call, mode, both(copy), copy / "run")
    assert_names(
        message,
        (str(copy / "run"), "the data has changed since", "another --workdir", "--mode=refresh"),
    )


def test_a_service_on_other_data_is_told_to_serve_a_saved_model(copy: pathlib.Path) -> None:
    """A service could not start again once a day's rows are appended, or the message propose what only files of their own allow."""
    path, workdir = copy / "data" / "inter.txt", copy / "run"
    before = path.read_text()
    (workdir / CONFIG_FILE).unlink()
    save_config(both(copy), workdir)  # whose data are the copy's own
    path.write_text(a_day_more(before))
    message = refusal(open_model, workdir)
    line = f'gj.Recommender.load("{workdir}").save("models/run")'
    assert_names(message, ("the data has changed since", line, "grasp-serve models/run --data="))
    assert "--mode=refresh" not in message
    assert_names(message, ("take the new rows or files out", "train.start_from"))
    assert message.index("train on the new data") < message.index("take the new rows")
    path.write_text(before)
    Recommender.load(workdir).save(copy / "saved")
    path.write_text(a_day_more(before))
    assert open_model(copy / "saved").artifact.method


def test_the_end_of_a_run_says_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command for the page would be refused for a package that nobody had named, or a workdir be put into production."""
    assert "pip" not in how_to_report(pathlib.Path("runs/shop"))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert "pip install 'grasp-jax[report]', then grasp-jax --mode=report" in how_to_report(
        pathlib.Path("runs/shop")
    )
    said = how_to_serve(pathlib.Path("runs/shop"))
    assert_names(said, ("until the data change", '.save("models/shop")', "grasp-serve models/shop"))


def test_recommend_says_how_many_users_it_served(
    copy: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One user would be "1 users"."""
    (tmp_path / "users").write_text("1\nnobody\n")
    call("recommend", both(copy), copy / "run", users=str(tmp_path / "users"))
    said = capsys.readouterr().out
    assert "recommendations for 1 user," in said and "no recommendations for 1 user, the" in said


def test_refresh_keeps_what_was_there(
    copy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Yesterday's results would be lost, or stand among today's."""
    path, before = copy / "data" / "inter.txt", (copy / "run" / "results.json").read_text()
    path.write_text(in_another_order(path.read_text()))
    config, yesterday = config_of(copy / "data"), plain(rows(copy / "run"))
    call("refresh", config, copy / "run")
    (aside,) = (copy / "run" / "earlier").iterdir()
    assert str(aside) in capsys.readouterr().out and (aside / "results.json").read_text() == before
    assert {"checkpoints", "trials", "candidates", "knowledge", "metrics.jsonl"} <= {
        entry.name for entry in aside.iterdir()
    }
    call("all", config, copy / "other")
    assert rows(copy / "run") == rows(copy / "other") != yesterday


@pytest.mark.parametrize("spelling", ["./data", "{}/../copy/data", "{}/data/inter.txt"])
def test_the_same_file_by_another_path(
    copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """The same data would count as another config."""
    monkeypatch.chdir(copy)
    before = rows(copy / "run")
    call("evaluate", both(copy, data__path=spelling.format(copy)), copy / "run")
    assert rows(copy / "run") == before


def test_ranks_and_negatives_have_the_same_order(finished: pathlib.Path) -> None:
    """docs/workdir.md says that they are row for row the same users: a metric of one's own would join others' negatives."""
    with np.load(finished / "run" / "ranks" / "plain-gru4rec-seed1-sampled100.npz") as stored:
        users, ranks = stored["user"], stored["rank"]
    negatives = np.load(finished / "run" / "candidates" / "test.npy")
    assert len(users) == len(ranks) == len(negatives) and (np.diff(users) > 0).all()
    items = np.load(finished / "run" / "item_ids.npy")
    had: dict[int, set[str]] = {}
    for line in (finished / "data" / "inter.txt").read_text().splitlines():
        user, item = line.split()
        had.setdefault(int(user), set()).add(item)
    for user, row in zip(users.tolist(), items[negatives], strict=True):
        assert not had[user] & set(row.tolist()), "these are the negatives of another user"


def test_a_half_trained_models_results_do_not_stay(
    finished: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill a training, look with --mode=evaluate, run the same command to its end: the numbers would be those of the look."""
    config = config_of(finished / "data", train__checkpoint_seconds=0.0)

    def dies(self: Records, record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt
        real(self, record)

    real = Records.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            call("all", config, tmp_path / "run")
    call("evaluate", config_of(finished / "data"), tmp_path / "run")
    looked, expected = rows(tmp_path / "run"), plain(rows(finished / "run"))
    mark = json.loads((tmp_path / "run" / "results.json").read_text())["unfinished"]
    of_trial = {"method": "plain", "backbone": "gru4rec", "epoch": 1, "max_epochs": 2}
    assert mark == [of_trial] and read_runs(str(tmp_path / "run"))[0].results["unfinished"] == mark
    assert "stopped after 1 of at most 2 epochs" in capsys.readouterr().out, "the verdict says so"
    call("all", config, tmp_path / "run")
    assert rows(tmp_path / "run") == expected != looked
    assert json.loads((tmp_path / "run" / "results.json").read_text())["unfinished"] == []


def test_a_training_that_went_on_in_vain_is_no_longer_unfinished(
    copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best model is that of the look, so its results would be kept, with the mark of a training that has long ended."""
    is_unfinished = Progress.is_unfinished
    monkeypatch.setattr(Progress, "is_unfinished", lambda *_: True)
    call("evaluate", both(copy), copy / "run")
    monkeypatch.setattr(Progress, "is_unfinished", is_unfinished)

    def marked() -> list[str]:
        stored = json.loads((copy / "run" / "results.json").read_text())["unfinished"]
        return [trial["method"] for trial in stored]

    call("all", both(copy), copy / "run")
    assert marked() == ["plain", "grasp"], "nothing was trained: the file of the trial has the mark"
    records = Records(copy / "run" / "metrics.jsonl")
    records.append([line for line in records.read() if line["method"] == "grasp"][-1])
    call("all", both(copy), copy / "run")
    assert marked() == ["plain"]


def test_results_tell_of_the_tested_epochs_alone(copy: pathlib.Path) -> None:
    """A killed training writes an epoch's line before its checkpoint: `about` would have the score of a model that was not tested."""

    def models() -> list[dict[str, Any]]:
        about = json.loads((copy / "run" / "results.json").read_text())["about"]
        return about["trials"][0]["models"]

    before, path = models(), copy / "run" / "metrics.jsonl"
    last = [line for line in Records(path).read() if line["method"] == "plain"][-1]
    Records(path).append(last | {"epoch": 3, "best": 0.99})
    call("evaluate", both(copy), copy / "run")
    assert models() == before and {model["epoch"] for model in before} == {2}


def test_checkpoints_know_their_config(copy: pathlib.Path) -> None:
    """Without config.json another learning rate, or a bank of another K, would go on from the old models without a word."""
    (copy / "run" / "config.json").unlink()
    message = refusal(call, "all", both(copy, train__learning_rate=(1e-2,)), copy / "run")
    assert_names(
        message,
        ("checkpoints", "train.learning_rate = [0.001] there and [0.01] here", "another --workdir"),
    )
    message = refusal(call, "recommend", both(copy, train__learning_rate=(1e-2,)), copy / "run")
    assert_names(message, ("checkpoints", "train.learning_rate"))
    (copy / "run" / "config.json").unlink(missing_ok=True)
    call(
        "prepare",
        both(copy, knowledge__num_neighbours=5, knowledge__path=str(copy / "other")),
        copy / "elsewhere",
    )
    message = refusal(
        call,
        "evaluate",
        config_of(copy / "data", model__method="grasp", knowledge__path=str(copy / "other")),
        copy / "run",
    )
    assert_names(message, ("num_neighbours=5", "needs 3"))
    five = config_of(
        copy / "data",
        model__method="grasp",
        knowledge__num_neighbours=5,
        knowledge__path=str(copy / "other"),
    )
    for mode in ("all", "evaluate", "recommend"):
        assert_names(
            refusal(call, mode, five, copy / "run"),
            ("checkpoints", "knowledge.num_neighbours = 3 there and 5 here"),
        )


def test_a_removed_bank_is_made_again_or_refused(copy: pathlib.Path) -> None:
    """The advice of an error, "remove this bank", would lead to tables of K=5 under a model of K=3."""
    before = rows(copy / "run")
    shutil.rmtree(copy / "run" / "knowledge")
    message = refusal(call, "all", both(copy, knowledge__num_neighbours=5), copy / "run")
    assert_names(message, ("config.json", "knowledge.num_neighbours is 3 there and 5 here"))
    assert not (copy / "run" / "knowledge").exists()
    call("all", both(copy), copy / "run")
    assert rows(copy / "run") == before


def test_a_run_that_is_refused_claims_nothing(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A mistyped value would make the workdir its own, and the right one be "another config"."""
    message = refusal(
        call, "all", config_of(finished / "data", eval__num_negatives=39), tmp_path / "run"
    )
    assert_names(
        message, ("config.eval.num_negatives", "39", "expected at most", "40 in the catalogue")
    )
    assert not (tmp_path / "run").exists()


def biggest(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file that holds the numbers of the newest snapshot, of "best" or "last"."""
    newest = max((folder / name).glob("[0-9]*"), key=lambda path: int(path.name))
    return max(
        (path for path in newest.rglob("d/*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )


def test_a_damaged_best_is_found_in_last(copy: pathlib.Path) -> None:
    """The older best would be served with a warning that names neither, or other numbers be reported."""
    before, folder = rows(copy / "run"), copy / "run" / "checkpoints" / "plain-gru4rec"
    flip(biggest(folder, "best"))
    assert find_model(folder).folder.name == "last"
    call("evaluate", both(copy), copy / "run")
    assert rows(copy / "run") == before


@pytest.mark.parametrize("gone", [False, True])
def test_where_both_are_damaged_serving_stops(
    copy: pathlib.Path, gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older model would be served and reported as if it were the newest. Told to, it is; and training goes on to the same end."""
    before, folder = rows(copy / "run"), copy / "run" / "checkpoints" / "plain-gru4rec"
    for name in ("best", "last"):
        path = biggest(folder, name)
        shutil.rmtree(path.parents[1 if not gone else 0]) if gone else flip(path)
        if gone and path.parents[3].name.isdigit():
            shutil.rmtree(path.parents[3], ignore_errors=True)
    for mode in ("evaluate", "recommend"):
        assert_names(
            refusal(call, mode, both(copy), copy / "run"), ("plain-gru4rec", "--allow-older")
        )
    assert_names(refusal(read_runs, str(copy / "run")), ("plain-gru4rec", "--allow-older"))
    call("evaluate", both(copy), copy / "run", allow_older=True)
    assert "this older snapshot is used" in capsys.readouterr().out
    call("all", both(copy), copy / "run")
    if not gone:
        assert "continuing from step" in capsys.readouterr().out
    assert rows(copy / "run") == before


def test_a_damaged_end_is_not_called_a_stopped_training(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last epoch was not better, so an older "last" has the same best model: it would be served, as that of a training half done."""
    config = config_of(
        write_dataset(tmp_path / "data"),
        train__checkpoint_seconds=0.0,
        train__learning_rate=(1e-30,),
    )
    workdir = tmp_path / "run"
    call("all", config, workdir)
    before, folder = rows(workdir), workdir / "checkpoints" / "plain-gru4rec"
    last, best = biggest(folder, "last"), biggest(folder, "best")
    assert last.relative_to(folder).parts[1] > best.relative_to(folder).parts[1]
    flip(last)
    capsys.readouterr()
    for mode in ("evaluate", "recommend"):
        call(mode, config, workdir)
    said = capsys.readouterr().out
    assert said.count(f"{last} differs from what was written") == 1
    assert "holds the same best model" in said and "was stopped after" not in said
    assert rows(workdir) == before
    flip(best)
    for refused in (
        refusal(call, "evaluate", config, workdir),
        refusal(call, "recommend", config, workdir),
        refusal(read_runs, str(workdir)),
    ):
        assert_names(refused, (str(last), str(best), "--allow-older"))
    call("recommend", config, workdir, allow_older=True)
    said = capsys.readouterr().out
    assert "this older snapshot is used" in said and "was stopped after" not in said
    call("train", config, workdir)
    call("recommend", config, workdir)


@pytest.mark.parametrize(
    "name", ["candidates/test.npy", "candidates/valid.npy", "candidates/test.json"]
)
def test_damaged_negatives_are_drawn_again(
    copy: pathlib.Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped byte would give other results and exit status 0."""
    before, path = rows(copy / "run"), copy / "run" / name
    content = path.read_bytes()
    flip(path, 0.99 if name.endswith("npy") else 0.5)
    call("evaluate", both(copy), copy / "run")
    assert "drawn again from the same seed" in capsys.readouterr().out
    assert rows(copy / "run") == before and path.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "trials/plain-gru4rec.json",
        "ranks/plain-gru4rec-seed1-full.npz",
        "examples/plain-gru4rec.json",
    ],
)
def test_damaged_results_are_measured_again(
    copy: pathlib.Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A digit that a disk has changed would be reported, and by the run after it believed."""
    before = rows(copy / "run")
    flip(copy / "run" / name)
    assert_names(
        refusal(read_runs, str(copy / "run")),
        (str(copy / "run" / name).rsplit("/", 1)[1], "--mode=evaluate"),
    )
    alone = config_of(copy / "data", model__method="grasp")
    call("all", alone, copy / "run")
    assert "these results are not used" in capsys.readouterr().out and {
        row["method"] for row in rows(copy / "run")
    } == {"grasp"}
    call("all", both(copy), copy / "run")
    assert rows(copy / "run") == before


@pytest.mark.parametrize(
    "name", ["results.json", "config.json", "metrics.jsonl", "data.json", "item_ids.npy"]
)
def test_a_report_shows_only_what_was_written(copy: pathlib.Path, name: str) -> None:
    """A page for a paper would hold a number that was never measured."""
    read_runs(str(copy / "run"))
    path = copy / "run" / name
    content = path.read_text(encoding="latin-1")
    path.write_text(
        content.replace("1", "3", 1) if name != "item_ids.npy" else content[:-1] + "x",
        encoding="latin-1",
    )
    assert_names(refusal(read_runs, str(copy / "run")), (name,))


def test_lost_epochs_are_told(copy: pathlib.Path) -> None:
    """Learning curves would end early, as if the run had."""
    path = copy / "run" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert_names(refusal(read_runs, str(copy / "run")), ("metrics.jsonl", "grasp-gru4rec"))


def test_records_of_a_killed_process(tmp_path: pathlib.Path) -> None:
    """A torn last line would stop every later run, or swallow the line that follows; a changed digit be shown."""
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"epoch": 1, "loss": 0.5})
    with records.path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert records.read() == [{"epoch": 1, "loss": 0.5}]
    records.keep(lambda record: True)
    records.append({"epoch": 2, "loss": 0.25})
    assert [record["epoch"] for record in records.read()] == [1, 2]
    records.path.write_text(records.path.read_text().replace("0.25", "0.26"))
    assert_names(
        refusal(records.read),
        (f"{records.path}:2", "grasp_jax did not write it", "remove that line"),
    )


def test_results_of_another_data_are_not_joined(
    copy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial that an earlier call left would stand beside this call's, though it was measured on other negatives."""
    run = open_run(both(copy), copy / "run")
    assert trial_results.finished(run, "plain", "gru4rec") is not None
    path = copy / "run" / "candidates" / "test.npy"
    np.save(path, np.load(path)[:, ::-1])
    assert trial_results.finished(run, "plain", "gru4rec") is None
    assert "negatives are others" in capsys.readouterr().out


def test_what_killed_processes_left_is_removed(copy: pathlib.Path) -> None:
    """Every kill would leave a file or a snapshot of a gigabyte for ever."""
    left = (
        copy / "run" / "trials" / ".plain-gru4rec.json.77-abc.partial",
        copy / "run" / "checkpoints" / "plain-gru4rec" / "last",
    )
    left[0].write_text("{")
    (left[1] / "9.orbax-checkpoint-tmp-3").mkdir()
    call("evaluate", both(copy), copy / "run")
    assert not left[0].exists() and not list(left[1].glob("*tmp*"))


def test_two_processes_do_not_share_a_workdir(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Both would end with status 0, and the lines of both be in metrics.jsonl."""
    config = config_of(finished / "data")
    with only_one(tmp_path / "run" / LOCK, "wait"):
        message = refusal(call, "all", config, tmp_path / "run")
    assert_names(
        message,
        (str(tmp_path / "run"), f"process {os.getpid()}", "wait for it or use another --workdir"),
    )
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_first_snapshot_that_was_not_finished(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed before its manifest is written, a run could never go on; one whose snapshots lost theirs would train anew without a word."""
    tree = {"weights": np.arange(3.0)}
    checkpoints = Checkpoints(tmp_path / "last")
    checkpoints.save(4, tree, "hash")
    (tmp_path / "last" / "4" / MANIFEST).unlink()
    assert (
        checkpoints.restore(tree) is None
        and "training starts from the start" in capsys.readouterr().out
    )
    record_newest(tmp_path, 4, "hash")
    assert_names(
        refusal(checkpoints.restore, tree),
        ("last/4", "has no manifest.json", "no other checkpoint there is whole"),
    )


def test_what_a_killed_preparation_left_is_removed(copy: pathlib.Path) -> None:
    """Shards of a bank that is finished would stay for ever, twice its size."""
    bank = copy / "run" / "knowledge"
    (bank / "shards").mkdir()
    (bank / "shards" / "items-000000.npz").write_bytes(b"PK")
    dead = {"host": socket.gethostname(), "pid": 4194305, "started": "never"}
    bank.with_name("knowledge.lock").write_text(json.dumps(dead))
    before = rows(copy / "run")
    call("evaluate", both(copy), copy / "run")
    assert (
        not (bank / "shards").exists()
        and not list((copy / "run").glob("knowledge.lock*"))
        and rows(copy / "run") == before
    )
