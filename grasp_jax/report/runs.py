"""Reads the files of finished runs."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.config import CONFIG_FILE, Config, value_of
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import CHECKSUM, read_arrays, read_object, read_text
from grasp_jax.evaluation.metrics import ndcg_gains
from grasp_jax.evaluation.protocols import FULL, PROTOCOLS, UNSEEN
from grasp_jax.report.check import READ_FILE, check_finished
from grasp_jax.training.records import Records
from grasp_jax.workdir import parse_trial_name


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One workdir.

    Attributes:
      name: of the folder.
      config: as saved.
      results: `results.json`: "rows", "comparisons", "failed", "unfinished", "about".
      epochs: epoch records of `metrics.jsonl`, in order.
      examples: (method, backbone) -> example recommendations.
      gates: (method, backbone) -> {"gates" [n, 3], "corrupted" [n]}.
      gains: (method, backbone, protocol) -> [S, n] NDCG@10 of each seed and test user; without entries where ranks were tidied up.
      read: what was read and how, in lines; empty in runs of versions that did not keep it.
    """

    name: str
    config: dict[str, Any]
    results: dict[str, Any]
    epochs: list[dict[str, Any]]
    examples: dict[tuple[str, str], list[dict[str, Any]]]
    gates: dict[tuple[str, str], dict[str, np.ndarray]]
    gains: dict[tuple[str, str, str], np.ndarray] = dataclasses.field(default_factory=dict)
    read: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.results["rows"]
        return rows

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """Trials that were tested although their training has not ended."""
        trials: list[dict[str, Any]] = self.results.get("unfinished", [])
        return trials


def read_runs(folders: str, allow_older: bool = False) -> list[FinishedRun]:
    """Runs of comma-separated workdirs.

    Raises:
      UserError: none are named, or one has no readable results.
    """
    names = [name for name in folders.split(",") if name]
    if not names:
        raise UserError(
            "--runs is empty; expected one or more workdirs of finished runs, comma separated"
        )
    runs = [read_run(pathlib.Path(name), allow_older) for name in names]
    for k, run in enumerate(runs):
        if run.name in [other.name for other in runs[:k]]:
            raise UserError(
                f"--runs: two folders are called {run.name}; rename one, because a report distinguishes runs by that name"
            )
    return runs


def read_run(folder: pathlib.Path, allow_older: bool = False) -> FinishedRun:
    """One workdir; examples and gates may be missing."""
    config = _read_config(folder / CONFIG_FILE)
    if not (folder / "results.json").exists():
        raise UserError(
            f"{folder / 'results.json'} does not exist: this run has no results yet; run grasp-jax --mode=evaluate --workdir={folder}"
        )
    check_finished(folder, allow_older)
    results = _read_results(folder / "results.json")
    if config.get("eval", {}).get("exclude_seen"):  # as versions before 0.3 called it
        for entry in [*results["rows"], *results["comparisons"]]:
            entry["protocol"] = UNSEEN if entry["protocol"] == FULL else entry["protocol"]
    return FinishedRun(
        name=folder.resolve().name,
        config=config,
        results=results,
        epochs=_read_epochs(folder / "metrics.jsonl"),
        examples={
            parse_trial_name(path.stem): _read_examples(path)
            for path in sorted((folder / "examples").glob("*.json"))
        },
        gates={
            parse_trial_name(path.stem): _read_gates(path)
            for path in sorted((folder / "gates").glob("*.npz"))
        },
        gains=_read_gains(folder / "ranks", results["rows"]),
        read=_read_lines(folder / READ_FILE),
    )


AGAIN = "run --mode=evaluate with this workdir again"
TEXT: tuple[type, ...] = (str,)
NUMBER: tuple[type, ...] = (int, float)
ROW = {
    "dataset": TEXT,
    "method": TEXT,
    "backbone": TEXT,
    "protocol": TEXT,
    "group": TEXT,
    "MRR": NUMBER,
}
ROW |= {f"{metric}@{k}": NUMBER for metric in ("NDCG", "HR") for k in (5, 10, 20)}
COMPARISON = {name: TEXT for name in ("protocol", "backbone", "first", "second")}
COMPARISON |= {name: NUMBER for name in ("difference", "low", "high", "p_value")}
FAILED = {"method": TEXT, "backbone": TEXT, "reason": TEXT}
UNFINISHED = {"method": TEXT, "backbone": TEXT, "epoch": NUMBER, "max_epochs": NUMBER}
LISTS = {"rows": ROW, "comparisons": COMPARISON, "failed": FAILED, "unfinished": UNFINISHED}
EPOCH = {"method": TEXT, "backbone": TEXT, "epoch": NUMBER, "loss": NUMBER, "valid_ndcg@10": NUMBER}
EXAMPLE = {
    "user": TEXT,
    "history": (list,),
    "truth": TEXT,
    "top": (list,),
    "place": (int, type(None)),
}
MACHINE = {"cores": NUMBER, "cpu": TEXT, "device": TEXT, "versions": (dict,), "command": TEXT}
TABLE1 = {"dataset": TEXT, "users": NUMBER, "items": NUMBER, "interactions": NUMBER}
CURVES = (
    ("knowledge", "num_neighbours"),
    ("model", "features"),
    ("model", "gate_scale"),
    ("model", "gate_query"),
)


def _need(where: str, entry: Any, fields: Mapping[str, tuple[type, ...]]) -> None:
    """Raises UserError where an entry is no object, lacks a field, or has another kind of value there; names all three."""
    if not isinstance(entry, dict):
        raise UserError(
            f"{where}: {json.dumps(entry)[:40]}; expected an object with {', '.join(list(fields)[:4])}; {AGAIN}"
        )
    for name, kinds in fields.items():
        if name not in entry:
            raise UserError(f"{where}: no {name!r} in {json.dumps(entry)[:60]}; {AGAIN}")
        if isinstance(entry[name], bool) or not isinstance(entry[name], kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(
                f"{where}: {name} is {json.dumps(entry[name])[:40]}; expected {expected}; {AGAIN}"
            )


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """A saved config; fields on the x axis of a figure that its version did not have get their defaults."""
    config = _object(path)
    config.pop(CHECKSUM, None)  # of the file, no field
    if not all(isinstance(config.get(section), dict) for section in ("data", "knowledge", "model")):
        raise UserError(
            f"{path}: not the config of a run; --runs names the workdirs of finished runs"
        )
    defaults = Config()
    for section, name in CURVES:
        default = value_of(defaults, f"{section}.{name}")
        value = config[section].setdefault(name, default)
        if isinstance(value, bool) or not isinstance(
            value, TEXT if isinstance(default, str) else NUMBER
        ):
            raise UserError(
                f"{path}: {section}.{name} is {json.dumps(value)[:40]}; expected a value such as {default!r}; restore the file"
            )
    if "corruption" in config["knowledge"]:
        _need(
            f"{path}: knowledge.corruption",
            config["knowledge"]["corruption"],
            {"kind": TEXT, "share": NUMBER},
        )
    return config


def _read_results(path: pathlib.Path) -> dict[str, Any]:
    results = {"comparisons": [], "failed": [], "unfinished": [], "about": {}} | _object(path)
    if not isinstance(results.get("rows"), list) or not results["rows"]:
        raise UserError(f"{path}: holds no rows; {AGAIN}")
    for name, fields in LISTS.items():
        if not isinstance(results[name], list):
            raise UserError(
                f"{path}: {name} is {json.dumps(results[name])[:40]}; expected a list; {AGAIN}"
            )
        for number, entry in enumerate(results[name], start=1):
            _need(f"{path}: {name}, entry {number}", entry, fields)
    for number, row in enumerate(results["rows"], start=1):
        if row["protocol"] not in PROTOCOLS:
            raise UserError(
                f"{path}: rows, entry {number}: protocol {row['protocol']!r}; expected one of {', '.join(PROTOCOLS)}; {AGAIN}"
            )
    _check_about(f"{path}: about", results["about"])
    return results


def _check_about(where: str, about: Any) -> None:
    _need(where, about, {})
    if about.get("table1") and "versions" in about:
        _need(where, about, MACHINE | {"table1": (dict,)})
        _need(f"{where}.versions", about["versions"], {"jax": TEXT})
        _need(f"{where}.table1", about["table1"], TABLE1)
        if "commit" not in about:
            raise UserError(f"{where}: no 'commit'; {AGAIN}")
    counts = about.get("lengths", {})
    if not isinstance(counts, dict) or not all(
        name.isdigit() and type(count) in NUMBER for name, count in counts.items()
    ):
        raise UserError(
            f"{where}: lengths is {json.dumps(counts)[:40]}; expected counts by length; {AGAIN}"
        )


def _read_epochs(path: pathlib.Path) -> list[dict[str, Any]]:
    try:
        records = Records(path).read()
    except OSError as error:
        raise UserError(
            f"{path}: not readable ({error.strerror}); --runs names the workdirs of finished runs"
        ) from error
    epochs = [record for record in records if record.get("event") == "epoch"]
    for number, record in enumerate(epochs, start=1):
        _need(f"{path}: epoch record {number}", record, EPOCH)
    return epochs


def _read_examples(path: pathlib.Path) -> list[dict[str, Any]]:
    found = _json(path)
    if not isinstance(found, list):
        raise UserError(
            f"{path}: holds {json.dumps(found)[:40]}; expected a list of examples; {AGAIN}"
        )
    for number, example in enumerate(found, start=1):
        where = f"{path}: example {number}"
        _need(where, example, EXAMPLE)
        for item in example["top"]:
            _need(f"{where}: top", item, {"title": (*TEXT, type(None))})
        gates = example.get("gates") or {}
        _need(
            f"{where}: gates",
            gates,
            dict.fromkeys(gates, NUMBER) if isinstance(gates, dict) else {"self": NUMBER},
        )
    return found


def _object(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists() and not path.parent.is_file():
        raise UserError(f"{path} does not exist; --runs names the workdirs of finished runs")
    return read_object(path, "--runs names the workdirs of finished runs")


def _json(path: pathlib.Path) -> Any:
    try:
        return json.loads(read_text(path, AGAIN))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({error}); {AGAIN}") from error


def _read_gates(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = read_arrays(path, ("gates", "corrupted"), AGAIN)
    gates, corrupted = arrays["gates"], arrays["corrupted"]
    if (
        gates.ndim != 2
        or gates.shape[1] != 3
        or not len(gates)
        or gates.dtype.kind != "f"
        or not np.isfinite(gates).all()
    ):
        raise UserError(
            f"{path}: gates is {gates.dtype} of shape {gates.shape}; expected finite numbers of shape (n, 3); {AGAIN}"
        )
    if corrupted.shape != gates.shape[:1] or corrupted.dtype != bool:
        fault = f"corrupted is {corrupted.dtype} of shape {corrupted.shape}"
        raise UserError(f"{path}: {fault}; expected bool of shape ({len(gates)},); {AGAIN}")
    return arrays


def _read_gains(
    folder: pathlib.Path, rows: list[dict[str, Any]]
) -> dict[tuple[str, str, str], np.ndarray]:
    """The ranks of every trial and protocol that has them for all seeds."""
    found: dict[tuple[str, str, str], list[np.ndarray | None]] = {}
    for row in rows:
        if row["group"] != "all" or "seed" not in row:
            continue
        path = folder / f"{row['method']}-{row['backbone']}-seed{row['seed']}-{row['protocol']}.npz"
        own = _read_ranks(path) if path.is_file() else None
        found.setdefault((row["method"], row["backbone"], row["protocol"]), []).append(own)
    whole = {
        trial: [own for own in seeds if own is not None]
        for trial, seeds in found.items()
        if all(own is not None for own in seeds)
    }
    return {
        trial: np.stack(seeds) for trial, seeds in whole.items() if len(set(map(len, seeds))) == 1
    }


def _read_ranks(path: pathlib.Path) -> np.ndarray:
    """[n] NDCG@10 of each user."""
    ranks = read_arrays(path, ["rank"], AGAIN)["rank"]
    if ranks.ndim != 1 or not len(ranks) or ranks.dtype.kind not in "iu":
        raise UserError(
            f"{path}: rank is {ranks.dtype} of shape {ranks.shape}; expected whole numbers of shape (n,); {AGAIN}"
        )
    return ndcg_gains(ranks)


def _read_lines(path: pathlib.Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = _object(path).get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UserError(
            f"{path}: lines is {json.dumps(lines)[:40]}; expected a list of texts; {AGAIN}"
        )
    return tuple(lines)
