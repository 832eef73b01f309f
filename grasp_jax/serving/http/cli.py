"""`grasp-serve MODEL_OR_WORKDIR --port=N`: recommendations by HTTP. docs/serving.md describes the requests."""

import argparse
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Sequence

from grasp_jax import __version__
from grasp_jax.core.errors import UserError
from grasp_jax.core.flags import Parser
from grasp_jax.core.origin import blamed
from grasp_jax.core.outlets import open_outlets
from grasp_jax.main import FAULT, explained, print_error
from grasp_jax.serving.http.approximate import check_approximate
from grasp_jax.serving.http.settings import (
    TOKEN,
    Limits,
    Settings,
    check_reach,
    read_token,
)

PORT = 8000
RECALL = 0.95
EXAMPLES = """\
examples:
  grasp-serve model/ --port=8000               a folder of model.save(), for programs on this machine
  grasp-serve runs/quickstart                  the workdir of a finished run
  grasp-serve model/ --data=FOLDER             requests may name users of FOLDER by their ids
  grasp-serve model/ --import=FILE.py          FILE.py registers the method of the model, which is your own
  GRASP_SERVE_TOKEN=... grasp-serve model/ --host=0.0.0.0    for other machines, with a token

http://localhost:8000/ is a page to try the model. docs/serving.md has all requests.
"""
LIMIT_FLAGS = {  # fields of `Limits` and their help, in the order of --help
    "k": "largest number of items in an answer",
    "people": "largest number of users or histories in a request",
    "history": "largest number of items in a history",
    "body_bytes": "largest size of the body of a request, in bytes",
    "body_seconds": "time limit for the head of a request, and then for its body, in seconds",
    "queue": "largest number of people who wait for an answer, and of requests in progress",
    "searches": "largest number of searches of titles that run or wait",
    "seconds": "time limit for an answer, in seconds; after that the answer is status 503",
}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    defaults = Limits()
    parser = Parser(
        prog="grasp-serve",
        description="Serves the recommendations of a trained model by HTTP.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"grasp-serve {__version__}")
    parser.add_argument("model", help="folder of a saved model, or the workdir of a finished run")
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        help="8000 by default; 0: any free port; the log names it",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; by default 127.0.0.1, for this machine only",
    )
    parser.add_argument(
        "--compare", help="folder of a second model; the page shows the recommendations of both"
    )
    parser.add_argument(
        "--data", help="folder of interactions, so that requests to a saved model may name users"
    )
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="own",
        metavar="MODULE",
        help="a Python module, or a FILE.py, that registers your own methods and backbones; may be given several times",
    )
    parser.add_argument("--models", help="folder with the models that POST /reload may load")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help=f"listen for other machines without a token in {TOKEN}",
    )
    parser.add_argument(
        "--batch-sizes",
        help="numbers of people in a batch; a program is compiled for each (1,8,64; with more than 65,536 items 1,8,16,32,64)",
    )
    parser.add_argument(
        "--lengths",
        default="16,64",
        help="compiled lengths of histories, in addition to the model's own (16,64)",
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="search with ScaNN, for catalogues of hundreds of thousands of items",
    )
    parser.add_argument(
        "--recall",
        type=float,
        default=RECALL,
        help=f"share of the ten best items that approximate search must find ({RECALL})",
    )
    parser.add_argument("--quiet", action="store_true", help="no log line for each request")
    for name, about in LIMIT_FLAGS.items():
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"{about} ({default})")
    return parser


def settings_of(flags: argparse.Namespace) -> Settings:
    """The settings from the flags and the environment.

    Raises:
      UserError: the value of a flag is not allowed.
    """
    token = read_token()
    check_reach(flags.host, token, flags.insecure)
    if not 0 <= flags.port < 65536:
        raise UserError(f"--port: {flags.port}; expected a whole number from 0 to 65535")
    models = None if flags.models is None else pathlib.Path(flags.models).expanduser()
    if models is not None and not models.is_dir():
        raise UserError(
            f"--models: {flags.models!r} is no folder; expected the folder that holds the models; create it, or name another"
        )
    if flags.data is not None and not pathlib.Path(flags.data).expanduser().exists():
        raise UserError(
            f"--data: {flags.data!r} does not exist; expected a folder or a file of interactions"
        )
    if not 0 < flags.recall <= 1:
        raise UserError(
            f"--recall: {flags.recall:g}; expected a share above 0 and up to 1, such as {RECALL}"
        )
    if flags.approximate:
        check_approximate()
    limits = dataclasses.replace(Limits(), **{name: getattr(flags, name) for name in LIMIT_FLAGS})
    return Settings(
        limits=limits,
        batch_sizes=None
        if flags.batch_sizes is None
        else _numbers(flags.batch_sizes, "--batch-sizes"),
        lengths=_numbers(flags.lengths, "--lengths"),
        token=token,
        models=models,
        log_requests=not flags.quiet,
        recall=flags.recall if flags.approximate else None,
    )


def _numbers(text: str, flag: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(re.fullmatch("[0-9]{1,4}", part) and 0 < int(part) <= 4096 for part in parts):
        raise UserError(
            f"{flag}: {text[:100]!r}; expected whole numbers from 1 to 4096, such as 1,8,64"
        )
    return tuple(sorted(set(map(int, parts))))


def run(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 after SIGTERM or Ctrl-C, 2 for bad input, 70 for an error in this package or in the user's code."""
    open_outlets()
    sys.exit(_status(sys.argv[1:] if arguments is None else arguments))


def _status(arguments: Sequence[str]) -> int:
    try:
        flags = parser().parse_args(arguments)
        settings = settings_of(flags)
        try:
            from grasp_jax.config_file import import_own
            from grasp_jax.serving.http.server import serve
        except ModuleNotFoundError as error:
            raise UserError(
                f"grasp-serve: the Python package {error.name} is missing; pip install 'grasp-jax[serve]'"
            ) from error
        for named in flags.own:
            import_own(named)
        model = pathlib.Path(flags.model).expanduser()
        data = None if flags.data is None else os.path.expanduser(flags.data)
        compare = None if flags.compare is None else pathlib.Path(flags.compare).expanduser()
        return serve(model, data, settings, (flags.host, flags.port), compare)
    except UserError as error:
        return print_error(str(error))
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        if refusal := explained(error):
            return print_error(refusal)
        return print_error(blamed(error), FAULT)


if __name__ == "__main__":
    run()
