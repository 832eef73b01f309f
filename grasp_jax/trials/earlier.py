"""What a run compares with the earlier runs that its config names, `train.start_from` and `knowledge.since`, before it trains."""

import pathlib

from grasp_jax.config import Config, names
from grasp_jax.core.files import read_sealed
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.moments import shown
from grasp_jax.knowledge.bank import MANIFEST
from grasp_jax.knowledge.earlier import check_earlier_named
from grasp_jax.models.methods import METHODS
from grasp_jax.training.start_from import CHECKPOINTS, check_start_from
from grasp_jax.workdir import DATA_FILE, newest, trial_name

LEAST_REPORTED = 0.05  # share of the interactions; the next day may well have a little less


def bank_folder(config: Config, workdir: pathlib.Path) -> pathlib.Path:
    """Where the knowledge bank of a run is, or will be."""
    return pathlib.Path(config.knowledge.path or workdir / "knowledge")


def check_named(config: Config, workdir: pathlib.Path, anew: bool = False) -> None:
    """Checks the folders of earlier runs, for a run that trains or makes a bank, before anything is written.

    A model that has begun to train needs no earlier run any more, and a finished bank no earlier bank.

    Args:
      config: of the run.
      workdir: its folder.
      anew: whether what is there will be set aside.

    Raises:
      UserError: a folder is not that of an earlier run, or holds nothing from which this run could continue.
    """
    methods = names(config.model.method)
    for method in methods:
        start_from = config.for_method(method).train.start_from
        if not start_from or not METHODS[method].trained:
            continue
        for backbone in names(config.model.backbone):
            trial = trial_name(method, backbone)
            snapshots = (workdir / CHECKPOINTS / trial).glob("*/[0-9]*")
            if anew or not any(snapshots):
                check_start_from(start_from, trial)
    if any(METHODS[method].needs_bank for method in methods):
        check_earlier_named(config.knowledge, bank_folder(config, workdir), anew)


def warnings_of_missing_interactions(config: Config, log: InteractionLog) -> list[str]:
    """Warnings that the log has lost interactions which the earlier runs had, as if a file was cut off; at most two for each earlier run.

    A window of recent days loses old interactions as well, so this is no error. But it does not lose the newest ones.

    Args:
      config: of the run.
      log: its interactions.

    Raises:
      UserError: the description of the data in an earlier workdir is damaged.
    """
    found = []
    started = [config.for_method(method).train.start_from for method in names(config.model.method)]
    for earlier in dict.fromkeys([*started, config.knowledge.since]):
        folder = pathlib.Path(earlier).expanduser()
        if (folder / MANIFEST).is_file():  # a bank, which lies in its workdir
            folder = folder.parent
        path = folder / DATA_FILE
        if earlier and path.is_file():
            before = read_sealed(path, "expected the workdir of an earlier run as written")
            found += _warnings_of_one(before, log, earlier)
    return found


def _warnings_of_one(before: dict[str, object], log: InteractionLog, earlier: str) -> list[str]:
    """As `warnings_of_missing_interactions`, from the description of the data of one earlier run."""
    found, now = [], newest(log)
    count = before.get("interactions", 0)
    if isinstance(count, int) and log.num_interactions < (1 - LEAST_REPORTED) * count:
        found.append(
            f"warning: {100 * (1 - log.num_interactions / count):.0f} % fewer interactions than {earlier} was made from "
            f"({count:,} then, {log.num_interactions:,} now): make sure that the file is complete"
        )
    then, unit = before.get("newest"), now.get("time_unit")
    if isinstance(then, int | float) and unit == before.get("time_unit") and then > now["newest"]:
        found.append(
            f"warning: the newest interaction is of {shown(now['newest'], log.time_unit)}, that of {earlier} is of "
            f"{shown(then, log.time_unit)}: make sure that the newest interactions are in the file"
        )
    return found
