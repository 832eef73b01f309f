"""On a GPU machine with JAX and few other packages, the package can be imported and trains, and the benchmarks run."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import own_training
from benchmarks.run import GPU
from benchmarks.sections import kernels
from configs import beauty
from grasp_jax.config import Config, read_config
from tests.command_line import keeping_programs
from tests.trained import trained

ROOT = pathlib.Path(__file__).parent.parent
MISSING = (
    "ml_collections",
    "scann",
    "tensorflow_datasets",
    "array_record",
    "sklearn",
    "pyarrow",
    "tqdm",
    "safetensors",
    "jinja2",
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds none of `MISSING`."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({MISSING!r}))\n"
    )
    return keeping_programs() | {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHON": sys.executable}


def test_trains_without_what_a_bare_machine_lacks(
    bare: dict[str, str], tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An import for data files, text or progress bars would keep a model that needs none of them from training."""
    config = read_config(trained(tmp_path_factory, "sasrec"))  # whose programs are compiled
    program = f"""
import json
import pathlib
from grasp_jax.config import Config
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import make_trial, train_trial
from grasp_jax.trials.trial_results import evaluate_trial

config = Config.from_dict(json.loads({json.dumps(config.to_dict())!r}))
run = open_run(config, pathlib.Path({str(tmp_path / "run")!r}))
trial = make_trial(prepare(run), "plain", "sasrec")
rows = evaluate_trial(trial, train_trial(trial)).rows
print("trained", len(rows) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained True\n")


def test_own_training_has_the_papers_config() -> None:
    """The benchmark against rivals would train with other settings than it says."""
    assert own_training.paper_config() == Config.from_dict(
        beauty.get_config(own_training.BACKBONE).to_dict()
    )


def test_gpu_benchmarks_are_found(bare: dict[str, str]) -> None:
    """The minutes of a rented GPU would go to an import error or a flag that does not exist."""
    program = "".join(f"import {benchmark.module}\n" for benchmark in GPU.values())
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for benchmark in GPU.values():
        source = (ROOT / f"{benchmark.module.replace('.', '/')}.py").read_text()
        assert all(f'"{argument.split("=")[0]}"' in source for argument in benchmark.arguments), (
            benchmark
        )


@pytest.mark.slow
def test_gpu_benchmarks_run(bare: dict[str, str], tmp_path: pathlib.Path) -> None:
    """The script would start nothing, or lose results; those that no other test runs."""
    command = ["launch/gpu_benchmarks.sh", "--quick", "--only=gru", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    table = kernels.gru(json.loads((tmp_path / "gru-cpu.json").read_text()))
    assert table.rows and all(len(row) == len(table.header) for row in table.rows)
