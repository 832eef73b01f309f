"""Workdirs of versions without checksums: they can be served, evaluated and continued, and a line says that they cannot be verified."""

import json
import pathlib
import shutil
import sys
import tarfile
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import CONFIG_FILE, Config, check_workdir, save_config
from grasp_jax.earlier_version import say_unverified
from grasp_jax.knowledge.bank import load_bank, read_manifest
from grasp_jax.training.checkpoint import MANIFEST, Checkpoints, find_model, record_newest
from grasp_jax.training.records import Records
from grasp_jax.training.start_from import check_basis, earlier_banks, read_earlier
from tests.command_line import run
from tests.golden.earlier import ARCHIVE
from tests.refusal import assert_names, refusal
from tests.test_golden import differences

UNVERIFIED = "an earlier version wrote this without checksums"
RECORD = '{"event": "epoch", "epoch": 1, "loss": 0.5}\n'  # as it was written


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir that the earlier version left, and what it recommended."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder / "archive", filter="data")
    return folder / "archive"


@pytest.fixture(scope="module")
def today(unpacked: pathlib.Path) -> dict[str, Any]:
    """What this version makes of a copy of it."""
    copy, out = unpacked.parent / "copy", unpacked.parent / "out.json"
    shutil.copytree(unpacked, copy)
    command = [sys.executable, "-m", "tests.golden.earlier", str(copy), str(out)]
    done = run(command, JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def lines(said: str) -> list[str]:
    """Those that say that something cannot be verified."""
    return [line for line in said.splitlines() if UNVERIFIED in line]


def test_it_recommends_what_that_version_did(unpacked: pathlib.Path, today: dict[str, Any]) -> None:
    """Would break serving on the day of an upgrade: other items, or none; or models would be trusted that nobody can verify."""
    expected = json.loads((unpacked / "recommended.json").read_text(encoding="utf-8"))
    assert list(expected) == list(today["recommended"])
    assert not list(differences(expected, today["recommended"]))
    for cell in expected:
        (line,) = lines(today["said"][f"recommend {cell}"])
        assert_names(
            line,
            (f"run/checkpoints/{cell}: ", "cannot be verified", "train again in another --workdir"),
        )


def test_it_is_measured_as_that_version_did(unpacked: pathlib.Path, today: dict[str, Any]) -> None:
    """Would break results after an upgrade: rows of other models or other negatives."""
    results = json.loads((unpacked / "run" / "results.json").read_text(encoding="utf-8"))["rows"]
    names = today["results"][0].keys()
    expected = [
        {name: row[name] for name in names}
        for row in results
        if row["method"] != "grasp" and row["backbone"] == "sasrec"
    ]
    assert not list(differences(expected, today["results"]))
    assert (
        len(lines(today["said"]["evaluate"])) == 3
        and "run/metrics.jsonl: " in today["said"]["evaluate"]
    )


def test_a_training_goes_on_to_the_same_end(unpacked: pathlib.Path, today: dict[str, Any]) -> None:
    """Would break a training that an upgrade finds unfinished; what is saved from then on is verified as ever."""
    assert "resumed after 1 epoch" in today["said"]["all"]
    records = [
        json.loads(line)
        for line in (unpacked / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    own = [line for line in records if line["backbone"] == "gru4rec"]
    assert [line["epoch"] for line in own] == [1, 2, 3]
    found = today["resumed"]["training"]
    assert not list(differences([{name: line[name] for name in found[0]} for line in own], found))
    for protocol in ("full", "sampled100"):
        with np.load(unpacked / "run" / "ranks" / f"plain-gru4rec-seed42-{protocol}.npz") as stored:
            assert stored["rank"].tolist() == today["resumed"]["ranks"][f"seed42-{protocol}"]
    assert lines(today["said"]["all"]) and not lines(today["said"]["all again"])


def test_training_starts_from_it(
    unpacked: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break the retraining of every day, which starts from the day before the upgrade."""
    earlier = read_earlier(unpacked / "run", "grasp_plus-sasrec")
    assert len(earlier.item_ids) == 100 and earlier.params["encoder"]["table"].shape == (1, 100, 8)
    bank = load_bank(
        unpacked / "run" / "knowledge", read_manifest(unpacked / "run" / "knowledge", "")["recipe"]
    )
    check_basis(earlier, bank, earlier_banks(unpacked / "run"), np.arange(100))
    said = capsys.readouterr().out
    assert {line.split(": ")[0].rsplit("/run/")[1] for line in lines(said)} == {
        "checkpoints/grasp_plus-sasrec",
        "item_ids.npy",
    }
    assert "bank is gone" not in said


def unsealed(workdir: pathlib.Path) -> None:
    """Writes a config.json as an earlier version did."""
    save_config(Config().with_fields({"eval.select": "sampled100"}), workdir)
    tree = json.loads((workdir / CONFIG_FILE).read_text())
    del tree["checksum"]
    (workdir / CONFIG_FILE).write_text(json.dumps(tree))


def without_manifest(workdir: pathlib.Path) -> pathlib.Path:
    """Saves two snapshots of a cell and removes their manifests; returns the cell's folder."""
    folder = workdir / "checkpoints" / "plain-sasrec"
    checkpoints = Checkpoints(folder / "last")
    for step in (1, 2):
        checkpoints.save(step, {"weights": np.full(3, float(step))}, "hash")
        (folder / "last" / str(step) / MANIFEST).unlink()
    checkpoints.close()
    return folder


def test_only_a_workdir_of_such_a_version_may_lack_manifests(tmp_path: pathlib.Path) -> None:
    """Would break the checks of this version: a snapshot that lost its manifest would be served as if it were whole."""
    folder, tree = without_manifest(tmp_path), {"weights": np.zeros(3)}
    assert_names(refusal(find_model, folder), ("newest.json", "not readable"))  # no config at all
    save_config(Config().with_fields({"eval.select": "sampled100"}), tmp_path)
    assert_names(refusal(find_model, folder), ("newest.json", "not readable"))  # this version's
    assert Checkpoints(folder / "last").restore(tree) is None
    unsealed_config = tmp_path / "unsealed"
    unsealed(unsealed_config)
    shutil.copy(unsealed_config / CONFIG_FILE, tmp_path / CONFIG_FILE)
    found = find_model(folder)
    assert (
        found is not None
        and (found.step, found.manifest) == (2, {})
        and Checkpoints(folder / "last").newest() == 2
    )
    record_newest(folder, 2, "hash")  # this version has saved here since
    assert_names(refusal(find_model, folder), ("last/2", "has no manifest.json"))
    assert_names(
        refusal(Checkpoints(folder / "last").restore, tree), ("last/2", "has no manifest.json")
    )
    (folder / "newest.json").unlink()
    (folder / "last" / "1" / MANIFEST).write_text("{}")
    assert_names(refusal(find_model, folder), ("newest.json", "not readable"))


def test_a_snapshot_that_cannot_be_read_is_passed_over(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break the resume of such a training where its newest snapshot is damaged, as that version went on from the one before."""
    folder = without_manifest(tmp_path)
    unsealed(tmp_path)
    for path in (folder / "last" / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    restored = Checkpoints(folder / "last").restore({"weights": np.zeros(3)})
    assert (
        restored is not None
        and restored[0] == 1
        and restored[1]["weights"].tolist() == [1.0, 1.0, 1.0]
    )
    said = capsys.readouterr().out
    assert (
        "last/2: cannot be read" in said
        and "continuing from step 1" in said
        and len(lines(said)) == 1
    )


def test_only_records_of_such_a_version_may_lack_checksums(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break the checks of this version: a line that a disk has changed would be shown in a report."""
    records = Records(tmp_path / "metrics.jsonl")
    records.path.write_text(RECORD)
    assert_names(refusal(records.read), ("metrics.jsonl:1", "grasp_jax did not write it"))
    unsealed(tmp_path)
    assert records.read() == records.read() == [{"event": "epoch", "epoch": 1, "loss": 0.5}]
    assert [line.split(": ")[0] for line in lines(capsys.readouterr().out)] == [str(records.path)]
    records.keep(lambda record: True)
    records.append({"event": "epoch", "epoch": 2, "loss": 0.25})
    assert [record["epoch"] for record in records.read()] == [1, 2] and not lines(
        capsys.readouterr().out
    )
    records.path.write_text(records.path.read_text() + RECORD)
    assert_names(refusal(records.read), ("metrics.jsonl:3", "grasp_jax did not write it"))


def test_fields_that_were_added_since(tmp_path: pathlib.Path) -> None:
    """Would break every earlier workdir whenever a field is added; another value than that version's is another config."""
    unsealed(tmp_path)
    path = tmp_path / CONFIG_FILE
    tree = json.loads(path.read_text())
    del (
        tree["data"]["title_column"],
        tree["data"]["max_missing_text"],
        tree["knowledge"]["text_columns"],
        tree["by_source"],
    )
    path.write_text(json.dumps(tree))
    config = Config().with_fields({"eval.select": "sampled100"})
    check_workdir(config, tmp_path)
    config = config.with_fields({"data.title_column": "name"})
    assert "data.title_column is 'title' there and 'name' here" in refusal(
        check_workdir, config, tmp_path
    )


def test_it_is_said_once(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would bury what a run says: the records are read several times in each."""
    say_unverified(tmp_path)
    say_unverified(tmp_path)
    assert len(lines(capsys.readouterr().out)) == 1
