"""How a run ends: by signals, closed outputs and faults of the program. Processes that stop themselves are forks of this one."""

import io
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from grasp_jax import main
from grasp_jax.core import origin
from grasp_jax.core.errors import UserError
from grasp_jax.core.outlets import NO_READER, Outlet
from grasp_jax.core.preemption import INTERRUPTED, PREEMPTED
from tests.command_line import ROOT, one_line_error, run_afresh

LIGHT = "import os, signal, sys\nfrom grasp_jax.core.preemption import PREEMPTION\nPREEMPTION.listen()\n"


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return run_afresh([sys.executable, "-c", LIGHT + program])


SIGNALS = {
    "SIGTERM": (
        "os.kill(os.getpid(), signal.SIGTERM)",
        PREEMPTED,
        "preempted: run the same command again to continue\n",
    ),
    "Ctrl-C": (
        "os.kill(os.getpid(), signal.SIGINT)",
        INTERRUPTED,
        "interrupted: run the same command again to continue\n",
    ),
    "Ctrl-C while training": (
        "with PREEMPTION.saving():\n    os.kill(os.getpid(), signal.SIGINT)\n    assert PREEMPTION.requested\n"
        "    PREEMPTION.stop(' after 3 epochs, saved in x')",
        INTERRUPTED,
        "interrupted after 3 epochs, saved in x: run the same command again to continue\n",
    ),
    "at the end of training": (
        "with PREEMPTION.saving():\n    os.kill(os.getpid(), signal.SIGTERM)",
        PREEMPTED,
        "preempted: run the same command again to continue\n",
    ),
    "twice while training": (
        "with PREEMPTION.saving():\n    os.kill(os.getpid(), signal.SIGINT)\n    os.kill(os.getpid(), signal.SIGINT)",
        INTERRUPTED,
        "interrupted at once, without saving: run the same command again to continue\n",
    ),
    "output nobody reads": (
        "import io\nr, w = os.pipe()\nos.close(r)\nsys.stdout = open(w, 'w')\nprint('x')\nos.kill(os.getpid(), signal.SIGTERM)",
        PREEMPTED,
        "preempted: run the same command again to continue\n",
    ),
}


@pytest.mark.parametrize("how", SIGNALS)
def test_signals(how: str) -> None:
    """A run would end without a word, with a traceback, or with a status that launchers take for a failure."""
    program, status, said = SIGNALS[how]
    result = ended(program + "\nprint('goes on')")
    assert (result.returncode, result.stderr, result.stdout) == (status, said, "")


def test_a_stopped_run_releases_its_lock(tmp_path: pathlib.Path) -> None:
    """A preempted job that its scheduler starts again on another host would be refused there for ten minutes."""
    result = ended(
        "import pathlib\nfrom grasp_jax.core.locks import only_one\n"
        f"with only_one(pathlib.Path({str(tmp_path)!r}) / '.lock', 'wait'):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert result.returncode == PREEMPTED and not list(tmp_path.iterdir())


def test_a_plan_that_is_stopped_promises_no_continuation() -> None:
    """A plan keeps nothing, so the same command would start over where the line says that it goes on."""
    program = (
        "from grasp_jax import command, main\n"
        "command.plan = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"sys.argv = ['grasp-jax', '--mode=plan', '--config={ROOT}/configs/quickstart.py']\nmain.run()"
    )
    result = ended(program)
    assert result.returncode == PREEMPTED
    assert result.stderr == "preempted: nothing is kept, and the same command starts over\n"


def test_what_is_half_written_goes(tmp_path: pathlib.Path) -> None:
    """Ctrl-C while a file is written would leave a piece of it."""
    result = ended(
        "import pathlib\nfrom grasp_jax.core.files import replacing\n"
        f"with replacing(pathlib.Path({str(tmp_path)!r}) / 'r.csv') as partial:\n"
        "    partial.write_text('half')\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    assert result.returncode == INTERRUPTED and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, PREEMPTED), (signal.SIGINT, INTERRUPTED)]
)
def test_signals_before_jax_is_there(number: int, status: int, tmp_path: pathlib.Path) -> None:
    """In its first seconds, while JAX is imported, a run died of SIGTERM itself or with a traceback of imports."""
    flags = ("--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-X", "importtime", "-m", "grasp_jax.main", *flags]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pipesize=4096,  # where this test is slow to read, the process waits for it among its imports
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(" absl\n"):  # ours have come before it, JAX comes after it
            break
    process.send_signal(number)
    errors = process.communicate(timeout=600)[1]
    assert (
        process.returncode == status
        and "run the same command again to continue" in errors
        and "Traceback" not in errors
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_end_changes_nothing(name: str) -> None:
    """A run that has done its work would be told as killed, and a scheduler start it again."""
    program = (
        "import atexit, os, signal\nfrom grasp_jax import main\n"
        f"def late():\n    os.kill(os.getpid(), signal.{name})\n    print('ended', flush=True)\n"
        "main._start = lambda _: atexit.register(late)\nmain.run()\n"
    )
    done = run_afresh([sys.executable, "-c", program])
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_reader_that_goes_ends_nothing() -> None:
    """`| head -1` would kill hours of training with a traceback; the work is done and the status says that nobody read it."""
    program = (
        "from grasp_jax import main\ndef work(_):\n    for k in range(3000):\n        print('line', k)\n"
        "    open(2, 'w', closefd=False).write('done')\nmain._start = work\nmain.run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"done", NO_READER)


def test_an_ascii_terminal_gets_escapes() -> None:
    """A title in Chinese would end a run where LANG=C."""
    program = "from grasp_jax import main\nmain._start = lambda _: print('\\u6807\\u9898 \\xb1')\nmain.run()\n"
    result = run_afresh(
        [sys.executable, "-c", program], PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C"
    )
    assert (result.returncode, result.stdout) == (0, "\\u6807\\u9898 \\xb1\n")


def test_unbuffered_stays_unbuffered() -> None:
    """What a launcher or a log collector wants at once would come when the run has ended, or never."""
    program = "import os\nfrom grasp_jax import main\ndef work(_):\n    print('at once')\n    os._exit(0)\nmain._start = work\nmain.run()\n"
    assert run_afresh([sys.executable, "-c", program], PYTHONUNBUFFERED="1").stdout == "at once\n"


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


RESOURCES = type("JaxRuntimeError", (RuntimeError,), {})
ENDS: dict[str, tuple[BaseException, int, tuple[str, ...]]] = {
    "bad input": (UserError("file:\n3: wrong"), 2, ("error: file: 3: wrong",)),
    "full disk": (
        OSError(28, "No space left on device", "a/b"),
        2,
        ("the disk is full (a/b)", "run the same command again"),
    ),
    "read-only": (
        PermissionError(13, "Permission denied", "a/b"),
        2,
        ("error: a/b: Permission denied; expected a path",),
    ),
    "TensorStore's full disk": (
        ValueError("RESOURCE_EXHAUSTED: No space left"),
        2,
        ("the disk is full",),
    ),
    "memory": (
        MemoryError("Unable to allocate 422. GiB"),
        2,
        ("memory ran out (Unable to allocate 422. GiB)", "lower config.train"),
    ),
    "a GPU's memory": (
        RESOURCES("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
        2,
        ("memory ran out",),
    ),
    "Ctrl-C in a library": (KeyboardInterrupt(), INTERRUPTED, ("interrupted",)),
    "our fault": (
        KeyError("epoch"),
        70,
        (
            "error: unexpected KeyError: 'epoch'; this is a fault of grasp_jax",
            "the traceback is in",
        ),
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_ends(
    how: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would be a traceback; the user reads one line, and a fault of ours keeps its traceback in a file."""
    error, status, parts = ENDS[how]
    monkeypatch.setattr(main, "_workdir", lambda: str(tmp_path))
    monkeypatch.setattr(origin, "PACKAGE", pathlib.Path(__file__).parent)
    assert main._ended(failing(error)) == status
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and all(part in said for part in parts), said
    assert (tmp_path / "error.log").exists() == (status == 70)
    if status == 70:
        assert (
            f"in {tmp_path / 'error.log'}" in said
            and "Traceback" in (tmp_path / "error.log").read_text()
        )
        monkeypatch.setattr(main, "_workdir", lambda: None)
        assert main._ended(failing(error)) == 70
        log = pathlib.Path(capsys.readouterr().err.strip().rpartition(" ")[2])
        assert "KeyError" in log.read_text()
        log.unlink()


def test_a_fault_in_code_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in a method from outside the package was reported as a fault of the package."""
    assert main._ended(failing(ValueError("mine"))) == 70
    said = capsys.readouterr().err
    where = f"in {__file__}:{failing.__code__.co_firstlineno + 2}, your code; the traceback is in"
    assert where in said and "fault of grasp_jax" not in said
    pathlib.Path(said.strip().rpartition(" ")[2]).unlink()
    try:
        origin.own_line(None)  # type: ignore[arg-type]
    except AttributeError as error:
        assert not origin.own_line(error)
        assert "this is a fault of grasp_jax" in origin.blamed(error)


def test_own_code_that_calls_the_package_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder that gives a function of the package a wrong shape would be told of a fault of the package, without its own line."""

    def mine() -> None:
        origin.own_line(None)  # type: ignore[arg-type]

    assert main._ended(mine) == 70
    said = capsys.readouterr().err
    assert f"perhaps your code, in {__file__}:{mine.__code__.co_firstlineno + 1}, or else" in said
    pathlib.Path(said.strip().rpartition(" ")[2]).unlink()


def test_which_files_are_the_users_own(tmp_path: pathlib.Path) -> None:
    """Packages of `pip install --user`, of Debian or behind a link would be called the user's code."""
    for folder in ("mine", "site-packages", "dist-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").touch()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "site-packages").symlink_to(tmp_path / "mine")
    assert origin.is_own(str(tmp_path / "mine" / "a.py"))
    for folder in ("site-packages", "dist-packages", "link/site-packages"):
        assert not origin.is_own(str(tmp_path / folder / "a.py"))


def test_outlets_write_as_files_do() -> None:
    """Output would be lost while there is somebody to read it."""
    reader, writer = os.pipe()
    with io.TextIOWrapper(io.BufferedWriter(Outlet(writer, "w")), "utf-8") as stream:
        print("one", "ä", file=stream, flush=True)
        assert os.read(reader, 99) == "one ä\n".encode()
        os.close(reader)
        print("two", file=stream, flush=True)
        assert stream.buffer.raw.reader_gone  # type: ignore[attr-defined]


def test_help_is_no_failure_and_lists_the_flags(tmp_path: pathlib.Path) -> None:
    """A script that asks for help would see a failure; the flags live in another module than the program."""
    result = run_afresh([sys.executable, "-m", "grasp_jax.main", "--help"])
    assert (
        result.returncode == 0 and "--users" in result.stdout and "docs/errors.md" in result.stdout
    ), result.stderr


def test_several_faults_of_one_start(tmp_path: pathlib.Path) -> None:
    """Whether the light start hands on what the flags' own module raises."""
    line = one_line_error(
        run_afresh(
            [
                sys.executable,
                "-m",
                "grasp_jax.main",
                "--config=configs/quickstart.py",
                f"--workdir={tmp_path}/[a]",
            ]
        )
    )
    assert "--workdir: '[a]' of" in line and not list(tmp_path.iterdir())
