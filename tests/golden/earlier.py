"""What this version makes of a workdir that commit 28f9221 left, which wrote neither checksums nor manifests.

    python -m tests.golden.earlier FOLDER OUT.json

28f9221.tar.xz holds the workdir "run", of which only the newest snapshots are kept but for plain-gru4rec, and what that commit recommended,
"recommended.json". FOLDER is where it was unpacked. Runs are forks of this process, as in `measure`.
"""

import json
import os
import pathlib
import shutil
import sys
from typing import Any

from tests.command_line import CACHE
from tests.golden import measure

ARCHIVE = pathlib.Path(__file__).parent / "28f9221.tar.xz"
CELLS = (("plain", "sasrec"), ("grasp", "sasrec"), ("grasp_plus", "sasrec"), ("plain", "gru4rec"))
FIELDS = {
    "data.synthetic.num_users": 40,
    "data.synthetic.num_items": 100,
    "data.max_length": 20,
    "knowledge.width": 8,
    "knowledge.num_neighbours": 3,
    "model.features": 8,
    "model.mlp": (8,),
    "model.num_layers": 1,
    "model.plus.fusion": "early",  # this and the next three: as they were then
    "model.plus.id_start": "random",
    "model.plus.match_weight": 5.0,
    "model.plus.match_decay": 0.6,
    "train.batch_size": 16,
    "train.learning_rate": (1e-3,),  # as configs/quickstart.py had it
    "train.max_epochs": 3,
    "train.shared_negatives": 20,
    "eval.num_negatives": 20,
    "recommend.top_n": 5,
}


def served_and_resumed(folder: pathlib.Path) -> dict[str, Any]:
    """Recommendations of each cell, results of --mode=evaluate, and a training that goes on from its first epoch.

    Returns:
      "recommended" by cell, "results", "resumed" with the epochs and ranks of plain-gru4rec, and "said" by call.
    """
    run, killed = folder / "run", folder / "killed"
    shutil.copytree(run, killed)
    recommended, said = {}, {}
    for method, backbone in CELLS:
        out = folder / f"{method}-{backbone}.parquet"
        said[f"recommend {method}-{backbone}"] = _call(
            run, method, backbone, "recommend", f"--out={out}"
        )
        recommended[f"{method}-{backbone}"] = measure.columns_of(out)
    said["evaluate"] = _call(run, "plain,grasp_plus", "sasrec", "evaluate")

    # As if it had been killed after the first of its three epochs.
    for place in ("best", "last"):
        shutil.rmtree(killed / "checkpoints" / "plain-gru4rec" / place / "9")
    for name in ("cells", "ranks", "results.json"):
        shutil.rmtree(killed / name) if (killed / name).is_dir() else (killed / name).unlink()
    said["all"] = _call(killed, "plain", "gru4rec", "all")
    said["all again"] = _call(killed, "plain", "gru4rec", "all")
    resumed = {
        "training": measure.training_of(killed, "plain", "gru4rec"),
        "ranks": measure.ranks_of(killed, "plain-gru4rec-"),
    }
    return {
        "recommended": recommended,
        "results": measure.results_of(run),
        "resumed": resumed,
        "said": said,
    }


def _call(workdir: pathlib.Path, method: str, backbone: str, mode: str, *more: str) -> str:
    cache = os.environ.get(CACHE, str(workdir.parent / "compiled"))
    return measure.run_program(
        [
            *measure.flags_of(workdir, FIELDS | {"compilation_cache": cache}),
            f"--config.model.method={method}",
            f"--config.model.backbone={backbone}",
            f"--mode={mode}",
            *more,
        ]
    )


def main() -> None:
    measure.prepare_process()
    folder, out = (pathlib.Path(argument) for argument in sys.argv[1:])
    out.write_text(json.dumps(served_and_resumed(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
