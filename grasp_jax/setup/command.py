"""`grasp-jax init FOLDER [--out=FILE]`: looks at the files of a folder and writes a config for them."""

import pathlib
import shlex
from collections.abc import Sequence

from grasp_jax.config import TrainConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import write_text
from grasp_jax.core.flags import Once, command_parser, filled
from grasp_jax.core.paths import check_file
from grasp_jax.setup.look import look
from grasp_jax.setup.write import batch_size, config_text, data_name, python_call

USAGE = "grasp-jax init FOLDER [--out=FILE.py]"
ABOUT = """\
Looks at the tables in FOLDER (.csv, .tsv and .jsonl, also compressed as .gz or .zst, and .parquet), finds interactions, items, users and
their columns, and writes a commented config file: FILE.py, or NAME_config.py in the current folder, where NAME is the last part of FOLDER.
It prints what it found, what you should check, the command that trains with the config, and a line of Python that reads the same data.
A file that exists is never overwritten."""
EXAMPLES = """\
example:
  grasp-jax init ml-latest-small        # writes ml-latest-small_config.py; read it, then run the command that init prints"""


def main(arguments: Sequence[str]) -> None:
    """Runs the command.

    Args:
      arguments: those after `init`.

    Raises:
      UserError: they are not understood, the folder cannot be read, or the config file exists.
    """
    parser = command_parser(USAGE, ABOUT, EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", type=filled, help="folder of your tables")
    parser.add_argument(
        "--out", metavar="FILE.py", action=Once, help="the config file to be written"
    )
    given = parser.parse_args(arguments)
    write_config(pathlib.Path(given.folder).expanduser(), given.out)


def write_config(folder: pathlib.Path, out: str | None) -> pathlib.Path:
    """Writes a config for a folder, and prints what was found, what is undecided and what to run next.

    Args:
      folder: the data.
      out: the file; None: NAME_config.py in the current folder.

    Returns:
      The path of the file.

    Raises:
      UserError: as `look`; or the file exists, or is not one that ends in .py.
    """
    name = data_name(folder.resolve().name)
    path = check_file(out or f"{name}_config.py", "--out", (".py",))
    if path.exists():
        raise UserError(
            f"{path}: exists, and is not overwritten; move it away, or name another file with --out=FILE.py"
        )
    found = look(folder)
    write_text(path, config_text(found, name))
    for line in found.lines:
        print(f"found: {line}")
    for line in found.undecided:
        print("not decided: " + line.replace("\n", "\n  "))
    print(f"wrote {path}: read it, then run")
    print(f"  grasp-jax --config={shlex.quote(str(path))} --workdir={shlex.quote(f'runs/{name}')}")
    print("or read the same data in Python:")
    print(python_call(found, name))
    if (size := batch_size(found)) != TrainConfig().batch_size:
        print(f"and pass to gj.Recommender what the config sets for these data: batch_size={size}")
    return path
