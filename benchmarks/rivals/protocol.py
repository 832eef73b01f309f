"""The input and the report of every implementation in the train benchmark. It needs only NumPy: rivals have neither JAX nor grasp_jax.

A rival is `python -m benchmarks.rivals.NAME FOLDER OUT.json [--form=FORM] [--epochs=N] [--seconds=S]`: it trains on FOLDER/data.npz with
FOLDER/settings.json, stops early as the package does, and writes a `Report`.
"""

import argparse
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.peak_memory import peak_bytes


class Settings(NamedTuple):
    """D features, L places of a history, B users per step; `threads` is the number of threads that a library may use.

    Attributes:
      device: "cpu" or "cuda".
      max_seconds: after which no further epoch begins; 0: there is no limit.
    """

    features: int
    max_length: int
    batch_size: int
    num_layers: int
    num_heads: int
    dropout: float
    learning_rate: float
    patience: int
    max_epochs: int
    seed: int
    threads: int
    device: str = "cpu"
    max_seconds: float = 0.0


class HeldOut(NamedTuple):
    """The users [n] of a split, and [n, 1+C] int32 item rows: the target, then its stored negatives."""

    users: np.ndarray
    candidates: np.ndarray


class Data(NamedTuple):
    """Interactions in time order, user by user: `items[offsets[n]:offsets[n + 1]]` are the training items of user n.

    Attributes:
      num_items: V; item rows are 0..V-1, and some occur in no training interaction.
      items: [J] int32.
      offsets: [N+1] int64.
      valid: targets of validation, predicted from the training interactions.
      test: targets of the test, predicted from the training interactions and the validation target; the same users in the same order.
    """

    num_items: int
    items: np.ndarray
    offsets: np.ndarray
    valid: HeldOut
    test: HeldOut

    def training_histories(self) -> list[np.ndarray]:
        """[N] arrays of item rows, at their full lengths."""
        return np.split(self.items, self.offsets[1:-1])

    def histories(self, split: str) -> list[np.ndarray]:
        """The full history from which the target of each user of "valid" or "test" is predicted."""
        everyone = self.training_histories()
        if split == "valid":
            return [everyone[user] for user in self.valid.users]
        newest = self.valid.candidates[:, :1]
        return [
            np.concatenate([everyone[user], item])
            for user, item in zip(self.test.users, newest, strict=True)
        ]


class Report(NamedTuple):
    """The result of an implementation.

    Attributes:
      versions: of its packages.
      epoch_seconds: of training and of loading its data, without validation, for each epoch.
      valid_ndcg: NDCG@10 on the validation candidates after each epoch, 0..1.
      best_epoch: counted from 1; `ranks` are of the model after it.
      compile_seconds: part of `seconds`, but not of the epochs; 0 if nothing is compiled.
      seconds: from the data in memory to the early-stopped model, validation included.
      ranks: [n] of the test targets: how many of the stored negatives score at least as high.
      peak_memory_bytes: resident memory of the process at its highest.
    """

    versions: dict[str, str]
    epoch_seconds: list[float]
    valid_ndcg: list[float]
    best_epoch: int
    compile_seconds: float
    seconds: float
    ranks: list[int]
    peak_memory_bytes: int


class Task(NamedTuple):
    """The command line: FOLDER, its content, the path of the report, and which of the models of a module is meant."""

    folder: pathlib.Path
    settings: Settings
    data: Data
    out: pathlib.Path
    form: str


class Course:
    """The state of a training: its clock, its epochs, and when it stops. The clock starts at construction."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.epoch_seconds: list[float] = []
        self.valid_ndcg: list[float] = []
        self.best_epoch = 0
        self.started = time.perf_counter()

    def after_epoch(self, train_seconds: float, ranks: np.ndarray) -> bool:
        """Adds an epoch with its [n] validation ranks; returns whether it is the best so far, so that its parameters must be stored."""
        best = self.valid_ndcg[self.best_epoch - 1] if self.best_epoch else -1.0
        self.epoch_seconds.append(train_seconds)
        self.valid_ndcg.append(ndcg_at_10(ranks))
        better = self.valid_ndcg[-1] > best
        if better:
            self.best_epoch = len(self.valid_ndcg)
        print(
            f"epoch {len(self.valid_ndcg)}: {train_seconds:.1f} s, validation NDCG@10 {100 * self.valid_ndcg[-1]:.2f}",
            flush=True,
        )
        return better

    @property
    def ends(self) -> bool:
        """Whether the training is over."""
        done, most = len(self.valid_ndcg), self.settings.max_seconds
        late = 0 < most <= self.seconds()
        patient = done - self.best_epoch < self.settings.patience
        return late or not patient or done >= self.settings.max_epochs

    def seconds(self) -> float:
        """Since the clock started."""
        return time.perf_counter() - self.started

    def report(self, seconds: float, ranks: np.ndarray, packages: Sequence[str]) -> Report:
        """The report, for `seconds` from start to stop and the [n] test ranks of the best epoch's parameters, if nothing was compiled."""
        return Report(
            versions(packages),
            self.epoch_seconds,
            self.valid_ndcg,
            self.best_epoch,
            0.0,
            seconds,
            ranks.tolist(),
            peak_bytes(),
        )


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages, by name."""
    return {name: importlib.metadata.version(name) for name in packages}


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """[n, 1+C] scores, with the target's first -> [n] how many others are at least as high; NaN counts as such."""
    return (~(scores[:, 1:] < scores[:, :1])).sum(axis=1)


def ndcg_at_10(ranks: np.ndarray) -> float:
    """Mean over [n] ranks from 0; 0..1."""
    return float(np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0).mean())


def padded(histories: Sequence[np.ndarray], length: int, fill: int, left: bool) -> np.ndarray:
    """[n, length] int64: the newest items of each history, filled up on the left or on the right."""
    rows = np.full((len(histories), length), fill, np.int64)
    for row, history in zip(rows, histories, strict=True):
        newest = history[-length:]
        row[length - len(newest) if left else 0 : length if left else len(newest)] = newest
    return rows


def write(folder: pathlib.Path, settings: Settings, data: Data) -> None:
    """Writes FOLDER for `read`."""
    arrays = {
        f"{name}_{field}": getattr(getattr(data, name), field)
        for name in ("valid", "test")
        for field in HeldOut._fields
    }
    np.savez(
        folder / "data.npz",
        num_items=data.num_items,
        items=data.items,
        offsets=data.offsets,
        **arrays,
    )
    (folder / "settings.json").write_text(json.dumps(settings._asdict()) + "\n", encoding="utf-8")


def read(folder: pathlib.Path) -> tuple[Settings, Data]:
    """The content of FOLDER, as `write` wrote it."""
    settings = Settings(**json.loads((folder / "settings.json").read_text(encoding="utf-8")))
    with np.load(folder / "data.npz", allow_pickle=False) as stored:
        held_out = {
            name: HeldOut(*(stored[f"{name}_{field}"] for field in HeldOut._fields))
            for name in ("valid", "test")
        }
        return settings, Data(
            int(stored["num_items"]), stored["items"], stored["offsets"], **held_out
        )


def write_report(path: pathlib.Path, report: Report) -> None:
    """Writes a report as JSON."""
    path.write_text(json.dumps(report._asdict()) + "\n", encoding="utf-8")


def read_report(path: pathlib.Path) -> Report:
    """A report that `write_report` wrote."""
    return Report(**json.loads(path.read_text(encoding="utf-8")))


def task() -> Task:
    """The task of the command line; --epochs and --seconds replace the limits in the settings."""
    parser = argparse.ArgumentParser(
        description="Trains on FOLDER as benchmarks/train.py asks, and writes OUT.json."
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument(
        "--epochs",
        type=int,
        default=0,
        help="stop after so many at the latest; 0: as the settings say",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="begin no epoch after so many; 0: no limit"
    )
    parser.add_argument("--form", default="", help="one of the module's models")
    given = parser.parse_args()
    settings, data = read(given.folder)
    limited = settings._replace(
        max_epochs=given.epochs or settings.max_epochs, max_seconds=given.seconds
    )
    return Task(given.folder, limited, data, given.out, given.form)
