"""A tiny data set on disk, and the program run on it in a separate process, as by a user."""

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np

from tests.fork_server import ForkServer

ROOT = pathlib.Path(__file__).parent.parent
CACHE = "GRASP_JAX_TEST_CACHE"  # the session's, of tests/conftest.py
# Compiles in less than half of the time. XLA would compile the parts of a program side by side, which takes a quarter more processor time.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)

READ_BY_IMPORTS = ("JAX_", "PYTHON", "OMP_")  # how such variables begin; XLA_FLAGS is read later
FORKED_WITH = {"JAX_PLATFORMS": "cpu"}  # of tests/faults/program.py


def write_dataset(
    folder: pathlib.Path, num_users: int = 60, num_items: int = 40, width: int = 16
) -> pathlib.Path:
    """inter.txt with histories of 4 to 12 items, and random vectors of users and items."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, num_users + 1):
        first = rng.integers(num_items)
        lines += [f"{user} {1 + (first + 3 * k) % num_items}" for k in range(rng.integers(4, 13))]
    lines += [
        f"1 {item}" for item in range(1, num_items // 2)
    ]  # most items occur, so that ids have no gap
    lines += [f"2 {item}" for item in range(num_items // 2, num_items + 1)]
    (folder / "inter.txt").write_text("\n".join(lines) + "\n")
    np.save(folder / "items.npy", rng.standard_normal((num_items, width)).astype(np.float32))
    np.save(folder / "users.npy", rng.standard_normal((num_users, width)).astype(np.float32))
    return folder


def arguments(data: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
    """Command line of a small GRASP run on `write_dataset`'s files."""
    return [
        sys.executable,
        "-m",
        "grasp_jax.main",
        f"--config={ROOT / 'configs' / 'fashion.py'}",
        f"--config.data.path={data}",
        f"--workdir={workdir}",
        "--config.model.method=grasp",
        "--config.model.backbone=gru4rec",  # compiled in half of the time that the others take
        "--config.knowledge.encoder=file",
        "--config.knowledge.item_file=items.npy",
        "--config.knowledge.user_file=users.npy",
        "--config.knowledge.num_neighbours=3",
        "--config.model.features=8",
        "--config.model.mlp=(16,)",
        "--config.model.num_layers=1",  # most of a small run is tracing, and each layer is traced
        "--config.train.seeds=(1,2)",
        "--config.train.batch_size=16",
        "--config.train.max_epochs=3",
        "--config.eval.num_negatives=10",
        "--config.model.dropout=0.2",
        "--config.data.tail_user_below=0",
        f"--config.compilation_cache={os.environ.get(CACHE, workdir.parent / 'compiled')}",
        *more,
    ]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end; output as text.

    Modules and programs in a string are run by a fork of a process that has imported what most need. `run_afresh` starts Python.
    """
    python, kind = command[:2]
    late = {name for name in environment if name.startswith(READ_BY_IMPORTS)}
    late -= {name for name in late if FORKED_WITH.get(name) == environment[name]}
    if python != sys.executable or kind not in ("-m", "-c") or late or not _fork_will_do():
        return run_afresh(command, **environment)
    return _server(_read_by_imports()).call(command[1:], os.environ | environment)


def script(path: str, *flags: str) -> list[str]:
    """`python PATH FLAGS`, as `run` can fork it."""
    program = f"import runpy; runpy.run_path({path!r}, run_name='__main__')"
    return [sys.executable, "-c", program, *flags]


def on_devices(count: int) -> dict[str, str]:
    """What `run` needs in its environment for so many emulated devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def keeping_programs() -> dict[str, str]:
    """Environment in which JAX itself reads and keeps programs where this session does, for a program that names no folder."""
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return os.environ | least | {"JAX_COMPILATION_CACHE_DIR": os.environ[CACHE]}


def run_afresh(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a new process to the end, imports and all; output as text."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _fork_will_do() -> bool:
    """Not on a machine with a GPU, which the forks do not use, and not where Python cannot fork safely."""
    return sys.platform == "linux" and not pathlib.Path("/dev/nvidia0").exists()


def _read_by_imports() -> tuple[tuple[str, str], ...]:
    """The variables that a server, once started, would not hear of."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(READ_BY_IMPORTS)))


@functools.lru_cache(maxsize=2)
def _server(variables: tuple[tuple[str, str], ...]) -> ForkServer:
    """One for each environment; of most sessions there is one."""
    return ForkServer(ROOT)


def one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    """The error line of a failed run; fails the test on success, on a traceback, or on more than one line."""
    assert result.returncode != 0, result.stdout
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
