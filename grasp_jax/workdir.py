"""The folder of a run: which config and data it belongs to, and which of its files are valid.

config.json     the config, sealed (`core.files.write_sealed`)
data.json       fingerprint and sizes of the data, the time of the newest interaction, and checksums of item_ids.npy, sealed
item_ids.npy    ids of the rows of the item tables
candidates/     evaluation negatives, each with a sealed description
checkpoints/    `training.checkpoint`: every snapshot with a manifest of its own
trials/         results of one method on one backbone, sealed, with the checksums of its ranks, examples and gates
results.json    all results, sealed
read.json       what was read and how, in lines, sealed; for the report
stored_log/     the log as it was read (`data.stored_log`), with what it was made from; no run makes it, so none sets it aside
metrics.jsonl   a line per model and epoch, each with a checksum
"""

import contextlib
import datetime
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from grasp_jax.config import CONFIG_FILE, Config, DataConfig, save_config
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    first_damaged,
    read_array,
    read_sealed,
    sha256,
    write_array,
    write_sealed,
)
from grasp_jax.core.locks import only_one
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.stored_log import AUTO, AUTO_FROM, LogStore, store_of
from grasp_jax.earlier_version import say_unverified, wrote_no_checksums
from grasp_jax.parallel.processes import is_main_process

DATA_FILE = "data.json"
ITEM_IDS = "item_ids.npy"
STORED_LOG = "stored_log"
EARLIER = "earlier"  # folder of what --mode=refresh has set aside
MADE = (  # files of a run, in the order in which they are set aside: results first, so that no results remain with another run's models
    "results.json",
    "read.json",
    "report",
    "recommendations.parquet",
    "recommendations.about.json",
    "recommendations.skipped.csv",
    "export",
    "representations",
    "refit",
    "trials",
    "cells",
    "ranks",
    "examples",
    "gates",
    "audit",
    "metrics.jsonl",
    "checkpoints",
    "inherited",
    "candidates",
    "knowledge",
    ITEM_IDS,
    DATA_FILE,
    CONFIG_FILE,
)


def claim(workdir: pathlib.Path, config: Config, log: InteractionLog) -> None:
    """Makes a workdir this config's and this data's own; what stands there already stays."""
    save_config(config, workdir)
    if not (workdir / DATA_FILE).exists():
        write_array(workdir / ITEM_IDS, log.item_ids.astype(str))
        facts = {
            "users": log.num_users,
            "items": log.num_items,
            "interactions": log.num_interactions,
        }
        made = {
            "made": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
            "fingerprint": log.fingerprint,
            **facts,
            **newest(log),
        }
        write_sealed(workdir / DATA_FILE, made | {"files": {ITEM_IDS: sha256(workdir / ITEM_IDS)}})


def newest(log: InteractionLog) -> dict[str, Any]:
    """The time of the newest interaction and its unit (`InteractionLog.time_unit`); nothing without times."""
    if log.timestamps is None or not len(log.timestamps):
        return {}
    return {"newest": log.timestamps.max().item(), "time_unit": log.time_unit}


def log_store(workdir: pathlib.Path, data: DataConfig, refresh: bool = False) -> LogStore | None:
    """Where the runs of a workdir store the log that they read; None where `config.data.store` is "off".

    In the workdir itself the first process writes, and only the log that the workdir is made from or, with `refresh`, will be.

    Raises:
      UserError: `config.data.store` cannot be a folder.
    """
    if data.store != AUTO:
        return store_of(data)

    def fits(log: InteractionLog) -> bool:
        return is_main_process() and (refresh or not data_change(workdir, log))

    return LogStore(workdir / STORED_LOG, AUTO_FROM, fits)


def data_change(workdir: pathlib.Path, log: InteractionLog) -> str:
    """How the data differ from those that a workdir was made from; empty where they do not, or where nothing was made yet.

    Raises:
      UserError: the workdir's description of its data is damaged.
    """
    if not (workdir / DATA_FILE).exists():
        return ""
    stored = read_sealed(
        workdir / DATA_FILE,
        f"remove {workdir / DATA_FILE}, the artefacts say themselves what they were made from",
    )
    if stored.get("fingerprint") == log.fingerprint:
        return ""
    sizes = ("users", "items", "interactions")
    before = ", ".join(f"{stored.get(name, 0):,} {name}" for name in sizes)
    now = ", ".join(f"{getattr(log, f'num_{name}'):,} {name}" for name in sizes)
    what = (
        f"{before} then, {now} now"
        if before != now
        else f"still {now}, but others, or in another order"
    )
    return f"{workdir}: the data has changed since {stored.get('made')} ({what})"


def set_aside(workdir: pathlib.Path) -> pathlib.Path:
    """Moves everything that runs have made from earlier data into a new folder within the workdir, and returns this folder. Nothing is
    lost.
    """
    aside = workdir / EARLIER / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    aside.mkdir(parents=True)
    for name in MADE:
        if (workdir / name).exists():
            (workdir / name).rename(aside / name)
    return aside


@contextlib.contextmanager
def working_alone(workdir: pathlib.Path) -> Iterator[None]:
    """Locks a workdir while a process writes into it; a folder in which nothing was written is removed again.

    Raises:
      UserError: another process works there.
    """
    if not is_main_process():
        yield
        return
    made = not workdir.exists()
    try:
        with only_one(workdir / LOCK, "wait for it or use another --workdir"):
            remove_leftovers(workdir)
            yield
    finally:
        if made:  # a call that was refused leaves nothing behind
            with contextlib.suppress(OSError):
                workdir.rmdir()


LOCK = ".lock"


def remove_leftovers(workdir: pathlib.Path) -> None:
    """Removes partly written files of killed processes; the caller must hold the lock of the workdir."""
    for path in workdir.rglob(".*.partial"):
        path.unlink(missing_ok=True)
    for path in (workdir / "checkpoints").glob(f"*/*/*{ORBAX_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


ORBAX_UNFINISHED = ".orbax-checkpoint-tmp"  # part of the name of a snapshot that is being written


def read_item_ids(workdir: pathlib.Path, remedy: str) -> np.ndarray:
    """[V] str ids of a workdir's items, in row order.

    Raises:
      UserError: they are missing or damaged.
    """
    if not (workdir / DATA_FILE).exists() and wrote_no_checksums(workdir):
        say_unverified(workdir / ITEM_IDS)
        return read_array(workdir / ITEM_IDS, remedy)
    described = read_sealed(workdir / DATA_FILE, remedy)
    if damage := first_damaged(workdir, _checksums(described)):
        raise UserError(f"{damage}; {remedy}")
    return read_array(workdir / ITEM_IDS, remedy)


def trial_name(method: str, backbone: str) -> str:
    """METHOD-BACKBONE, the name of a trial's files and folders."""
    return f"{method}-{backbone}"


def parse_trial_name(name: str) -> tuple[str, str]:
    """Method and backbone of a `trial_name`; their names have no hyphens."""
    method, _, backbone = name.rpartition("-")
    return method, backbone


def trial_file(workdir: pathlib.Path, method: str, backbone: str) -> pathlib.Path:
    """Where the results of a trial are; versions before 0.2 called their folder "cells"."""
    new, old = (
        workdir / folder / f"{trial_name(method, backbone)}.json"
        for folder in (TRIALS, EARLIER_TRIALS)
    )
    return old if old.exists() and not new.exists() else new


def trial_files(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The results of all trials of a workdir."""
    found = {
        path.name: path
        for folder in (EARLIER_TRIALS, TRIALS)
        for path in (workdir / folder).glob("*.json")
    }
    return [found[name] for name in sorted(found)]


def read_trial_file(path: pathlib.Path) -> dict[str, Any]:
    """Results of a trial: "rows", "made_from", "epochs" (checksum of its records) and "files" with their checksums.

    Raises:
      UserError: the file is damaged, or an earlier version wrote it.
    """
    remedy = "run --mode=evaluate to measure it again"
    stored = read_sealed(path, remedy)
    if missing := [name for name in ("rows", "made_from", "epochs", "files") if name not in stored]:
        raise UserError(f"{path}: has no {missing[0]!r}; {remedy}")
    return stored


TRIALS, EARLIER_TRIALS = "trials", "cells"


def _checksums(description: dict[str, Any]) -> dict[str, str]:
    files = description.get("files")
    return (
        {str(name): str(checksum) for name, checksum in files.items()}
        if isinstance(files, dict)
        else {}
    )
