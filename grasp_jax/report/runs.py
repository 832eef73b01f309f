"""What finished runs left in their folders, read back."""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from grasp_jax.config import CONFIG_FILE
from grasp_jax.errors import UserError
from grasp_jax.report.check import check_finished
from grasp_jax.training.records import Records


@dataclasses.dataclass(frozen=True)
class Run:
    """One workdir.

    Attributes:
      name: of the folder.
      config: as saved.
      results: `results.json`: "rows", "comparisons", "failed", "about".
      epochs: epoch records of `metrics.jsonl`, in order.
      examples: (method, backbone) -> example recommendations.
      gates: (method, backbone) -> {"gates" [n, 3], "corrupted" [n]}.
    """

    name: str
    config: dict[str, Any]
    results: dict[str, Any]
    epochs: list[dict[str, Any]]
    examples: dict[tuple[str, str], list[dict[str, Any]]]
    gates: dict[tuple[str, str], dict[str, np.ndarray]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.results["rows"]


def read_runs(folders: str, allow_older: bool = False) -> list[Run]:
    """Runs of comma-separated workdirs.

    Raises:
      UserError: none are named, or one has no readable results.
    """
    names = [name for name in folders.split(",") if name]
    if not names:
        raise UserError("--runs is empty; expected one or more workdirs of finished runs, comma separated")
    runs = [read_run(pathlib.Path(name), allow_older) for name in names]
    for k, run in enumerate(runs):
        if run.name in [other.name for other in runs[:k]]:
            raise UserError(f"--runs: two folders are called {run.name}; rename one, for a report tells runs apart by that name")
    return runs


def read_run(folder: pathlib.Path, allow_older: bool = False) -> Run:
    """One workdir; examples and gates may be missing."""
    config = _read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict) or not {"data", "knowledge", "model"} <= set(config):
        raise UserError(f"{folder / CONFIG_FILE}: not the config of a run; --runs names the workdirs of finished runs")
    check_finished(folder, allow_older)
    return Run(
        name=folder.resolve().name,
        config=config,
        results=_read_results(folder / "results.json"),
        epochs=[record for record in Records(folder / "metrics.jsonl").read() if record.get("event") == "epoch"],
        examples={_cell(path): _read_json(path) for path in sorted((folder / "examples").glob("*.json"))},
        gates={_cell(path): _read_arrays(path) for path in sorted((folder / "gates").glob("*.npz"))},
    )


def _cell(path: pathlib.Path) -> tuple[str, str]:
    method, _, backbone = path.stem.rpartition("-")
    return method, backbone


def _read_results(path: pathlib.Path) -> dict[str, Any]:
    results = _read_json(path)
    rows = results.get("rows") if isinstance(results, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "group" in row for row in rows):
        raise UserError(f"{path}: holds no rows; run --mode=evaluate with this workdir again")
    return {"comparisons": [], "failed": [], "about": {}} | results


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; --runs names the workdirs of finished runs") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); --runs names the workdirs of finished runs") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable JSON ({error}); run --mode=evaluate with this workdir again") from error


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("gates", "corrupted")}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}); run --mode=evaluate with this workdir again") from error
