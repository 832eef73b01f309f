"""Checks a finished run before a report: whether every file in its folder is as it was written."""

import pathlib

from grasp_jax.config import CONFIG_FILE
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import first_damaged, read_sealed
from grasp_jax.training.checkpoint import find_model
from grasp_jax.training.records import Records
from grasp_jax.workdir import (
    DATA_FILE,
    parse_trial_name,
    read_item_ids,
    read_trial_file,
    trial_files,
)

READ_FILE = "read.json"  # what was read, in lines; versions before 0.3 did not write it


def check_finished(workdir: pathlib.Path, allow_older: bool = False) -> None:
    """Checks every file of a finished run, because a report must show what was measured.

    Args:
      workdir: of the run; files that do not exist, as in a workdir that was tidied up, are skipped.
      allow_older: be content with models whose newest snapshot is damaged.

    Raises:
      UserError: names the first file that is not as it was written.
    """
    for name in (CONFIG_FILE, "results.json", *_of_later_versions(workdir)):
        read_sealed(workdir / name, "run --mode=evaluate with this workdir again", required=False)
    if (workdir / DATA_FILE).exists():
        read_item_ids(workdir, "run --mode=train with this workdir again")
    records = Records(workdir / "metrics.jsonl")
    for path in trial_files(workdir):
        again = "run --mode=evaluate with this workdir again"
        stored, (method, backbone) = read_trial_file(path), parse_trial_name(path.stem)
        if damage := first_damaged(workdir, stored["files"]):
            raise UserError(f"{damage}; {again}")
        if stored["epochs"] != records.checksum({"method": method, "backbone": backbone}):
            raise UserError(
                f"{records.path}: the epochs of {path.stem} are not those of its results; {again}"
            )
    for folder in sorted((workdir / "checkpoints").glob("*")):
        find_model(folder, allow_older)
    for path in sorted((workdir / "candidates").glob("*.json")):
        if damage := first_damaged(
            path.parent, read_sealed(path, "run --mode=evaluate with this workdir again")["files"]
        ):
            raise UserError(
                f"{damage}; run --mode=evaluate with this workdir again, they are drawn from the same seed"
            )


def _of_later_versions(workdir: pathlib.Path) -> list[str]:
    return [READ_FILE] if (workdir / READ_FILE).exists() else []
