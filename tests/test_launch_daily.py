"""The whole daily job on SLURM and Kubernetes, against stubs: which step runs when, where, and with which flags."""

import os
import pathlib
import shlex
import subprocess

import pytest
import yaml

from grasp_jax.modes import MODES
from tests.command_line import ROOT, one_line_error
from tests.refusal import assert_names

STEPS = ["prepare", "train", "refit", "represent", "export"]
SBATCH = """#!/usr/bin/env bash
count=$(($(cat "$STUBS/count" 2>/dev/null || echo 100) + 1))
echo $count > "$STUBS/count"
printf '%q ' "$@" >> "$STUBS/submitted"; echo >> "$STUBS/submitted"
[[ "$count" == "${REFUSED:-}" ]] && { echo "sbatch: error: invalid account" >&2; exit 1; }
echo "$count;cluster"
"""
DAY = ["launch/slurm_daily.sh", "--config=configs/beauty.py", "--workdir=/shared/a day"]


def submitted(
    folder: pathlib.Path, *flags: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """What the script says, and the arguments of each call of sbatch."""
    (folder / "sbatch").write_text(SBATCH)
    (folder / "sbatch").chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "STUBS": str(folder), **variables}
    result = subprocess.run(
        [*DAY, *flags], cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False
    )
    calls = folder / "submitted"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return result, [shlex.split(line) for line in lines]


def test_steps_wait_for_one_another(tmp_path: pathlib.Path) -> None:
    """A step would begin before what it reads, or on as many hosts as another; or a failed day leave jobs that never start."""
    result, calls = submitted(tmp_path, TRAIN="--nodes=4 --gpus-per-node=8", ONE="--nodes=1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"{name}: job {101 + k}" for k, name in enumerate(STEPS)]
    for k, (name, call) in enumerate(zip(STEPS, calls, strict=True)):
        options, flags = (
            call[: call.index("launch/slurm.sh")],
            call[call.index("launch/slurm.sh") :],
        )
        assert ("--nodes=4" in options) == (name in ("train", "refit"))
        assert [o for o in options if "dependency" in o] == [f"--dependency=afterok:{100 + k}"] * (
            k > 0
        )
        assert ("--kill-on-invalid-dep=yes" in options) == (k > 0)
        assert flags[1] == f"--mode={name}"
        later = name in ("represent", "export")
        assert (f"--workdir=/shared/a day{'/refit' * later}") in flags
        assert ("--config=configs/beauty.py" in flags) != later  # the workdir has its config
        assert ("--config.mesh.data=1" in flags) == ("--nodes=1" in options)


def test_the_next_day_goes_on(tmp_path: pathlib.Path) -> None:
    """All texts would be encoded again, and training begin at random."""
    _, calls = submitted(tmp_path, "--since=/shared/yesterday")
    for call in calls[:3]:
        assert "--config.knowledge.since=/shared/yesterday" in call
        assert "--config.train.start_from=/shared/yesterday" in call
    assert not any("yesterday" in word for call in calls[3:] for word in call)


def test_a_dry_run_submits_nothing(tmp_path: pathlib.Path) -> None:
    """Somebody who wants to see the commands would start them."""
    result, calls = submitted(tmp_path, DRY_RUN="1")
    assert not calls and result.returncode == 0
    assert [shlex.split(line)[0] for line in result.stdout.splitlines()] == ["sbatch"] * 5


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--mode=train"], ("--mode=train", "every step has its own mode")),
        (["--workdir="], ("--workdir is needed", "--workdir=/shared/runs/")),
        (["--config="], ("--config is needed", "/shared/a day holds no config.json")),
        (["--since", "/shared/yesterday"], ("--since without a value", "--since=VALUE")),
        (["/shared/yesterday"], ("unexpected argument /shared/yesterday", "--name=value")),
    ],
)
def test_wrong_flags_are_one_line(
    tmp_path: pathlib.Path, flags: list[str], parts: tuple[str, ...]
) -> None:
    """Half a day would be submitted before bash complains."""
    result, calls = submitted(tmp_path, *flags)
    assert_names(one_line_error(result), parts)
    assert result.returncode == 2 and not calls


def test_a_refused_step_ends_the_day(tmp_path: pathlib.Path) -> None:
    """Steps after one that was never submitted would start at once."""
    result, calls = submitted(tmp_path, REFUSED="102")
    assert result.returncode and len(calls) == 2 and "invalid account" in result.stderr


def test_kubernetes_steps() -> None:
    """A step would not wait, pods not find each other, bad input be tried again, or two hosts run what one process must."""
    jobset = yaml.safe_load((ROOT / "launch" / "kubernetes_daily.yaml").read_text())
    name, jobs = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"]
    assert [job["name"] for job in jobs] == STEPS and set(STEPS) <= set(MODES)
    for before, job in zip([None, *STEPS], jobs, strict=False):
        waits = [] if before is None else [{"name": before, "status": "Complete"}]
        assert job.get("dependsOn", []) == waits
        spec = job["template"]["spec"]
        (worker,) = spec["template"]["spec"]["containers"]
        assert worker["command"] == ["python", "-m", "grasp_jax.main"]
        assert worker["args"][0] == f"--mode={job['name']}"
        environment = {variable["name"]: variable for variable in worker.get("env", [])}
        hosts = int(environment.get("JAX_NUM_PROCESSES", {"value": "1"})["value"])
        assert hosts == spec["parallelism"] == spec["completions"]
        assert (hosts > 1) == (job["name"] in ("train", "refit"))
        assert ("--config.mesh.data=1" in worker["args"]) == (hosts == 1)
        if hosts > 1:
            address = f"{name}-{job['name']}-0-0.{name}:{worker['ports'][0]['containerPort']}"
            assert environment["JAX_COORDINATOR_ADDRESS"]["value"] == address
        rules = [
            (own["action"], own["onExitCodes"]["values"])
            for own in spec["podFailurePolicy"]["rules"]
        ]
        assert rules == [("FailJob", [2]), ("Ignore", [75])] and spec["backoffLimit"] == 0
