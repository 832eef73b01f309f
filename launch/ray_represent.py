"""`model.represent` on a Ray cluster; the workers write the same files.

    pip install -e '.[ray]'
    python launch/ray_represent.py MODEL FOLDER [--data=DATA] [--address=ray://HEAD:10001] [--workers=8] [--gpus-per-worker=1]

MODEL is the workdir of a run, or a saved model with --data. Without an address Ray is started on this machine. MODEL, DATA and FOLDER must
be on storage that all machines reach. Each worker opens the model and the data, and writes whole shards. This program or a worker may be
killed at any point: the next run writes only the missing shards. A new folder gets one shard for every 100,000 users.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import grasp_jax as gj
from grasp_jax.core.outlets import open_outlets
from grasp_jax.core.paths import check_folder
from grasp_jax.main import REFUSED
from grasp_jax.parallel.ray_cluster import on_ray, started_ray, stop_if_failed
from grasp_jax.serving.represent import Representations, Shards, represent, shards_of, write_shard


class Task(NamedTuple):
    """The input of all workers.

    Attributes:
      model, folder: absolute paths.
      data: of a saved model; "" for a workdir.
    """

    model: str
    folder: str
    data: str

    def source(self) -> Representations:
        """Users, items and the model, the same in every process."""
        dataset = gj.Dataset.read(self.data) if self.data else None
        return gj.Recommender.load(self.model, dataset).representing()


class Writer:
    """A worker that writes a shard: {"number" of the shard} -> {"counts": [3], "error"}."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._opened: tuple[Representations, Shards] | None = None

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._opened is None:
                source = self.task.source()
                self._opened = source, shards_of(source, pathlib.Path(self.task.folder))
            source, shards = self._opened
            number = int(asked["number"])
            counts = write_shard(source, shards.rows[number], shards.paths[number])
            return {"counts": counts, "error": ""}
        except gj.UserError as error:
            # returned as a value, because Ray does not keep an exception's class
            return {"counts": np.zeros(3, np.int64), "error": str(error)}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(prog="launch/ray_represent.py")
    made.add_argument("model", help="the workdir of a run, or a saved model")
    made.add_argument("folder", help="new, empty, or of earlier representations")
    made.add_argument("--data", default="", help="folder of interactions, for a saved model")
    made.add_argument("--address", default="", help="of a Ray cluster; empty: Ray is started here")
    made.add_argument("--workers", type=int, default=2, help="processes that compute and write")
    made.add_argument("--gpus-per-worker", type=float, default=0.0, help="GPUs of each")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the shards of FOLDER that are missing or out of date."""
    given = parser().parse_args(arguments)
    if given.workers < 1:
        raise gj.UserError(f"--workers: {given.workers}; expected a whole number from 1")
    folder = check_folder(given.folder, "represent").resolve()
    model, data = pathlib.Path(given.model).resolve(), given.data
    task = Task(str(model), str(folder), str(pathlib.Path(data).resolve()) if data else "")
    source = task.source()

    def on_cluster(shards: Shards) -> Iterator[np.ndarray]:
        for path in shards.paths[:1]:  # so that every worker finds the same number of shards
            path.parent.mkdir(parents=True, exist_ok=True)
        tasks = [{"number": number} for number in range(len(shards.paths))]
        for done in on_ray(task, given.workers, given.gpus_per_worker, Writer, tasks):
            stop_if_failed(done)
            yield np.asarray(done["counts"])

    with started_ray(given.address, given.workers):
        done = represent(source, folder, on_cluster)
    print(
        f"{folder}: {done.computed:,} users computed, {done.kept:,} kept; {len(source.item_ids):,} items"
    )


if __name__ == "__main__":
    open_outlets()
    try:
        main()
    except gj.UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(REFUSED)
