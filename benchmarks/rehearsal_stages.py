"""Stages of `benchmarks.rehearsal` that are not modes of the command line; the flags are those of `grasp_jax.main`.

python -m benchmarks.rehearsal_stages --stage=read|encode|fingerprint --config=configs/industry.py:rehearsal --workdir=...
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence

import pyarrow.parquet
from absl import flags

from grasp_jax import command as command_line
from grasp_jax import main as entry
from grasp_jax.core.files import read_sealed, write_text
from grasp_jax.knowledge.bank import MANIFEST
from grasp_jax.knowledge.prepare import encode_bank
from grasp_jax.training.checkpoint import find_model
from grasp_jax.trials.run import Run
from grasp_jax.trials.trial import checkpoint_folder
from grasp_jax.workdir import DATA_FILE

STAGES = ("read", "encode", "fingerprint")
ANSWERS = "recommendations.parquet"

STAGE = flags.DEFINE_enum("stage", None, STAGES, "What to do.", required=True)
flags.DEFINE_string("to", "", "File for what `read` and `fingerprint` find.")


def read(run: Run) -> dict[str, object]:
    """The sizes and the fingerprint of the data after reading and splitting."""
    log, split = run.split.log, run.split
    return {
        "users": log.num_users,
        "items": log.num_items,
        "interactions": log.num_interactions,
        "training": int(split.train.lengths.sum()),
        "fingerprint": run.fingerprint,
    }


def fingerprint(workdir: pathlib.Path, run_of: Sequence[tuple[str, str]]) -> dict[str, str]:
    """SHA-256 of each stage's result (data, bank, models and answers) and of all of them together."""
    bank = read_sealed(workdir / "knowledge" / MANIFEST, "prepare it again")
    found = {"data": str(read_sealed(workdir / DATA_FILE, "")["fingerprint"])}
    found["bank"] = _of(json.dumps(bank["checksums"], sort_keys=True).encode())
    for method, backbone in run_of:
        model = find_model(checkpoint_folder(workdir, method, backbone))
        assert model is not None
        found[f"{method}-{backbone}"] = str(model.manifest["model"])
    answers = hashlib.sha256()
    for batch in pyarrow.parquet.ParquetFile(workdir / ANSWERS).iter_batches():
        answers.update(batch.serialize())
    found["answers"] = answers.hexdigest()
    return found | {"all": _of(json.dumps(found, sort_keys=True).encode())}


def _of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Runs the stage."""
    command_line.refuse_left_over(arguments)
    workdir, open_it = command_line.run_of_flags()
    run, found = open_it(), dict[str, object]()
    if STAGE.value == "encode":
        encode_bank(run.knowledge, run.split, run.dataset.texts, run.bank_folder)
    elif STAGE.value == "read":
        found = read(run)
    else:
        found |= fingerprint(workdir, run.trials)
    if flags.FLAGS.to:
        write_text(pathlib.Path(flags.FLAGS.to), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    entry.run(main)
