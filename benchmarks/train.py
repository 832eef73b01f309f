"""Times training of ID-only SASRec until its early stop, ours and rivals': python -m benchmarks.train [--rivals=rectools,torch] [--quick]

The split and the stored negatives of the paper's Beauty are made once. Each implementation trains on them in a separate process, one after
another, on the same cores and with the settings of configs/beauty.py. It validates after every epoch among the same candidates, and stops
with the same patience. `make rival-NAME` installs a rival into .rivals/NAME; --rival-epochs=N limits the epochs of the rivals. An
implementation reports the rank of each test target, so that the same formula applies to all.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.apart import ROOT
from benchmarks.arguments import parser_of
from benchmarks.lengths import log_to_time
from benchmarks.own_training import INTERACTIONS, data_of, paper_settings, prepared_run
from benchmarks.record import Contention, keep, run, table
from benchmarks.rivals.protocol import Data, Report, Settings, read_report, write
from benchmarks.workload import QUICK
from grasp_jax.data.log import InteractionLog
from grasp_jax.errors import UserError
from grasp_jax.evaluation.metrics import metrics
from grasp_jax.machine import machine

ENVIRONMENTS = ROOT / ".rivals"


class Rival(NamedTuple):
    """A rival's name in tables, and its module."""

    title: str
    module: str


OURS = Rival("grasp_jax", "benchmarks.own_training")
RIVALS = {
    "rectools": Rival("RecTools SASRecModel", "benchmarks.rivals.rectools"),
    "recbole": Rival("RecBole SASRec (BPR)", "benchmarks.rivals.recbole"),
    "torch": Rival("plain PyTorch", "benchmarks.rivals.torch_sasrec"),
}


def settings_to_time(quick: bool) -> Settings:
    """The settings of configs/beauty.py, for the cores that this process may use; small ones if `quick`."""
    settings = paper_settings(machine()["cores"])
    if not quick:
        return settings
    return settings._replace(
        features=QUICK.features,
        max_length=QUICK.max_length,
        batch_size=QUICK.batch_size,
        num_layers=1,
        dropout=0.1,
        learning_rate=1e-2,
        patience=2,
        max_epochs=4,
    )


def write_interactions(folder: pathlib.Path, log: InteractionLog) -> None:
    """Writes lines `user item` in the order of time, with ids from 1."""
    np.savetxt(folder / INTERACTIONS, np.stack([log.users, log.items], axis=1) + 1, fmt="%d")


def train(python: str, module: str, folder: pathlib.Path, epochs: int) -> Report | None:
    """The report of one implementation about its training in a separate process; None if it failed (it prints the reason)."""
    out = folder / f"{module}.json"
    command = [
        python,
        "-m",
        module,
        str(folder),
        str(out),
        *([f"--epochs={epochs}"] if epochs else []),
    ]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    return read_report(out) if status == 0 else None


def check(title: str, report: Report, data: Data) -> None:
    """Raises UserError for ranks that are not those of the test targets."""
    expected, negatives = len(data.test.users), data.test.candidates.shape[1] - 1
    ranks = np.asarray(report.ranks)
    if len(ranks) != expected or ranks.min() < 0 or ranks.max() > negatives:
        raise UserError(
            f"{title}: {len(ranks)} ranks, {ranks.min()} to {ranks.max()}; expected {expected}, from 0 to {negatives}"
        )


def figures(title: str, report: Report, ours: Report, settings: Settings) -> dict[str, Any]:
    """A row of the table; times in seconds, metrics 0..1."""
    measured = metrics(np.asarray(report.ranks))
    median = statistics.median(report.epoch_seconds)
    epochs = len(report.epoch_seconds)
    return {
        "implementation": title,
        "epoch_seconds": median,
        "ratio": median / statistics.median(ours.epoch_seconds),
        "epochs": epochs,
        "best_epoch": report.best_epoch,
        "stopped": epochs - report.best_epoch >= settings.patience or epochs == settings.max_epochs,
        "seconds": report.seconds,
        "compile_seconds": report.compile_seconds,
        "NDCG@10": measured["NDCG@10"],
        "HR@10": measured["HR@10"],
        "peak_memory_bytes": report.peak_memory_bytes,
        "versions": report.versions,
        "all_epoch_seconds": report.epoch_seconds,
        "valid_ndcg": report.valid_ndcg,
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row of figures to read, in the order of `HEADER`."""
    cut = "" if row["stopped"] else f" (after {row['epochs']} epochs)"
    return [
        row["implementation"],
        f"{row['epoch_seconds']:,.2f}",
        f"{row['ratio']:.1f}",
        f"{row['best_epoch']}{cut}",
        f"{row['seconds']:,.0f}{cut}",
        f"{100 * row['NDCG@10']:.2f}",
        f"{100 * row['HR@10']:.2f}",
        f"{row['peak_memory_bytes'] / 2**20:,.0f}",
    ]


HEADER = [
    "implementation",
    "an epoch, s",
    "times as long as ours",
    "epochs to the best",
    "to the early-stopped model, s",
    "NDCG@10",
    "HR@10",
    "peak memory, MiB",
]


def found_of(rows: Sequence[dict[str, Any]]) -> str:
    """The benchmark's last line; the first row is ours."""
    ours, *others = rows
    ratios = ", ".join(
        f"{row['implementation']} takes {row['ratio']:.1f}x as long" for row in others
    )
    return f"an epoch of ours takes {ours['epoch_seconds']:,.2f} s; {ratios or 'no rival was measured'}"


def chosen(names: str) -> list[str]:
    """The rivals that --rivals names.

    Raises:
      UserError: an unknown name.
    """
    wanted = names.split(",") if names else []
    for name in wanted:
        if name not in RIVALS:
            raise UserError(
                f"--rivals: {name!r}; expected some of {', '.join(RIVALS)}, comma separated, or nothing for ours alone"
            )
    return wanted


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains all, prints, and writes JSON.

    Raises:
      UserError: a flag has no effect, or an implementation failed; the rivals after it were still measured.
    """
    parser = parser_of("train", __doc__)
    everyone = ",".join(RIVALS) if jax.default_backend() == "cpu" else ""
    parser.add_argument(
        "--rivals",
        default=everyone,
        help=f"comma separated, of {', '.join(RIVALS)}; by default all that are installed, on a GPU none",
    )
    parser.add_argument(
        "--rival-epochs",
        type=int,
        default=0,
        help="most epochs of a rival; 0: until it stops early",
    )
    given = parser.parse_args(arguments)
    rivals = chosen(given.rivals)
    if given.rival_epochs < 0:
        raise UserError(
            f"--rival-epochs={given.rival_epochs}; expected a whole number from 1, or 0 to train until the early stop"
        )
    if rivals and (device := jax.default_backend()) != "cpu":
        raise UserError(
            f"JAX runs on {device} and the rivals on the CPU's cores; set JAX_PLATFORMS=cpu, or leave them out with --rivals="
        )
    settings, log, contention = (
        settings_to_time(given.quick),
        log_to_time(given.quick),
        Contention(),
    )
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="train-") as name:
        folder = pathlib.Path(name)
        write_interactions(folder, log)
        data = data_of(prepared_run(folder, settings))
        write(folder, settings, data)
        ours = train(sys.executable, OURS.module, folder, 0)
        if ours is None:
            raise UserError("our own training failed, see above")
        reports = {OURS.title: ours}
        for rival in rivals:
            python, title = ENVIRONMENTS / rival / "bin" / "python", RIVALS[rival].title
            if not python.exists():
                print(f"{title} is not installed and left out: make rival-{rival}", flush=True)
                continue
            print(f"{title}:", flush=True)
            report = train(str(python), RIVALS[rival].module, folder, given.rival_epochs)
            if report is None:
                failed.append(title)
            else:
                reports[title] = report
    for title, report in reports.items():
        check(title, report, data)
    rows = [figures(title, report, ours, settings) for title, report in reports.items()]
    print(table(HEADER, [cells(row) for row in rows]))
    print(
        f"compilation, {ours.compile_seconds:.1f} s of ours to the early-stopped model, is in no epoch; epochs are medians"
    )
    sizes = {
        **settings._asdict(),
        "data": log.name,
        "users": log.num_users,
        "items": data.num_items,
        "evaluated": len(data.test.users),
    }
    keep("train", {"sizes": sizes, "rows": rows}, contention, given, found_of(rows))
    if failed:
        raise UserError(f"{', '.join(failed)} failed, see above; the others were measured")


if __name__ == "__main__":
    run(main)
