"""`--mode=recommend` on a Ray cluster; it writes the same file.

    pip install -e '.[ray]'
    python launch/ray_recommend.py --workdir=... [--out=FILE] [--address=ray://HEAD:10001] [--workers=8] [--gpus-per-worker=1]

The flags of `--mode=recommend` are taken too. Without an address Ray is started on this machine. The workdir, the data and the folder of
the output must be on storage that all machines reach by the same paths. Each worker opens the model, and stores the recommendations of one
part of the users at a time next to the output. This program or a worker may be killed at any point: a worker is replaced, and the next run
computes only the missing parts.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from grasp_jax import command as command_line
from grasp_jax import main as entry
from grasp_jax.config import Config
from grasp_jax.core import compiled
from grasp_jax.core.errors import UserError
from grasp_jax.core.progress import progress_bar
from grasp_jax.evaluation.audience import Audience, PeopleBlocks, Wanted, best_of_blocks, blocks_of
from grasp_jax.fitting import serving_model
from grasp_jax.modes import Options, run_mode
from grasp_jax.parallel.ray_cluster import stop_if_failed
from grasp_jax.ray_command import define_flags, on_cluster, started_cluster, take_mode
from grasp_jax.serving.interrupted import PART, Parts, fingerprint_of, store_part
from grasp_jax.serving.users import read_users
from grasp_jax.trials.chosen import audience_of, choose, wanted_of
from grasp_jax.trials.run import open_run, prepare

define_flags(workers="Processes that recommend.")
USERS = flags.DEFINE_integer("users-per-task", PART, "Users of a part, about.", lower_bound=1)
FLAGS = flags.FLAGS


class Task(NamedTuple):
    """The input of all workers; only plain values.

    Attributes:
      cwd: folder from which relative paths in the config start.
      config: the config of the run.
      workdir: of the run.
      allow_older: whether a damaged newest model is replaced by the one before it.
      users: file of user ids; None: everyone.
      folder: of the parts.
      made_from: fingerprint of users, model and settings (`interrupted.fingerprint_of`).
    """

    cwd: str
    config: dict[str, Any]
    workdir: str
    allow_older: bool
    users: str | None
    folder: str
    made_from: str


class Opened(NamedTuple):
    """What a worker needs for every part."""

    audience: Audience
    blocks: PeopleBlocks
    wanted: Wanted


def opened(task: Task) -> Opened:
    """The model and the users of a run.

    Raises:
      UserError: they are not on this machine, or are not those of the main program.
    """
    try:
        os.chdir(task.cwd)
    except OSError as error:
        raise UserError(
            f"{task.cwd}: not there on a worker ({error.strerror}); expected a folder that all machines reach by the same path"
        ) from error
    config = Config().with_stored_fields(task.config)
    compiled.keep(config.compilation_cache)
    run = open_run(config, pathlib.Path(task.workdir), allow_older=task.allow_older)
    users, wanted = read_users(task.users, run.split.log).rows, wanted_of(run)
    chosen = serving_model(choose(prepare(run)))
    if fingerprint_of(chosen.made_from, users, wanted) != task.made_from:
        raise UserError(
            f"{task.workdir}: a worker found another model or other users there; expected the same files on all machines"
        )
    audience = audience_of(chosen)
    return Opened(audience, blocks_of(audience, users, wanted), wanted)


class Answerer:
    """A worker that stores a part: {"number", "first", "last"} -> {"number", "file", "sha256", "blocks", "error"}."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._opened: Opened | None = None

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        number = int(asked["number"])
        steps = range(int(asked["first"]), int(asked["last"]))
        try:
            self._opened = self._opened or opened(self.task)
            audience, blocks, wanted = self._opened
            lists = list(best_of_blocks(audience, blocks, wanted, steps))
            part = store_part(pathlib.Path(self.task.folder), number, lists)
        except (UserError, OSError) as error:
            # returned as a value, because Ray does not keep an exception's class
            nothing = {"file": "", "sha256": "", "blocks": 0}
            return {"number": number, **nothing, "error": f"{error}"}
        return {"number": number, **part, "error": ""}


def main(arguments: Sequence[str]) -> None:
    """Writes the recommendations of the model that validation prefers."""
    take_mode("recommend", arguments)
    workdir, open_it = command_line.run_of_flags()
    config = command_line.checked_config()
    allow_older = bool(FLAGS["allow-older"].value)

    def spread(parts: Parts, num_blocks: int) -> None:
        folder = str(parts.folder.resolve())
        of_run = (os.getcwd(), config.to_dict(), str(workdir), allow_older, FLAGS.users)
        task = Task(*of_run, folder, parts.made_from)
        size = max(1, (USERS.value or PART) // config.eval.user_block)
        tasks = [
            {"number": number, "first": blocks.start, "last": blocks.stop}
            for number, blocks in parts.missing(num_blocks, size)
        ]
        if not tasks:
            return
        parts.begin()
        with (
            started_cluster(),
            progress_bar(len(tasks), "recommend", "part") as bar,
        ):
            for done in on_cluster(task, Answerer, tasks):
                stop_if_failed(done)
                named = {"file": str(done["file"]), "sha256": str(done["sha256"])}
                parts.add_stored(int(done["number"]), named | {"blocks": int(done["blocks"])})
                bar.update(1)

    options = Options(allow_older=allow_older, users=FLAGS.users, out=FLAGS.out, spread=spread)
    run_mode("recommend", open_it, workdir, options)


if __name__ == "__main__":
    entry.run(main)
