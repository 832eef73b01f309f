"""Trains in several processes of this machine: starts N copies of `python -m grasp_jax.main`, which end together.

    python launch/local.py --processes=2 [--devices=2] [--restarts=0] [--grace=20] -- --config=configs/beauty.py --workdir=runs/x

Every process gets the arguments after ` -- `. Relative paths in them start at the repository's root. If one process fails, the launcher
sends SIGTERM to the others and, after --grace seconds, SIGKILL, because a process that waits for a dead one may react to nothing else. The
launcher passes SIGTERM and Ctrl-C on as SIGTERM. Its exit status is that of the first process that failed, or 128 + N for signal N. Status
75 means that every process saved a checkpoint after SIGTERM: run the same command again to continue. Needs only the standard library.
"""

import argparse
import contextlib
import ctypes
import itertools
import math
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, Any, NoReturn

ROOT = pathlib.Path(__file__).resolve().parent.parent
# exit statuses of the program: a new start does not help after the first, and continues the run after the second
BAD_INPUT, PREEMPTED = 2, 75
POLL_SECONDS = 0.02
DRAIN_SECONDS = 10.0  # for the last output of processes that have ended
PR_SET_PDEATHSIG = 1  # of Linux's prctl
OUTPUT = threading.Lock()  # keeps lines of two processes apart


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one line, as the program does."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def at_least(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from `least` on, which raises ArgumentTypeError for anything else."""

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from {least} on")

    return read


def seconds(text: str) -> float:
    """The number of seconds; raises ArgumentTypeError unless it is finite and at least 0."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, 0 or more")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The launcher's flags; `program` has the arguments after `--`."""
    own, program = list(arguments), []
    if "--" in own:
        at = own.index("--")
        own, program = own[:at], own[at + 1 :]
    about, _, more = (__doc__ or "").partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="launch/local.py",
        description=about,
        epilog=more,
        formatter_class=raw,
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=at_least(1), help="Number of processes; needed.")
    parser.add_argument(
        "--devices",
        type=at_least(1),
        help="GPUs of each process; on a machine without GPUs, emulated CPU devices of each.",
    )
    parser.add_argument(
        "--restarts",
        type=at_least(0),
        default=0,
        help="How often all processes may start again after a failure, except after status 2.",
    )
    parser.add_argument(
        "--grace", type=seconds, default=20.0, help="Seconds between SIGTERM and SIGKILL."
    )
    parser.add_argument("--module", default="grasp_jax.main", help="What `python -m` runs.")
    options, left_over = parser.parse_known_args(own)
    if left_over:
        parser.error(
            f"unexpected argument {left_over[0]!r}; write flags as --name=value, and the program's own after ' -- '"
        )
    if options.processes is None:
        parser.error(
            "--processes is needed, as in --processes=2 -- --config=configs/quickstart.py --workdir=runs/quickstart"
        )
    options.program = program
    if options.devices is not None:
        gpus, needed = visible_gpus(os.environ), options.processes * options.devices
        if gpus and len(gpus) < needed:
            parser.error(
                f"--processes={options.processes} with --devices={options.devices} needs {needed} GPUs, and this machine has {len(gpus)} "
                f"({', '.join(gpus)}); ask for fewer, or set JAX_PLATFORMS=cpu to emulate devices"
            )
    return options


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the NVIDIA GPUs in the form of CUDA_VISIBLE_DEVICES; none if they are hidden, or if JAX must use the CPU."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return []
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = (name.strip() for name in named.split(","))
        # CUDA ignores what follows, too
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    files = [
        path
        for path in pathlib.Path("/dev").glob("nvidia*")
        if re.fullmatch(r"nvidia\d+", path.name)
    ]
    # CUDA counts from 0, even if the numbers in the names of a container's files do not
    return [str(number) for number in range(len(files))]


def environment_of(process: int, processes: int, devices: int | None, port: int) -> dict[str, str]:
    """The launcher's environment with the variables of one process, and of its devices."""
    environment = dict(os.environ) | {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
        "PYTHONUNBUFFERED": "1",
    }
    if devices is not None:
        gpus = visible_gpus(environment)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(
                gpus[process * devices : (process + 1) * devices]
            )
        else:
            given = environment.get("XLA_FLAGS", "")
            # of two such flags, XLA uses the last
            environment["XLA_FLAGS"] = (
                f"{given} --xla_force_host_platform_device_count={devices}".strip()
            )
            environment["JAX_PLATFORMS"] = "cpu"
    return environment


def free_port() -> int:
    """A port on which no program listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tie_to_launcher() -> Callable[[], None] | None:
    """A function for a new process to call before `exec`, so that it ends with the launcher, even a killed one; None except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    # prctl is looked up here, because a lock that another thread held at the fork is never released in the new process.
    prctl, launcher = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # the launcher ended before prctl was called
            os._exit(128 + signal.SIGKILL)

    return tie


def start(options: argparse.Namespace, into: list[subprocess.Popen[bytes]]) -> None:
    """Starts all processes, each in a separate process group, and adds them to the list one by one."""
    port, tie = free_port(), tie_to_launcher()
    for process in range(options.processes):
        into.append(
            subprocess.Popen(
                [sys.executable, "-m", options.module, *options.program],
                cwd=ROOT,
                env=environment_of(process, options.processes, options.devices, port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                preexec_fn=tie,
            )
        )


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines as they arrive, without line ends. A carriage return also ends a line, because progress bars write no line feed."""
    held = b""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]  # what Popen opens has it
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield from list(filter(None, line.split(b"\r"))) or [b""]
        # a carriage return at the end is kept, because a line feed may follow
        *states, held = re.split(rb"\r(?=.)", held, flags=re.DOTALL)
        yield from filter(None, states)
    yield from filter(None, held.split(b"\r"))


def copy_lines(stream: IO[bytes], into: IO[bytes], prefix: bytes) -> None:
    """Writes each line at once, with the process's number before it, until the stream ends."""
    for line in lines_of(stream):
        # If our reader has ended or the disk is full, the line is lost, so that the process does not block on a full pipe.
        with OUTPUT, contextlib.suppress(OSError):
            into.write(prefix + line + b"\n")
            into.flush()


def say(message: str) -> None:
    """Prints a line of the launcher."""
    with OUTPUT, contextlib.suppress(OSError):
        print(f"launch: {message}", file=sys.stderr, flush=True)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGKILL to the process and its descendants."""
    # macOS raises PermissionError if only a zombie is left
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def watch(
    processes: Sequence[subprocess.Popen[bytes]], grace: float, received: Sequence[int]
) -> int:
    """Waits until all processes have ended, and stops them once one has failed or a signal was received; returns the launcher's status."""
    ended: dict[int, int] = {}  # process: status, in the order in which they ended
    deadline, stopped = math.inf, 0
    while True:
        for number, process in enumerate(processes):
            code = process.poll() if number not in ended else None
            if code is not None:
                kill_group(process)  # its descendants too
                ended[number] = code if code >= 0 else 128 - code
        running = [process for number, process in enumerate(processes) if number not in ended]
        if not running:
            return summed_up(ended, stopped, bool(received))
        if deadline == math.inf and (received or any(ended.values())):
            deadline, stopped = time.monotonic() + grace, len(running)
            for process in running:
                process.terminate()  # not its descendants, which may be needed for its checkpoint
        if time.monotonic() >= deadline:
            for process in running:
                kill_group(process)
        time.sleep(POLL_SECONDS)


def summed_up(ended: Mapping[int, int], stopped: int, was_told: bool) -> int:
    """The launcher's status; prints which process it comes from.

    Args:
      ended: process -> status, in the order in which they ended.
      stopped: number of processes that the launcher has stopped.
      was_told: whether the launcher received a signal.
    """
    harmless = (0, PREEMPTED) if was_told else (0,)
    failed = next((number for number, status in ended.items() if status not in harmless), None)
    if failed is None:
        return max(ended.values())
    status = ended[failed]
    others = (
        ""
        if was_told or not stopped
        else f"; the other {stopped} {'was' if stopped == 1 else 'were'} stopped"
    )
    say(f"process {failed} ended with status {status}{meaning(status)}{others}")
    return status


def meaning(status: int) -> str:
    """The name of a signal or of a preemption in brackets; "" for other statuses."""
    if status == PREEMPTED:
        return " (preempted)"
    with contextlib.suppress(ValueError):
        return f" ({signal.Signals(status - 128).name})"
    return ""


def run(options: argparse.Namespace, received: Sequence[int]) -> int:
    """Starts all processes once; returns the launcher's status when all have ended."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        start(options, processes)
        # Threads start after the last fork.
        readers = [
            threading.Thread(
                target=copy_lines, args=(stream, into, f"[{number}] ".encode()), daemon=True
            )
            for number, process in enumerate(processes)
            for stream, into in (
                (process.stdout, sys.stdout.buffer),
                (process.stderr, sys.stderr.buffer),
            )
        ]
        for reader in readers:
            reader.start()
        status = watch(processes, options.grace, received)
        # a grandchild that left the group may hold a pipe open
        last = time.monotonic() + DRAIN_SECONDS
        for reader in readers:
            reader.join(max(0.0, last - time.monotonic()))
        return status
    finally:
        for process in processes:
            if process.poll() is None:
                kill_group(process)


@contextlib.contextmanager
def signals_kept(received: list[int]) -> Iterator[None]:
    """In this context SIGTERM and SIGINT are added to `received` and do not end the launcher."""

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line (without the program's name); returns the exit status. Must be called in the main thread.

    Raises:
      SystemExit: with status 2 for bad input, after a line that names it.
    """
    options, received = parsed(arguments), list[int]()
    with signals_kept(received):
        for restart in range(options.restarts + 1):
            if restart:
                say(f"all start again, {restart} of at most {options.restarts} times")
            status = run(options, received)
            if received or status in (0, BAD_INPUT):
                break
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
