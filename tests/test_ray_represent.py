"""Representations that two workers on Ray write are those of a local run."""

import pathlib
import sys

import numpy as np
import pyarrow.parquet
import pytest

import grasp_jax as gj
from grasp_jax.serving import represent as module
from tests.command_line import ROOT, one_line_error, run, script, write_dataset
from tests.refusal import assert_names
from tests.test_represent import TINY
from tests.trained import trained


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Data in "data", a model of them in "saved", and its representations, four shards, in "local"."""
    root = tmp_path_factory.mktemp("ray")
    shop = gj.Dataset.read(write_dataset(root / "data", num_users=90))
    model = gj.Recommender(method="plain", **TINY).fit(shop)
    model.save(root / "saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "USERS_OF_A_SHARD", 25)
        gj.Recommender.load(root / "saved", shop).represent(root / "local")
    return root


def on_ray(root: pathlib.Path, *more: str) -> list[str]:
    return [sys.executable, "launch/ray_represent.py", str(root / "saved"), *more]


def vectors(folder: pathlib.Path) -> dict[int, list[float]]:
    """Of each user."""
    table = pyarrow.parquet.read_table(folder / "users")
    return dict(zip(table["user"].to_pylist(), table["vector"].to_pylist(), strict=True))


@pytest.mark.slow
def test_two_workers_write_what_one_process_does(
    folders: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A worker would take another worker's users, skip a shard, or compute again what is there."""
    pytest.importorskip("ray", reason="ray is not installed")
    out, data = folders / "local", f"--data={folders / 'data'}"
    local, files = vectors(out), sorted((out / "users").glob("*.parquet"))
    assert len(files) == 4
    for path in files[:3]:  # as an interrupted run leaves them
        path.unlink()
    done = run(on_ray(folders, str(out), data, "--workers=2"), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    kept = pyarrow.parquet.read_metadata(files[3]).num_rows
    assert f"{90 - kept} users computed, {kept} kept; 40 items" in done.stdout
    again = vectors(out)
    assert sorted(again) == sorted(local)
    for user, vector in local.items():
        np.testing.assert_allclose(again[user], vector, atol=1e-5)
    new = tmp_path / "new"  # one shard, which one worker writes
    done = run(on_ray(folders, str(new), data), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert sorted(vectors(new)) == sorted(local)


def test_what_no_worker_could_do_is_refused(
    tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A cluster would be started for a model that knows no users."""
    gj.Recommender.load(trained(tmp_path_factory, "sasrec")).save(tmp_path / "saved")
    _, *asked = on_ray(tmp_path, str(tmp_path / "out"))
    found = run(script(*asked))
    assert_names(one_line_error(found), ("saved model holds no users", "dataset="))
