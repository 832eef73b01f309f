"""`--mode=prepare` with the search for neighbours on a Ray cluster; it uses the same exact search and makes the same bank.

    pip install -e '.[ray]'
    python launch/ray_neighbours.py --config=... --workdir=... [--address=ray://HEAD:10001] [--workers=8] [--gpus-per-worker=1]

Without an address Ray is started on this machine. The workdir, or `config.knowledge.path`, must be on storage that all machines reach: each
worker reads the bank's rows there and writes the neighbours of one block of rows at a time. This program or a worker may be killed at any
point: a worker is replaced, and the next run searches only the missing blocks. Texts are described and encoded by this program.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from grasp_jax import command as command_line
from grasp_jax import main as entry
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.bank import MANIFEST
from grasp_jax.knowledge.neighbours.search_blocks import SearchBlocks, SearchTable, write_labels
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.modes import Options, run_mode
from grasp_jax.parallel.ray_cluster import stop_if_failed
from grasp_jax.ray_command import define_flags, on_cluster, started_cluster, take_mode

define_flags(workers="Processes that search.")
ROWS = flags.DEFINE_integer("rows-per-task", 65_536, "Rows of a block.", lower_bound=1)
FLAGS = flags.FLAGS


class Searcher:
    """A worker that writes a block's file of neighbours: {"number" of the block} -> {"number", "error"}."""

    def __init__(self, table: SearchTable) -> None:
        self.table = table
        self._blocks: SearchBlocks | None = None

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        number = int(asked["number"])
        try:
            self._blocks = self._blocks or SearchBlocks(self.table)
            self._blocks.neighbours(number)
        except (UserError, OSError) as error:
            # returned as a value, because Ray does not keep an exception's class
            return {"number": number, "error": f"{self.table.path}: {error}"}
        return {"number": number, "error": ""}


def search_on_ray(
    unit: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object],
    folder: pathlib.Path,
) -> np.ndarray:
    """[rows, K] exact neighbours, as `grasp_jax.knowledge.neighbours.retrieve.Search`."""
    assert isinstance(unit, np.memmap), "the rows of an unfinished bank are in a file"
    unit.flush()  # so that other machines can read it
    write_labels(folder, labels)
    path = str(pathlib.Path(str(unit.filename)).resolve())
    table = SearchTable(path, unit.dtype.name, k, str(folder.resolve()), ROWS.value or 1)
    blocks = SearchBlocks(table)
    missing = blocks.missing()
    progress(len(unit) - sum(len(blocks.rows(number)) for number in missing))
    tasks = [{"number": number} for number in missing]
    for done in on_cluster(table, Searcher, tasks):
        stop_if_failed(done)
        progress(len(blocks.rows(int(done["number"]))))
    return np.concatenate([blocks.neighbours(number) for number in range(blocks.count)])


def main(arguments: Sequence[str]) -> None:
    """Makes the bank with neighbours from the cluster, if there is no bank yet."""
    take_mode("prepare", arguments)
    workdir, open_it = command_line.run_of_flags()
    run = open_it()
    config = run.knowledge
    if config.retrieval != "exact":
        raise UserError(
            f"config.knowledge.retrieval: {config.retrieval!r}; expected 'exact', as launch/ray_neighbours.py searches; use "
            "python -m grasp_jax.main --mode=prepare"
        )
    if column := config.group_column or config.user_group_column:
        raise UserError(
            f"config.knowledge.group_column: {column!r}; launch/ray_neighbours.py searches among all rows; use "
            "python -m grasp_jax.main --mode=prepare"
        )
    dry = bool(FLAGS["dry-run"].value)
    if run.needs_bank and not dry and not (run.bank_folder / MANIFEST).is_file():
        with started_cluster():
            prepare_bank(config, run.split, run.dataset.texts, run.bank_folder, search_on_ray)
    run_mode("prepare", lambda: run, workdir, Options(dry_run=dry))


if __name__ == "__main__":
    entry.run(main)
