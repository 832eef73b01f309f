"""A GPU machine that has JAX and its neighbours and little else: the package imports and trains there, and the benchmarks run."""

import json
import os
import pathlib
import subprocess
import sys

import ml_collections
import pytest

from benchmarks.run import GPU
from benchmarks.sections import kernels
from grasp_jax import bare_config_dict
from grasp_jax.config import default_config

ROOT = pathlib.Path(__file__).parent.parent
MISSING = ("ml_collections", "scann", "tensorflow_datasets", "array_record", "sklearn", "pyarrow", "tqdm", "safetensors", "matplotlib")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds none of `MISSING`."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({MISSING!r}))\n")
    return os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHON": sys.executable}


def test_trains_without_what_a_bare_machine_lacks(bare: dict[str, str], tmp_path: pathlib.Path) -> None:
    """An import for data files, text or progress bars would keep a model that needs none of them from training."""
    program = f"""
import pathlib
from configs.quickstart import get_config
from grasp_jax.cell_results import evaluate_cell
from grasp_jax.cells import make_cell, train_cell
from grasp_jax.experiment import Experiment

config = get_config()
config.model.method = "plain"
config.data.synthetic.num_users, config.data.synthetic.num_items = 200, 400
config.train.max_epochs = 2
experiment = Experiment(config, pathlib.Path({str(tmp_path / "run")!r}))
cell = make_cell(experiment, "plain", "sasrec")
rows = evaluate_cell(experiment, cell, train_cell(experiment, cell)).rows
print("trained", len(rows) > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=bare, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained True\n")


def test_gpu_benchmarks_are_found(bare: dict[str, str]) -> None:
    """The minutes of a rented GPU would go to an import error or a flag that does not exist."""
    program = "".join(f"import {benchmark.module}\n" for benchmark in GPU.values())
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=bare, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for benchmark in GPU.values():
        source = (ROOT / f"{benchmark.module.replace('.', '/')}.py").read_text()
        assert all(f'"{argument.split("=")[0]}"' in source for argument in benchmark.arguments), benchmark


@pytest.mark.slow
def test_gpu_benchmarks_run(bare: dict[str, str], tmp_path: pathlib.Path) -> None:
    """The script would start nothing, or lose results; those that no other test runs."""
    command = ["launch/gpu_benchmarks.sh", "--quick", "--only=gru", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    table = kernels.gru(json.loads((tmp_path / "gru.json").read_text()))
    assert table.rows and all(len(row) == len(table.header) for row in table.rows)


def changed(config: object) -> object:
    """All that the package does to a config, and its fields after it."""
    config.update_from_flattened_dict({"model.features": 32, "train.loss": "bce"})  # type: ignore[attr-defined]
    config.update({"eval": {"seed": 7}, "model": {"plus": {"id_trust": 2.0}}})  # type: ignore[attr-defined]
    with config.unlocked():  # type: ignore[attr-defined]
        config.by_method = {"plain": {"model": {"dropout": (0.5,)}}}  # type: ignore[attr-defined]
    config.model.kernels = config.get_ref("kernels")  # type: ignore[attr-defined]
    config.kernels = "pallas"  # type: ignore[attr-defined]
    copy = config.copy_and_resolve_references()  # type: ignore[attr-defined]
    config.kernels = "xla"  # type: ignore[attr-defined]
    kernels = copy.model.kernels, config.model.kernels  # type: ignore[attr-defined]
    return copy.to_dict(), kernels, list(copy.by_method), copy.get("nothing", 3), json.loads(copy.to_json_best_effort())


def test_bare_config_is_ml_collections_own() -> None:
    """A benchmark on a bare machine would be of another config than here."""
    fields = default_config().to_dict()
    expected, found = (changed(kind(fields).lock()) for kind in (ml_collections.ConfigDict, bare_config_dict.ConfigDict))
    assert found == expected


@pytest.mark.parametrize("kind", [ml_collections.ConfigDict, bare_config_dict.ConfigDict])
def test_bare_config_refuses_what_ml_collections_refuses(kind: type) -> None:
    """A mistyped field would be made, and its default used."""
    config = kind({"model": {"features": 64}}).lock()
    with pytest.raises(AttributeError):
        config.model.feature = 32
    with pytest.raises(AttributeError):
        _ = config.models
    with pytest.raises(KeyError):
        _ = config["models"]
    with pytest.raises((KeyError, AttributeError)):
        config.copy_and_resolve_references().update({"model": {"width": 3}})
