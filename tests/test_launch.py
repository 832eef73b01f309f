"""Launchers of several processes: all processes end together, and without --restarts only a preempted run starts again by itself."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.command_line import ROOT, one_line_error, run
from tests.refusal import assert_names

HIDDEN = {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "",
    "XLA_FLAGS": "",
}  # the same on a machine with GPUs
HEAD = "import json, os, pathlib, signal, subprocess, sys, time\nme, here = os.environ['JAX_PROCESS_ID'], pathlib.Path(__file__).parent\n"
SECONDS = 120.0  # for what takes a moment, unless the machine is busy
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def command(*flags: str) -> list[str]:
    """Two processes of `child.py` in a folder that the environment of `python_path` names."""
    return [sys.executable, "launch/local.py", "--processes=2", "--module=child", *flags]


def python_path(folder: pathlib.Path, code: str) -> dict[str, str]:
    """Writes child.py; the environment that finds it."""
    (folder / "child.py").write_text(HEAD + code)
    return HIDDEN | {"PYTHONPATH": str(folder)}


def wait_for(*paths: pathlib.Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not all(path.is_file() and path.read_text() for path in paths):
        assert time.monotonic() < deadline, paths
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Zombies are not: in a container nobody may ask for an orphan's status."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def launched(environment: dict[str, str], *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The launcher while it runs; killed at the end, if need be."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(*flags), cwd=ROOT, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True
    ) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


def test_lines_name_their_process(tmp_path: pathlib.Path) -> None:
    """Would break if output of two processes ran together, went to the other stream, or a progress bar swallowed what follows it."""
    code = """
for piece in (b"first\\nsec", b"ond\\r", b"\\n\\nlast of " + me.encode()):
    os.write(1, piece)
    time.sleep(0.05)
os.write(2, b"\\r10 %\\r50 %")
os.write(2, b"\\r100 %\\n\\xff\\n")
"""
    result = subprocess.run(
        command(),
        cwd=ROOT,
        env=os.environ | python_path(tmp_path, code),
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    for me in (b"0", b"1"):
        own = [
            [line[4:] for line in stream.split(b"\n") if line.startswith(b"[" + me + b"] ")]
            for stream in (result.stdout, result.stderr)
        ]
        assert own == [
            [b"first", b"second", b"", b"last of " + me],
            [b"10 %", b"50 %", b"100 %", b"\xff"],
        ]
    assert len(result.stdout.splitlines()) == len(result.stderr.splitlines()) == 8


@LINUX
def test_one_dies_and_takes_the_other_along(tmp_path: pathlib.Path) -> None:
    """Would break if a process that waits for a dead peer, deaf to SIGTERM, kept its GPUs for good; or its own children did."""
    code = """
if me == "0":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen(["sleep", "600"])
    (here / "written").write_text(f"{os.getpid()} {grandchild.pid}")
    (here / "written").rename(here / "pids")
    time.sleep(600)
while not (here / "pids").is_file():
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""
    started = time.monotonic()
    result = run(command("--grace=0.3"), **python_path(tmp_path, code))
    assert time.monotonic() - started < 18, "it waited for the 20 s that are its grace otherwise"
    assert result.returncode == 137
    assert result.stderr.splitlines() == [
        "launch: process 1 ended with status 137 (SIGKILL); the other 1 was stopped"
    ]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + SECONDS
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, pids))


SAVES = """
def save(*_):
    (here / f"saved-{me}").write_text("x")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
with open(here / f"started-{me}", "a") as starts:
    starts.write("x")
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    """A preempted run would end without a checkpoint, report a failure, or start again although it had to end."""
    with launched(python_path(tmp_path, SAVES), "--restarts=3", "--grace=60") as launcher:
        wait_for(tmp_path / "started-0", tmp_path / "started-1")
        launcher.send_signal(number)
        _, said = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 75, said
    for me in "01":
        assert (tmp_path / f"saved-{me}").is_file() and (
            tmp_path / f"started-{me}"
        ).read_text() == "x"


def test_told_to_stop_but_one_had_to_be_killed(tmp_path: pathlib.Path) -> None:
    """Would break if the launcher said 75, all saved, though a process that ignored SIGTERM was killed after its grace."""
    deaf = SAVES.replace("SIGTERM, save", "SIGTERM, save if me == '0' else signal.SIG_IGN")
    with launched(python_path(tmp_path, deaf), "--grace=3") as launcher:
        wait_for(tmp_path / "started-0", tmp_path / "started-1")
        launcher.terminate()
        _, said = launcher.communicate(timeout=SECONDS)
    assert (
        launcher.returncode == 137 and said == "launch: process 1 ended with status 137 (SIGKILL)\n"
    )


@LINUX
def test_no_orphans_of_a_killed_launcher(tmp_path: pathlib.Path) -> None:
    """Would break if processes of a launcher killed by SIGKILL went on, and wrote to a workdir that the next start writes to."""
    code = "(here / f'pid-{me}').write_text(str(os.getpid()))\ntime.sleep(600)\n"
    files = [tmp_path / f"pid-{me}" for me in "01"]
    with launched(python_path(tmp_path, code)) as launcher:
        wait_for(*files)
        launcher.kill()
        deadline = time.monotonic() + SECONDS
        while any(is_alive(int(path.read_text())) for path in files):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("failure", "restarts", "status", "starts"),
    [(1, 1, 0, 2), (75, 1, 0, 2), (1, 0, 1, 1), (2, 3, 2, 1)],
    ids=["crashed", "preempted", "no-restarts", "bad-input"],
)
def test_restarts(
    tmp_path: pathlib.Path, failure: int, restarts: int, status: int, starts: int
) -> None:
    """Would break if a crash ended a run that may start again, if the status of one that may not were lost, or bad input were retried."""
    code = f"""
with open(here / f"started-{{me}}", "a") as starts:
    starts.write("x")
if me == "1":
    while not (here / "started-0").is_file() or not (here / "started-0").read_text():
        time.sleep(0.02)
    sys.exit(0 if len((here / "started-1").read_text()) > 1 else {failure})
time.sleep(600 if len((here / "started-0").read_text()) == 1 else 0)
"""
    result = run(command(f"--restarts={restarts}"), **python_path(tmp_path, code))
    assert result.returncode == status, result.stderr
    assert [(tmp_path / f"started-{me}").read_text() for me in "01"] == ["x" * starts] * 2
    said = f"launch: process 1 ended with status {failure}{' (preempted)' if failure == 75 else ''}; the other 1 was stopped"
    again = "launch: all start again, 1 of at most 1 times"
    assert result.stderr.splitlines() == [said, again][:starts]


TELLS = """
names = [*(name for name in os.environ if name.startswith("JAX_")), "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "PYTHONUNBUFFERED"]
found = {name: os.environ.get(name) for name in names} | {"args": sys.argv[1:], "cwd": os.getcwd()}
(here / f"environment-{me}").write_text(json.dumps(found))
"""


def told(folder: pathlib.Path, *flags: str, **environment: str) -> list[dict[str, Any]]:
    """What both processes found around them."""
    result = run(command(*flags), **python_path(folder, TELLS) | environment)
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"environment-{me}").read_text()) for me in "01"]


def test_environment_of_the_processes(tmp_path: pathlib.Path) -> None:
    """Processes would not find each other, take each other's place, or have another number of devices than the flag says."""
    zero, one = told(
        tmp_path,
        "--devices=3",
        "--",
        "--config=a b",
        "--",
        "--devices=4",
        XLA_FLAGS="--xla_given=1",
    )
    assert zero["JAX_COORDINATOR_ADDRESS"] == one["JAX_COORDINATOR_ADDRESS"]
    host, _, port = zero["JAX_COORDINATOR_ADDRESS"].partition(":")
    assert host == "127.0.0.1" and 0 < int(port) < 65536
    for number, own in enumerate((zero, one)):
        assert (
            own["JAX_PROCESS_ID"] == str(number)
            and own["JAX_NUM_PROCESSES"] == "2"
            and own["PYTHONUNBUFFERED"] == "1"
        )
        assert (
            own["XLA_FLAGS"] == "--xla_given=1 --xla_force_host_platform_device_count=3"
            and own["JAX_PLATFORMS"] == "cpu"
        )
        assert own["args"] == ["--config=a b", "--", "--devices=4"] and own["cwd"] == str(ROOT)


def test_devices_are_left_alone_unasked(tmp_path: pathlib.Path) -> None:
    """Would break if a user's own choice of devices were overruled without --devices."""
    for own in told(tmp_path, XLA_FLAGS="--xla_given=1", CUDA_VISIBLE_DEVICES="1,2"):
        assert (own["XLA_FLAGS"], own["CUDA_VISIBLE_DEVICES"], own["JAX_PLATFORMS"]) == (
            "--xla_given=1",
            "1,2",
            "",
        )


def test_gpus_are_shared_out(tmp_path: pathlib.Path) -> None:
    """Would break if two processes took the same GPU, or ones that the scheduler has given to somebody else."""
    both = told(tmp_path, "--devices=2", CUDA_VISIBLE_DEVICES="3,GPU-a,5,7,-1,8")
    assert [own["CUDA_VISIBLE_DEVICES"] for own in both] == ["3,GPU-a", "5,7"]
    assert [own["XLA_FLAGS"] for own in both] == ["", ""]
    both = told(tmp_path, "--devices=2", CUDA_VISIBLE_DEVICES="3", JAX_PLATFORMS="cpu")
    assert [own["XLA_FLAGS"] for own in both] == ["--xla_force_host_platform_device_count=2"] * 2


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (
            ["--processes=2", "--devices=1"],
            ("--processes=2 with --devices=1 needs 2 GPUs", "has 1 (0)", "JAX_PLATFORMS=cpu"),
        ),
        (["--processes=zwei"], ("--processes: 'zwei'; expected a whole number from 1 on",)),
        (["--processes=2", "--devices=0"], ("--devices: '0'; expected a whole number from 1 on",)),
        (["--processes=2", "--grace=inf"], ("--grace: 'inf'; expected seconds",)),
        (["--", "--config=c"], ("--processes is needed, as in --processes=2 -- ",)),
        (["--processes=2", "--config=c"], ("unexpected argument '--config=c'", "after ' -- '")),
    ],
)
def test_bad_flags_are_one_line(flags: list[str], parts: tuple[str, ...]) -> None:
    """Would break if a wrong flag ended in a usage text or a traceback, or started half of the processes."""
    result = run(
        [sys.executable, "launch/local.py", *flags], CUDA_VISIBLE_DEVICES="0", JAX_PLATFORMS=""
    )
    assert_names(one_line_error(result), parts)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1


STUBS = {
    # As the real one: SIGTERM to srun itself kills, and its status is the highest of its tasks'.
    "srun": """
printf '%s\\n' "$@" > "$STUBS/srun-arguments"
while [[ "$1" == --* ]]; do shift; done
for ((rank = 0; rank < SLURM_NNODES; rank++)); do SLURM_PROCID=$rank SLURM_LOCALID=0 "$@" & tasks+=($!); done
highest=0
for task in "${tasks[@]}"; do wait "$task" || { status=$?; ((status > highest)) && highest=$status; }; done
exit $highest
""",
    "scontrol": """
case "$1 $2" in
    "show hostnames") [[ "$3" == "node[07-08]" ]] && printf 'node07\\nnode08\\n' ;;
    "show job") echo "JobId=$3 JobName=grasp_jax"; echo "   JobState=$STATE Reason=None" ;;
    "requeue "*) echo "$2" >> "$STUBS/requeued" ;;
esac
""",
    "scancel": """
printf '%s\\n' "$@" > "$STUBS/scancel-arguments"
kill -TERM $(cat "$STUBS"/task-*)
""",
    "python": """
{ env | grep -E '^(JAX_|SLURM_LOCALID)' | sort; printf '%s\\n' "$@"; } > "$STUBS/environment-$JAX_PROCESS_ID"
if [[ "$TASK" == wait ]]; then
    trap 'exit 75' TERM
    echo $$ > "$STUBS/task-$JAX_PROCESS_ID"
    for ((turn = 0; turn < 4000; turn++)); do sleep 0.05; done
fi
exit "$TASK"
""",
}


def on_slurm(folder: pathlib.Path, task: str, state: str = "RUNNING") -> dict[str, str]:
    """The environment of a job on two nodes, whose tasks end with status `task` or wait for SIGTERM."""
    for name, code in STUBS.items():
        (folder / name).write_text("#!/usr/bin/env bash\n" + code)
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "STUBS": str(folder),
        "TASK": task,
        "STATE": state,
        "PYTHON": str(folder / "python"),
        "SLURM_JOB_ID": "1234567",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[07-08]",
    }


SLURM = ["launch/slurm.sh", "--config=configs/beauty.py", "--workdir=/shared/a b"]


@pytest.mark.parametrize(
    ("task", "state", "requeued"),
    [("75", "RUNNING", True), ("75", "COMPLETING", False), ("1", "RUNNING", False)],
)
def test_slurm(tmp_path: pathlib.Path, task: str, state: str, requeued: bool) -> None:
    """Would break if nodes did not find each other, JAX used one GPU of each, or a crash or a cancelled job came back into the queue."""
    result = run(SLURM, **on_slurm(tmp_path, task, state))
    assert result.returncode == int(task), result.stderr
    assert (tmp_path / "requeued").is_file() == requeued
    for process in "01":
        assert (tmp_path / f"environment-{process}").read_text().splitlines() == [
            "JAX_COORDINATOR_ADDRESS=node07:24567",
            "JAX_NUM_PROCESSES=2",
            f"JAX_PROCESS_ID={process}",
            "-m",
            "grasp_jax.main",
            *SLURM[1:],
        ]
    options = (tmp_path / "srun-arguments").read_text().splitlines()
    assert {
        "--kill-on-bad-exit=1",
        "--label",
        "--nodes=2",
        "--ntasks=2",
        "--ntasks-per-node=1",
    } <= set(options)


def test_slurm_passes_the_warning_on(tmp_path: pathlib.Path) -> None:
    """Would break if the signal before the time limit, which the batch shell alone gets, ended it or killed the tasks before they saved."""
    with subprocess.Popen(
        SLURM,
        cwd=ROOT,
        env=os.environ | on_slurm(tmp_path, "wait"),
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        try:
            wait_for(tmp_path / "task-0", tmp_path / "task-1")
            job.terminate()
            _, said = job.communicate(timeout=SECONDS)
        finally:
            job.kill()
    assert job.returncode == 75 and (tmp_path / "requeued").read_text() == "1234567\n", said
    assert (tmp_path / "scancel-arguments").read_text().splitlines() == [
        "--state=RUNNING",
        "--signal=TERM",
        "1234567",
    ]


def test_slurm_script_outside_of_slurm() -> None:
    """Would break if someone who ran the script by hand saw an unbound variable of bash."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SLURM_")
    }
    result = subprocess.run(
        SLURM,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert_names(one_line_error(result), ("SLURM_JOB_ID", "sbatch --nodes=4"))
    assert result.returncode == 2


def test_kubernetes() -> None:
    """Would break if the pods did not find each other or agree on their number, or bad input were tried again, or a preemption counted."""
    jobset = yaml.safe_load((ROOT / "launch" / "kubernetes.yaml").read_text())
    (workers,) = jobset["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    name = jobset["metadata"]["name"]
    address = f"{name}-{workers['name']}-0-0.{name}:{container['ports'][0]['containerPort']}"
    assert environment["JAX_COORDINATOR_ADDRESS"]["value"] == address
    assert (
        int(environment["JAX_NUM_PROCESSES"]["value"]) == job["parallelism"] == job["completions"]
    )
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert (
        environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == index
        and job["completionMode"] == "Indexed"
    )
    assert (
        container["command"] == ["python", "-m", "grasp_jax.main"]
        and pod["restartPolicy"] == "Never"
    )
    rules = [
        (rule["action"], rule["onExitCodes"]["values"]) for rule in job["podFailurePolicy"]["rules"]
    ]
    assert rules == [("FailJob", [2]), ("Ignore", [75])] and job["backoffLimit"] == 0
    assert {rule["onExitCodes"]["containerName"] for rule in job["podFailurePolicy"]["rules"]} == {
        container["name"]
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
