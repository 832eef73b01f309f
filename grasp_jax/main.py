"""Trains, evaluates and uses sequential recommenders that read text: `grasp-jax`, or `python -m grasp_jax.main`.

A first run on a synthetic shop, then recommendations for all its users; later calls read the config from the workdir:

    grasp-jax --config=configs/quickstart.py --workdir=runs/quickstart
    grasp-jax --workdir=runs/quickstart --mode=recommend --out=recommendations.csv

A config for your own files, with comments:

    grasp-jax init FOLDER

A public data set, such as MovieLens or a category of Amazon, written into data/movielens-1m:

    grasp-jax fetch movielens-1m

Data of another project (recbole, rectools, unisrec, llm_esr), converted into the files that this program reads:

    grasp-jax convert recbole FOLDER NEW_FOLDER

The config of the quickstart with your own data, or with other methods; any field of the config (docs/config.md) is a flag:

    grasp-jax --config=configs/quickstart.py --workdir=runs/mine --config.data.path=FOLDER --config.data.items_file=items.csv
    grasp-jax --config=configs/quickstart.py --workdir=runs/two --config.model.method=sasrec_ce,grasp_plus

Without training: a page that compares finished runs, and the memory and time that a config needs:

    grasp-jax --mode=report --runs=runs/mine,runs/two --out=report
    grasp-jax --config=configs/industry.py --mode=plan

To serve a model by HTTP: grasp-serve --help. All modes: docs/command-line.md. Exit statuses and messages: docs/errors.md.
"""

# From the start, a signal, a closed output or an internal error ends in one line and its own exit status. The flags are in
# `grasp_jax.command`, which imports JAX; this file imports nothing slow, so that Ctrl-C works during those seconds too.

import pathlib
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from grasp_jax import __version__
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import print_messages
from grasp_jax.core.origin import blamed
from grasp_jax.core.outlets import NO_READER, open_outlets, reader_gone
from grasp_jax.core.preemption import INTERRUPTED, PREEMPTION
from grasp_jax.core.words import one_line

# exit statuses: bad input, a full disk or too little memory; another process of the run has ended (EX_UNAVAILABLE of sysexits.h); and a
# fault in code, ours or the user's (EX_SOFTWARE)
REFUSED, LOST, FAULT = 2, 69, 70


def run(main: Callable[[Sequence[str]], None] | None = None) -> None:
    """Entry point; `main` gets the arguments that are no flags, by default `command.main`."""
    PREEMPTION.listen()
    open_outlets()
    print_messages()
    sys.unraisablehook = _of_a_thread
    # the coroutines of that save
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    status = _ended(lambda: _start(main))
    # a full disk behind `> file` shows here at the latest
    status = status or _ended(sys.stdout.flush if sys.stdout else lambda: None)
    PREEMPTION.finish()
    sys.exit(status or (NO_READER if reader_gone() else 0))


def _of_a_thread(unraised: Any) -> None:
    """Hides what threads of a library report at the end: after a failed save, each of TensorStore's finds its event loop closed."""
    if "Event loop is closed" not in str(unraised.exc_value):
        sys.__unraisablehook__(unraised)


def _start(main: Callable[[Sequence[str]], None] | None) -> None:
    if "--version" in sys.argv[1:]:
        print(f"grasp-jax {__version__}")
        return
    if main is None and sys.argv[1:2] in (["init"], ["convert"], ["fetch"]):
        _prepare_data(sys.argv[1], sys.argv[2:])
        return
    sys.modules["__main__"].__doc__ = __doc__  # what --help begins with, also for `grasp-jax`
    from absl import app, flags, logging

    from grasp_jax import command

    flags.adopt_module_key_flags(command)  # --help lists them
    logging.set_verbosity(logging.WARNING)
    app.run(main or command.main, flags_parser=command.parse_flags)


def _prepare_data(name: str, arguments: Sequence[str]) -> None:
    """The commands that come before a run and have flags of their own."""
    from grasp_jax.setup import command, convert
    from grasp_jax.setup.fetch import command as fetch

    {"init": command, "convert": convert, "fetch": fetch}[name].main(arguments)


def _ended(work: Callable[[], Any]) -> int:
    """Does the work and returns the exit status; an error is printed in one line."""
    try:
        work()
    except SystemExit as done:
        return _status(done.code)
    except UserError as error:
        return print_error(str(error))
    except KeyboardInterrupt:  # from a library that has put Python's own handler back
        print(f"interrupted: {PREEMPTION.remedy}", file=sys.stderr)
        return INTERRUPTED
    except BaseException as error:
        if lost := alone(error):
            return print_error(lost, LOST)
        return print_error(refusal) if (refusal := explained(error)) else _unexpected(error)
    return 0


def _status(code: Any) -> int:
    """The exit status of absl's exit code; 0 after --help, where absl exits with 1."""
    if code is None:
        return 0
    help_requested = any(argument.lstrip("-").startswith("help") for argument in sys.argv[1:])
    if help_requested and code == 1:
        return 0
    return code if isinstance(code, int) else 1


def explained(error: BaseException) -> str:
    """A one-line message about an error that the user can fix; empty for a bug of this package."""
    from grasp_jax.core.failed_writes import memory_ran_out, write_failure

    if memory_ran_out(error):
        reason = one_line(error) or "no more memory"
        return f"memory ran out ({reason}); lower config.train.batch_size or config.eval.user_block; --mode=plan says what a config needs"
    return write_failure(error, _workdir())


def alone(error: BaseException) -> str:
    """A one-line message if an error means that another process of the run has ended; empty for any other error."""
    if type(error).__module__.partition(".")[0] in ("builtins", "grasp_jax"):
        return ""  # not of JAX, which may not be imported yet
    from grasp_jax.parallel.processes import lost_process

    if not lost_process(error):
        return ""
    return (
        f"another process of this run has ended, or cannot be reached ({one_line(error, 300)}); see its log for the cause, and run "
        "the same command again to continue from the last checkpoint"
    )


def _unexpected(error: BaseException) -> int:
    """Reports a bug, ours or the user's: the traceback goes into a file, so that it does not hide the line that matters."""
    return print_error(f"{blamed(error)}; the traceback is in {_log(error)}", FAULT)


def _log(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    folder = pathlib.Path(_workdir() or "nowhere")
    try:
        if folder.is_dir():
            (folder / "error.log").write_text(text, encoding="utf-8", errors="backslashreplace")
            return str(folder / "error.log")
    except OSError:
        pass  # read-only or full
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="grasp_jax-",
            suffix=".log",
            delete=False,
            encoding="utf-8",
            errors="replace",
        ) as file:
            file.write(text)
        return file.name
    except OSError:
        return "no file, because none could be written"


def _workdir() -> str | None:
    """The value of --workdir, once the flags are parsed."""
    from absl import flags

    return flags.FLAGS["workdir"].value if "workdir" in flags.FLAGS else None


def print_error(message: str, status: int = REFUSED) -> int:
    """Prints an error in one line, and returns the exit status."""
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    run()
