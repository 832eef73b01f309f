"""Faults around a run, each in a separate process: full disks, missing home folders, closed streams, signals, a second process.

A case is `KIND:DETAILS`, such as `disk:all:200` (kB free) or `signal:TERM:training`. After each fault that stops a run, the same command is
run again and must give the results of an undisturbed run.
"""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.command_line import ROOT
from tests.faults.campaign import Check, Options, run_campaign
from tests.faults.program import Forked, Outcome
from tests.faults.workdir import Base, differences, digest, make_base

PARTS = {
    "all": ("rows", "ranks", "candidates", "epochs", "parameters"),
    "recommend": ("recommendations",),
    "prepare": ("knowledge",),
    "evaluate": ("rows", "ranks"),
    "report": (),
}
NO_READER = 141  # 128 + SIGPIPE, of a run whose output nobody reads
LONG = (
    "--config.train.max_epochs=120",
    "--config.train.patience=100",
    "--config.model.method=plain",
    "--config.eval.full=False",
)
SIZES = {
    "all": (0, 8, 60, 200, 500, 900),
    "prepare": (0, 3, 20),
    "recommend": (0, 2),
}  # kB that are free, or that a file may have
DISK = [
    f"{kind}:{mode}:{size}"
    for kind in ("disk", "limit")
    for mode, sizes in SIZES.items()
    for size in sizes
]
READ_ONLY = ["readonly:all:fresh", *(f"readonly:{mode}:finished" for mode in PARTS)]
HOMES = ["home:none", "home:missing", "home:readonly"]
STREAMS = ["stdout:head", "stdout:closed", "stdout:full", "stderr:closed", "stdin:closed"]
MOMENTS = ("0.5", "1", "2", "3", "5", "8", "training")
SIGNALS = [f"signal:{name}:{moment}" for name in ("INT", "TERM") for moment in MOMENTS]
PROCESSES = ["two:all", "two:recommend", "lock:killed"]


QUICK = (
    "disk:recommend:0",
    "limit:recommend:0",
    "signal:INT:training",
)  # the second where no disk can be mounted


class Running:
    """The program in a process of its own, with what surrounds it changed; in the quick form a fork, which has imported it."""

    fork = False

    def __init__(
        self,
        command: Sequence[str],
        folder: pathlib.Path,
        before: Callable[[], Any] | None = None,
        **changes: Any,
    ) -> None:
        environment = {
            name: value
            for name, value in (os.environ | changes.pop("environment", {})).items()
            if value is not None
        }
        self._files = [folder / f"{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        streams = {
            name: path.open("wb")
            for name, path in zip(("stdout", "stderr"), self._files, strict=True)
        } | changes
        if self.fork and before is None and not changes:
            self.process: Any = Forked(command, *(stream.fileno() for stream in streams.values()))
            return
        words = [sys.executable, "-m", "grasp_jax.main", *command]
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environment, preexec_fn=before, **streams
        )

    def ended(self, seconds: float = 240) -> Outcome:
        """Waits for its end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = -self.process.wait() - 1000
        return Outcome(
            code, *(path.read_text(encoding="utf-8", errors="replace") for path in self._files)
        )


def make(options: Options) -> tuple[list[str], Check]:
    """All cases that this machine and this user may try."""
    base = make_base(options.base, options.quick)
    Running.fork = options.quick
    texts = [] if options.quick else ["ascii:all", "ascii:report", "ascii:bytes"]
    names = [*DISK, *READ_ONLY, *HOMES, *STREAMS, *texts, *SIGNALS, *PROCESSES]
    if not _may_mount(options.folder):
        print(
            "skipped: disk:*, readonly:* and home:readonly, for this user may mount nothing (limit:* stands for a full disk)"
        )
        names = [
            name for name in names if not name.startswith(("disk", "readonly", "home:readonly"))
        ]
    if options.quick:
        names = [name for name in QUICK if name in names]
        names = names[:1] + names[-1:]

    def check(name: str) -> str:
        kind, *details = name.split(":")
        folder = options.folder / name.replace(":", "-")
        folder.mkdir()
        try:
            return _KINDS[kind](base, folder, *details)
        finally:
            subprocess.run(
                ["umount", "--lazy", folder / "disk"], check=False, stderr=subprocess.DEVNULL
            )
            if not options.keep:
                shutil.rmtree(folder, ignore_errors=True)

    return names, check


def _may_mount(folder: pathlib.Path) -> bool:
    place = folder / "mounted"
    place.mkdir()
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", place], check=False, stderr=subprocess.DEVNULL
    )
    return tried.returncode == 0 and subprocess.run(["umount", place], check=False).returncode == 0


def _mounted(folder: pathlib.Path) -> pathlib.Path:
    """A disk of its own, of 64 MB."""
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder / "disk"], check=True)
    return folder / "disk"


def _same(
    base: Base, command: Sequence[str], workdir: pathlib.Path, mode: str, folder: pathlib.Path
) -> str:
    """Gives the same command again, with nothing in its way; what it then has otherwise than the base."""
    again = Running(command, folder).ended()
    if again.code:
        return f"the next run: {again.fault() or again.errors[0]}"
    try:
        differing = differences(
            digest(base.workdir("file"), PARTS[mode]), digest(workdir, PARTS[mode])
        )
    except RuntimeError as error:
        return f"the next run left what is not readable: {error}"
    return differing and f"the next run differs: {differing}"


def _begun(base: Base, mode: str, workdir: pathlib.Path, fresh: bool = False) -> list[str]:
    """A workdir as a mode begins with it, and the command."""
    if not fresh and mode not in ("all", "prepare"):
        shutil.copytree(base.workdir("file"), workdir)
        (workdir / "recommendations.parquet").unlink()
    return base.command("file", workdir, mode)


def _disk(base: Base, folder: pathlib.Path, mode: str, size: str) -> str:
    disk = _mounted(folder)
    command = _begun(base, mode, disk / "file")
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(b"\0" * max(0, free - 1024 * int(size)))
    wrong = Running(command, folder).ended().fault(codes=(2,))
    (disk / "filler").unlink()
    return wrong or _same(base, command, disk / "file", mode, folder)


def _limit(base: Base, folder: pathlib.Path, mode: str, size: str) -> str:
    command, most = _begun(base, mode, folder / "file"), 1024 * int(size)
    before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
    pipes = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }  # files would be held to the limit as well
    process = subprocess.Popen(
        [sys.executable, "-m", "grasp_jax.main", *command],
        cwd=ROOT,
        preexec_fn=before,
        text=True,
        **pipes,
    )
    out, err = process.communicate()
    return Outcome(process.returncode, out, err).fault(codes=(2,)) or _same(
        base, command, folder / "file", mode, folder
    )


def _readonly(base: Base, folder: pathlib.Path, mode: str, state: str) -> str:
    disk = _mounted(folder)
    if state == "finished":
        shutil.copytree(base.workdir("file"), disk / "file")
    command = base.command("file", disk / "file", mode)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    wrong = Running(command, folder).ended().fault(codes=(2,))
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    return wrong or _same(base, command, disk / "file", mode, folder)


def _home(base: Base, folder: pathlib.Path, state: str) -> str:
    home: str | None = {
        "none": None,
        "missing": "/nonexistent/home",
        "readonly": str(folder / "disk"),
    }[state]
    if state == "readonly":
        subprocess.run(["mount", "-o", "remount,ro", _mounted(folder)], check=True)
    command = [
        flag
        for flag in base.command("file", folder / "file", "all")
        if "compilation_cache" not in flag
    ]
    outcome = Running(command, folder, environment={"HOME": home}).ended()
    return outcome.fault(codes=()) or _same(base, command, folder / "file", "all", folder)


def _stdout(base: Base, folder: pathlib.Path, state: str) -> str:
    command = base.command("file", folder / "file", "all")
    if state == "head":
        running = Running(command, folder, stdout=subprocess.PIPE)
        running.process.stdout.readline()
        running.process.stdout.close()
    elif state == "full":
        with open("/dev/full", "wb") as full:
            running = Running(command, folder, stdout=full)
    else:
        running = Running(command, folder, before=lambda: os.close(1))
    return running.ended().fault(codes=(2, NO_READER)) or _same(
        base, command, folder / "file", "all", folder
    )


def _stderr(base: Base, folder: pathlib.Path, _: str) -> str:
    command = base.command("file", folder / "file", "all")
    outcome = Running(command, folder, before=lambda: os.close(2)).ended()
    return outcome.fault(codes=()) or _same(base, command, folder / "file", "all", folder)


def _stdin(base: Base, folder: pathlib.Path, _: str) -> str:
    command = base.command("file", folder / "file", "all")
    outcome = Running(command, folder, before=lambda: os.close(0)).ended()
    return outcome.fault(codes=()) or _same(base, command, folder / "file", "all", folder)


def _ascii(base: Base, folder: pathlib.Path, mode: str) -> str:
    """Names and titles that the terminal cannot spell; `bytes`: nor does Python know how the command line is spelt."""
    narrow = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    if mode == "bytes":
        narrow |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for each in ("all", "report") if mode == "report" else ("all",):
        command = base.command("text", folder / "crème", each)
        name = [] if each == "report" else ["--config.data.name=crème"]
        if (
            wrong := Running([*command, *name], folder, environment=narrow)
            .ended()
            .fault(codes=(2,) if mode == "bytes" else ())
        ):
            return wrong
    return ""


def _signal(base: Base, folder: pathlib.Path, name: str, moment: str) -> str:
    command, workdir = base.command("file", folder / "file", "all"), folder / "file"
    running = Running(command, folder)
    if moment == "training":
        _until(running, lambda: any(workdir.glob("checkpoints/*/last/[0-9]*")))
    else:
        time.sleep(float(moment))
    number = signal.Signals[f"SIG{name}"]
    running.process.send_signal(number)
    outcome = running.ended()
    at_once = (
        outcome.code == -number and not outcome.out and not outcome.err
    )  # before Python has begun: nothing was done or said
    wrong = "" if at_once else outcome.fault(codes=(130,) if name == "INT" else (75,))
    return wrong or _same(base, command, workdir, "all", folder)


def _until(running: Running, seen: Callable[[], bool]) -> None:
    while running.process.poll() is None and not seen():
        time.sleep(0.02)


def _two(base: Base, folder: pathlib.Path, mode: str) -> str:
    """A second process comes while the first one works."""

    def command(workdir: pathlib.Path, mode: str) -> list[str]:
        flags = [*base.command("file", workdir, mode), *LONG]
        return list({flag.split("=")[0]: flag for flag in flags}.values())

    first = Running(command(folder / "file", "all"), folder)
    _until(first, lambda: any((folder / "file").glob("checkpoints/*/last/[0-9]*")))
    second = Running(command(folder / "file", mode), folder).ended()
    if first.process.poll() is not None:
        return (
            "the first run ended before the second: it is too short for this case to mean anything"
        )
    ended = first.ended()
    alone = Running(command(folder / "alone" / "file", "all"), folder).ended()
    if wrong := ended.fault(codes=()) or alone.fault(codes=()) or second.fault(codes=(2,)):
        return wrong
    if second.code == 0 and mode == "all":
        return "the second process worked in the same workdir"
    parts = PARTS["all"]
    return differences(digest(folder / "alone" / "file", parts), digest(folder / "file", parts))


def _lock(base: Base, folder: pathlib.Path, _: str) -> str:
    """A process is killed while it works, and leaves its lock."""
    command = base.command("file", folder / "file", "all")
    running = Running(command, folder)
    _until(running, lambda: any((folder / "file").glob("checkpoints/*/last/[0-9]*")))
    running.process.kill()
    running.ended()
    return _same(base, command, folder / "file", "all", folder)


_KINDS: dict[str, Callable[..., str]] = {
    "disk": _disk,
    "limit": _limit,
    "readonly": _readonly,
    "home": _home,
    "stdout": _stdout,
    "stderr": _stderr,
    "stdin": _stdin,
    "ascii": _ascii,
    "signal": _signal,
    "two": _two,
    "lock": _lock,
}


if __name__ == "__main__":
    sys.exit(run_campaign("environment", make, 2, "survived"))
