"""Times training of ID-only SASRec until its early stop, ours and rivals': python -m benchmarks.train [--rivals=rectools,torch] [--quick]

The split and the stored negatives of the paper's Beauty are made once. Each implementation trains on them in a separate process, one after
another, on the same cores and with the settings of configs/beauty.py. It validates after every epoch among the same candidates, and stops
with the same patience. On a GPU those rivals that can train there do, and the others are left out. `make rival-NAME` installs a rival into
.rivals/NAME; without that folder it runs in this Python, if its packages are installed here. --rival-epochs=N and --rival-seconds=S limit
the rivals' training. A rival is compared with our model that has its loss. An implementation reports the rank of each test target, so that
the same formula applies to all.
"""

import importlib.util
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
from grasp_jax.core.errors import UserError
from grasp_jax.core.machine import machine
from grasp_jax.data.log import InteractionLog
from grasp_jax.evaluation.metrics import metrics

ENVIRONMENTS = ROOT / ".rivals"


class Rival(NamedTuple):
    """An implementation.

    Attributes:
      title: in tables.
      module: that trains it.
      form: which of the module's models.
      needs: the package that is imported, and the name of the folder in .rivals.
      loss: a rival is compared with our model of the same loss; if there is none, with that of BCE.
      on_gpu: whether it can train on a GPU.
    """

    title: str
    module: str
    form: str = ""
    needs: str = ""
    loss: str = "BCE"
    on_gpu: bool = True

    @property
    def python(self) -> str | None:
        """The interpreter that has the package; None if there is none."""
        own = ENVIRONMENTS / self.needs / "bin" / "python"
        if own.exists():
            return str(own)
        return sys.executable if importlib.util.find_spec(self.needs) else None


CE = "cross-entropy"
OURS = {
    "BCE": Rival("grasp_jax", "benchmarks.own_training", "plain"),
    CE: Rival("grasp_jax (sasrec_ce)", "benchmarks.own_training", "sasrec_ce", loss=CE),
    "gBCE": Rival("grasp_jax (gsasrec)", "benchmarks.own_training", "gsasrec", loss="gBCE"),
}
RECTOOLS = "benchmarks.rivals.rectools"
RIVALS = {
    "rectools": Rival("RecTools SASRecModel", RECTOOLS, "bce", "rectools"),
    "rectools_ce": Rival("RecTools SASRecModel (softmax)", RECTOOLS, "ce", "rectools", CE),
    "gsasrec": Rival(
        "RecTools SASRecModel (gBCE: gSASRec)", RECTOOLS, "gsasrec", "rectools", "gBCE"
    ),
    "esasrec": Rival("RecTools eSASRec (sampled softmax)", RECTOOLS, "esasrec", "rectools", CE),
    "hstu": Rival("RecTools HSTUModel (softmax)", RECTOOLS, "hstu", "rectools", CE),
    "recbole": Rival(
        "RecBole SASRec (BPR)", "benchmarks.rivals.recbole", "", "recbole", "BPR", on_gpu=False
    ),
    "torch": Rival("plain PyTorch", "benchmarks.rivals.torch_sasrec", "", "torch"),
}
# Cross-entropy of padded rows over 57,289 items takes minutes a step on two cores.
BY_DEFAULT = {"cpu": ("rectools", "recbole", "torch"), "gpu": tuple(RIVALS)}


def alike(rival: Rival) -> Rival:
    """Our model that a rival is compared with."""
    return OURS.get(rival.loss, OURS["BCE"])


def settings_to_time(quick: bool) -> Settings:
    """The settings of configs/beauty.py, for the cores and the device that this process may use; small ones if `quick`."""
    settings = paper_settings(machine()["cores"])
    settings = settings._replace(device="cuda" if jax.default_backend() == "gpu" else "cpu")
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


def train(
    python: str, rival: Rival, folder: pathlib.Path, epochs: int = 0, seconds: float = 0.0
) -> Report | None:
    """The report of one implementation about its training in a separate process; None if it failed (it prints the reason)."""
    out = folder / f"{rival.module}-{rival.form}.json"
    limits = {"form": rival.form, "epochs": epochs, "seconds": seconds}
    command = [python, "-m", rival.module, str(folder), str(out)]
    command += [f"--{name}={value}" for name, value in limits.items() if value]
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


def figures(rival: Rival, report: Report, ours: Report, settings: Settings) -> dict[str, Any]:
    """A row of the table, of a rival or of ours; times in seconds, metrics 0..1; `ours` has the same loss."""
    measured = metrics(np.asarray(report.ranks))
    median = statistics.median(report.epoch_seconds)
    epochs = len(report.epoch_seconds)
    return {
        "implementation": rival.title,
        "loss": rival.loss,
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
        row.get("loss", "BCE"),
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
    "loss",
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
    ours = rows[0]
    others = [row for row in rows if not row["implementation"].startswith("grasp_jax")]
    ratios = ", ".join(
        f"{row['implementation']} takes {row['ratio']:.1f}x as long" for row in others
    )
    return f"an epoch of ours takes {ours['epoch_seconds']:,.2f} s; {ratios or 'no rival was measured'}"


def installed(names: Sequence[str], device: str) -> list[Rival]:
    """The named rivals that can train on this device; says of each other why it is left out."""
    found = []
    for name in names:
        rival = RIVALS[name]
        if device == "gpu" and not rival.on_gpu:
            print(f"{rival.title} is left out: it trains on a CPU alone", flush=True)
        elif rival.python is None:
            print(
                f"{rival.title} is not installed and left out: make rival-{rival.needs}", flush=True
            )
        else:
            found.append(rival)
    return found


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
    device = "gpu" if jax.default_backend() == "gpu" else "cpu"
    everyone = ",".join(name for name in BY_DEFAULT[device] if name in RIVALS)
    parser.add_argument(
        "--rivals",
        default=everyone,
        help=f"rivals, comma separated: some of {', '.join(RIVALS)}; by default those of {everyone} that are installed",
    )
    parser.add_argument(
        "--rival-epochs",
        type=int,
        default=0,
        help="most epochs of a rival; 0: no limit but its early stop",
    )
    parser.add_argument(
        "--rival-seconds",
        type=float,
        default=0.0,
        help="seconds after which a rival begins no epoch; 0: no limit",
    )
    given = parser.parse_args(arguments)
    rivals = installed(chosen(given.rivals), device)
    if given.rival_epochs < 0:
        raise UserError(
            f"--rival-epochs={given.rival_epochs}; expected a whole number from 1, or 0 to train until the early stop"
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
        reports: dict[Rival, Report] = {}
        for own in dict.fromkeys([OURS["BCE"], *map(alike, rivals)]):
            found = train(sys.executable, own, folder)
            if found is None:
                raise UserError(f"our own training, {own.title}, failed, see above")
            reports[own] = found
        for rival in rivals:
            print(f"{rival.title}:", flush=True)
            report = train(
                str(rival.python), rival, folder, given.rival_epochs, given.rival_seconds
            )
            if report is None:
                failed.append(rival.title)
            else:
                reports[rival] = report
    for implementation, report in reports.items():
        check(implementation.title, report, data)
    rows = [
        figures(implementation, report, reports[alike(implementation)], settings)
        for implementation, report in reports.items()
    ]
    print(table(HEADER, [cells(row) for row in rows]))
    compiled = reports[OURS["BCE"]].compile_seconds
    print(
        f"compilation, {compiled:.1f} s of ours to the early-stopped model, is in no epoch; epochs are medians"
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
