"""The command line from end to end, and every error that a newcomer can make."""

import errno
import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pyarrow.parquet as parquet
import pytest

from grasp_jax import __version__
from grasp_jax.core.files import disk_is_full, read_sealed, write_sealed
from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.main import alone, explained
from grasp_jax.models.methods import METHODS
from tests.command_line import arguments, one_line_error, run, write_dataset
from tests.refusal import assert_names
from tests.trained import by_command_line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """Dataset and workdir of a finished run."""
    folder = tmp_path_factory.mktemp("main") / "copy"
    shutil.copytree(by_command_line(tmp_path_factory), folder)
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    assert "sampled100" in printed and "| grasp" in printed
    return folder / "data", folder / "run"


def test_results_have_the_promised_form(trained: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Would break readers of results.json: names, protocols, groups, seeds, and values in 0..1."""
    results = json.loads((trained[1] / "results.json").read_text())
    rows, about = results["rows"], results["about"]
    (trial,) = about["trials"]
    assert (trial["method"], trial["backbone"]) == ("grasp", "gru4rec")
    assert [model["seed"] for model in trial["models"]] == [1, 2]
    assert all(0 <= model["valid_ndcg@10"] <= 1 for model in trial["models"])
    assert trial["seconds"]["train"] == about["seconds"]["train"]
    assert about["version"] == __version__ and len(about["data"]) == 64
    assert {row["protocol"] for row in rows} == set(PROTOCOLS)
    assert {row["seed"] for row in rows} == {1, 2}
    assert {"all", "tail_user", "head_item"} <= {row["group"] for row in rows}
    for row in rows:
        assert (row["dataset"], row["method"], row["backbone"], row["split"]) == (
            "fashion",
            "grasp",
            "gru4rec",
            "test",
        )
        assert (
            all(0 <= row[f"{name}@{k}"] <= 1 for name in ("NDCG", "HR") for k in (1, 3, 5, 10, 20))
            and 0 <= row["MRR"] <= 1
        )
        assert row["HR@1"] <= row["HR@10"] <= row["HR@20"]
    assert {"config.json", "metrics.jsonl", "results.json", "read.json"} <= {
        path.name for path in trained[1].iterdir()
    }


def test_evaluate_again_gives_the_same_rows(trained: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Would break if --mode=evaluate did not read the best parameters and the stored negatives."""
    before = json.loads((trained[1] / "results.json").read_text())["rows"]
    assert run(arguments(*trained, "--mode=evaluate")).returncode == 0
    assert json.loads((trained[1] / "results.json").read_text())["rows"] == before


def test_recommend_writes_original_ids_and_leaves_seen_items_out(
    trained: tuple[pathlib.Path, pathlib.Path],
) -> None:
    """Would break serving: rows instead of ids, unsorted scores, or items that the user has already."""
    data, workdir = trained
    (workdir / "users.txt").write_text("5\n3\n")
    flags = ("--mode=recommend", f"--users={workdir / 'users.txt'}", "--config.recommend.top_n=4")
    result = run(arguments(data, workdir, *flags))
    assert result.returncode == 0, result.stderr
    table = parquet.read_table(workdir / "recommendations.parquet").to_pydict()
    assert set(table["user"]) == {3, 5} and table["rank"] == [1, 2, 3, 4] * 2
    assert all(
        a >= b
        for k in (0, 4)
        for a, b in zip(table["score"][k : k + 3], table["score"][k + 1 : k + 4], strict=True)
    )
    pairs = {
        tuple(map(int, line.split())) for line in (data / "inter.txt").read_text().splitlines()
    }
    assert not pairs & set(zip(table["user"], table["item"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "backbones"),
    [(tuple(METHODS), ("sasrec",)), (("llm_esr", "grasp_plus"), ("bert4rec", "gru4rec"))],
)
def test_trials_of_the_papers_tables(
    tmp_path: pathlib.Path, methods: tuple[str, ...], backbones: tuple[str, ...]
) -> None:
    """Would break a trial of the paper's tables: every method must train on the synthetic shop, on any backbone, and be ranked."""
    flags = (
        "--config=configs/quickstart.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.compilation_cache={tmp_path / 'compiled'}",
        f"--config.model.method={','.join(methods)}",
        f"--config.model.backbone={','.join(backbones)}",
        "--config.model.features=8",
        "--config.model.mlp=(16,)",
        "--config.knowledge.width=16",
        "--config.train.max_epochs=1",
        "--config.train.shared_negatives=20",
        "--config.data.synthetic.num_users=70",
        "--config.data.synthetic.num_items=130",
    )
    result = run([sys.executable, "-m", "grasp_jax.main", *flags])
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    found = {
        (row["method"], row["backbone"], row["protocol"])
        for row in results["rows"]
        if row["group"] == "all" and row["n"] == 70
    }
    assert found == {(m, b, p) for m in methods for b in backbones for p in PROTOCOLS}
    said = result.stdout
    assert said.index(" points of NDCG@10 (") < said.index("the user's next item, ranked among"), (
        "the verdict stands before the tables"
    )
    assert "with one seed" in said and "--mode=report --runs=" in said
    read = json.loads((tmp_path / "run" / "read.json").read_text())["lines"]
    assert [line[:5] for line in read].count("item ") == 3 and read[0].startswith("read: a synth")
    pairs = len(methods) * (len(methods) - 1) // 2
    assert (
        len(results["comparisons"]) == 3 * len(backbones) * pairs
        and "p (paired test, Holm)" in result.stdout
    )
    assert {path.stem for path in (tmp_path / "run" / "examples").iterdir()} == {
        f"{m}-{b}" for m in methods for b in backbones
    }
    page = run(
        [
            sys.executable,
            "-m",
            "grasp_jax.main",
            "--mode=report",
            f"--runs={tmp_path / 'run'}",
            f"--out={tmp_path / 'page'}",
        ]
    )
    assert (
        page.returncode == 0
        and "Recommendations</h2>" in (tmp_path / "page" / "index.html").read_text()
    ), page.stderr


def test_finished_trials_are_not_ranked_again(trained: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Would break resumable tables: what a trial's file says is taken, and only a trial without one is ranked."""
    data, before = trained
    copy = before.parent / "copy"
    shutil.copytree(before, copy)
    path, measured = (
        copy / "trials" / "grasp-gru4rec.json",
        json.loads((before / "results.json").read_text())["rows"],
    )
    stored = read_sealed(path, "")
    stored["rows"][0]["MRR"] = 0.123  # as no ranking would have it
    write_sealed(path, stored)
    assert run(arguments(data, copy)).returncode == 0
    assert json.loads((copy / "results.json").read_text())["rows"] == stored["rows"]
    path.write_text(path.read_text().replace("0.123", "0.124"))
    again = run(arguments(data, copy))
    assert again.returncode == 0 and "its checksum differs" in again.stdout, (
        "a digit that a disk has changed"
    )
    assert json.loads((copy / "results.json").read_text())["rows"] == measured
    for ranks in (copy / "ranks").iterdir():
        ranks.write_bytes(ranks.read_bytes()[:100])
    again = run(arguments(data, copy))
    assert again.returncode == 0 and "differs from what was written" in again.stdout
    assert json.loads((copy / "results.json").read_text())["rows"] == measured, (
        "what is damaged is measured again"
    )


def test_a_trial_that_diverges_does_not_stop_the_rest(
    trained: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    """Would break a night's table: all trials are tried, and the failed ones named at the end."""
    flags = (
        "--config.model.method=plain,grasp",
        "--config.train.learning_rate=1e38",
        "--config.train.max_epochs=1",
    )
    line = one_line_error(run(arguments(trained[0], tmp_path / "run", *flags)))
    assert "2 of 2 trials failed" in line and "plain-gru4rec" in line and "grasp-gru4rec" in line


def test_validation_and_full_ranking_on_some_users(
    trained: tuple[pathlib.Path, pathlib.Path],
) -> None:
    """Would break if the test used only the users that were drawn for validation, or the full ranking other users than the config says.

    And what a user is asked in validation must not depend on how many others are.
    """
    data, before = trained
    flags = (
        "--config.model.method=plain",
        "--config.eval.valid_users=20",
        "--config.eval.full_users=30",
        "--config.train.max_epochs=1",
    )
    assert run(arguments(data, before.parent / "some", *flags)).returncode == 0
    counts = {}
    for folder in (before, before.parent / "some"):
        rows = json.loads((folder / "results.json").read_text())["rows"]
        counts[folder] = {row["protocol"]: row["n"] for row in rows if row["group"] == "all"}
    assert counts[before] == {"sampled100": 60, "full": 60, "full_unseen": 60}
    assert counts[before.parent / "some"] == {"sampled100": 60, "full": 30, "full_unseen": 30}
    drawn = before.parent / "some" / "candidates"
    assert sorted(path.name for path in drawn.glob("*.npy")) == ["test.npy", "valid-20.npy"]
    of_all = {tuple(row) for row in np.load(before / "candidates" / "valid.npy").tolist()}
    some = [tuple(row) for row in np.load(drawn / "valid-20.npy").tolist()]
    assert len(some) == 20 and set(some) <= of_all


BAD_FILES = {
    "letter": (b"1 2\n1 x\n", "inter.txt:2: '1 x' is not two whole numbers"),
    "zero": (b"1 2\n1 0\n", "inter.txt:2: id 0 in '1 0'"),
    "three columns": (b"1 2\n1 2 3\n", "inter.txt:2: 3 columns in '1 2 3'; expected two"),
    "binary": (b"1 2\n\xff\xfe\x00\n", "inter.txt:2: b'\\xff\\xfe\\x00\\n' is not text"),
    "empty": (b"", "inter.txt: the file is empty"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_interactions_are_one_line(fault: str, tmp_path: pathlib.Path) -> None:
    """Would break if a bad row were skipped, or answered with a traceback."""
    content, message = BAD_FILES[fault]
    data = write_dataset(tmp_path / "data")
    (data / "inter.txt").write_bytes(content)
    assert message in one_line_error(run(arguments(data, tmp_path / "run")))
    assert not (tmp_path / "run" / "config.json").exists(), (
        "a mistyped path must not claim the workdir"
    )


BAD_FLAGS = {
    "missing file": ("--config.data.path=nowhere", "nowhere does not exist"),
    "too few devices": (
        "--config.mesh.table=64",
        "config.mesh.data x config.mesh.table: 1 x 64; expected at most 1 together",
    ),
    "unknown key": ("--config.train.learning_speed=1", "learning_speed"),
    "wrong type": ("--config.train.batch_size=many", "batch_size"),
    "wrong tuple": ("--config.train.seeds=('a',)", "config.train.seeds"),
    "unknown method": (
        "--config.model.method=magic",
        "config.model.method: 'magic'; expected one of",
    ),
    "left-over": ("surplus", "unexpected argument 'surplus'"),
    "flag of another mode": (
        "--ratings=sheet.csv",
        "--ratings goes with --mode=audit, not with --mode=all",
    ),
    "missing config": ("--config=configs/nothing.py", "nothing.py"),
}


@pytest.mark.parametrize("fault", BAD_FLAGS)
def test_bad_flags_are_one_line(fault: str, tmp_path: pathlib.Path) -> None:
    """Would break if a mistyped flag were ignored, or answered with a traceback."""
    flag, message = BAD_FLAGS[fault]
    data = write_dataset(tmp_path / "data")
    assert message in one_line_error(run(arguments(data, tmp_path / "run", flag)))


def test_config_file_that_fails_is_one_line(tmp_path: pathlib.Path) -> None:
    """Would say that a config file cannot be parsed, and not why."""
    (tmp_path / "own.py").write_text(
        "from configs.quickstart import get_config as quickstart\n"
        "def get_config():\n    config = quickstart()\n    config.train.learning_rate = 3e-3\n    return config\n"
    )
    message = one_line_error(
        run(
            [
                sys.executable,
                "-m",
                "grasp_jax.main",
                f"--config={tmp_path}/own.py",
                f"--workdir={tmp_path}/run",
            ]
        )
    )
    assert (
        "own.py" in message
        and "'learning_rate'" in message
        and "0.003 is of original type <class 'float'>" in message
    )


def test_bad_embeddings_are_one_line(tmp_path: pathlib.Path) -> None:
    """Would break if vectors of other users, or NaN, went into training."""
    data = write_dataset(tmp_path / "data")
    users = np.load(data / "users.npy")
    np.save(data / "users.npy", np.concatenate([users, users[:1]]))
    assert "users.npy: 61 rows, but the data has 60 users" in one_line_error(
        run(arguments(data, tmp_path / "run"))
    )
    users[7, 3] = np.nan
    np.save(data / "users.npy", users)
    assert "users.npy: row 7, counted from 0, (user 8) holds nan" in one_line_error(
        run(arguments(data, tmp_path / "run"))
    )


def test_workdir_of_another_config_is_refused(trained: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Would break if two configs mixed their checkpoints."""
    before = {path: path.read_bytes() for path in trained[1].rglob("*.json")}
    line = one_line_error(run(arguments(*trained, "--config.model.features=16")))
    assert "model.features is 8 there and 16 here" in line
    assert before == {path: path.read_bytes() for path in trained[1].rglob("*.json")}


def test_divergence_names_step_batch_and_checkpoint(tmp_path: pathlib.Path) -> None:
    """Would break if a loss that is not finite trained on, or left nothing to look at."""
    data = write_dataset(tmp_path / "data")
    flags = "--config.model.method=plain", "--config.train.learning_rate=1e38"
    line = one_line_error(run(arguments(data, tmp_path / "run", *flags)))
    assert "last good checkpoint" in line and " at step " in line
    (saved,) = (tmp_path / "run").rglob("diverged_step*.npz")
    with np.load(saved, allow_pickle=False) as batch:
        assert {"items", "users", "negatives"} <= set(batch.files)


@pytest.mark.parametrize(
    "said",
    [
        "INTERNAL: Error dispatching computation: Gloo all-reduce failed: [gloo/transport/tcp/pair.cc:538] Read error [127.0.0.1]:45292: "
        "Connection reset by peer",
        "INTERNAL: NCCL operation ncclAllReduce failed: remote process exited or there was a network error.",
        "UNAVAILABLE: Task /job:jax_worker/replica:0/task:1 heartbeat timeout; the coordination service reports it.",
        "DEADLINE_EXCEEDED: Barrier timed out. Id: saved. Some tasks were unhealthy.",
    ],
)
def test_a_process_that_ended_is_no_fault_of_ours(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes that are left would ask for a report of a bug, and not say that the run can go on."""
    error = jax.errors.JaxRuntimeError(said)
    assert not alone(error)  # there is no other process
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert_names(
        alone(error), ("another process of this run has ended", said, "run the same command again")
    )
    for other in (jax.errors.JaxRuntimeError("INTERNAL: a product failed"), KeyError("gloo")):
        assert not alone(other)


def test_a_full_disk_outside_of_a_run_has_no_name() -> None:
    """`grasp-jax fetch`, which has no workdir, would say that the disk is full (None)."""
    said = explained(OSError(errno.ENOSPC, "No space left on device"))
    assert said.startswith("the disk is full; free space")


def test_a_full_disk_is_told_from_other_failures() -> None:
    """NumPy's own words for it carry no number, and would end in a traceback; a bug of ours must not read as a full disk."""
    full = [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        OSError("2400 requested and 992 written"),
    ]
    assert all(map(disk_is_full, full))
    assert not any(
        map(
            disk_is_full,
            [
                OSError(errno.EACCES, "x"),
                OSError("2400 requested"),
                FileNotFoundError(errno.ENOENT, "x"),
            ],
        )
    )
