"""Finished runs from which campaigns start, and the results of a run that must stay the same."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence

import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as parquet
from jax.tree_util import keystr, tree_leaves_with_path

from tests.command_line import CACHE, arguments, write_dataset
from tests.faults.program import apart, call

OF_THE_DAY = ("commit", "seconds")  # of a row of results.json, and of the records
COMMON = (
    "--config.train.seeds=(1,)",
    "--config.train.max_epochs=2",
    "--config.train.checkpoint_seconds=0.0",
    "--config.recommend.top_n=4",
    "--config.knowledge.width=16",
    "--config.knowledge.audit.sheet_rows=5",
)
QUICK = (  # one method, and two seeds: as `trained.by_command_line` has, which has compiled its programs
    "--config.model.method=grasp",
    "--config.train.seeds=(1,2)",
)
SETUPS = {
    "file": ("--config.model.method=plain,grasp",),
    "text": (
        "--config.knowledge.encoder=lsa",
        "--config.data.items_file=items.jsonl",
        "--config.model.method=grasp",
    ),
}  # vectors from files, and texts that are described and encoded here


@dataclasses.dataclass(frozen=True)
class Base:
    """The dataset, and a finished workdir of each setup; the `quick` form of campaigns has one setup of one method."""

    folder: pathlib.Path
    quick: bool = False

    @property
    def data(self) -> pathlib.Path:
        return self.folder / "data"

    def workdir(self, setup: str) -> pathlib.Path:
        return self.folder / setup

    def command(self, setup: str, workdir: pathlib.Path, mode: str, *more: str) -> list[str]:
        """Flags of a run; `report` reads the workdir and writes beside what it reads."""
        if mode == "report":
            return ["--mode=report", f"--runs={workdir}", f"--out={workdir / 'report'}"]
        cache = os.environ.get(CACHE, str(self.folder / "compiled"))
        flags = [
            *arguments(self.data, workdir)[3:],
            *COMMON,
            *SETUPS[setup],
            f"--config.compilation_cache={cache}",
            f"--mode={mode}",
        ]
        flags += [*(QUICK if self.quick else ()), *more]
        return list(
            {flag.split("=")[0]: flag for flag in flags}.values()
        )  # of a flag given twice the last: tuples would add up


def make_base(folder: pathlib.Path, quick: bool = False) -> Base:
    """The finished runs, found or made."""
    base = Base(folder, quick)
    if not (base.data / "items.jsonl").exists():
        write_dataset(base.data)
        titles = [
            {
                "item": item,
                "title": f"Crème {item}",
                "brand": f"brand {item % 4}",
                "price": item / 2,
            }
            for item in range(1, 41)
        ]
        (base.data / "items.jsonl").write_text(
            "".join(json.dumps(title) + "\n" for title in titles), encoding="utf-8"
        )
    for setup in ["file"] if quick else SETUPS:
        finished = base.folder / f"{setup}.finished"
        if not finished.exists():
            shutil.rmtree(base.workdir(setup), ignore_errors=True)
            modes = ["all", "recommend", "audit" if setup == "text" else "prepare", "report"]
            for mode in modes:
                print(f"base: {setup}, {mode}", flush=True)
                outcome = call(base.command(setup, base.workdir(setup), mode))
                if outcome.code != 0:
                    raise SystemExit(f"{setup}, {mode}: exit {outcome.code}: {outcome.err}")
            finished.touch()
    return base


def digest(workdir: pathlib.Path, parts: Sequence[str]) -> dict[str, str]:
    """Name -> hash of everything in a workdir that must not depend on what befell the run.

    Args:
      workdir: of a finished run.
      parts: of "rows", "ranks", "candidates", "knowledge", "epochs", "parameters", "recommendations", and folders of pages, such as
        "report".

    Raises:
      RuntimeError: a part is missing or not readable.
    """
    return apart(_digest, workdir, tuple(parts))


def _digest(workdir: pathlib.Path, parts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        found |= _PARTS[part](workdir) if part in _PARTS else _pages(workdir / part)
    return found


def _rows(workdir: pathlib.Path) -> dict[str, str]:
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    kept = [
        {key: value for key, value in row.items() if key not in OF_THE_DAY}
        for row in results["rows"]
    ]
    return {
        "results.json rows": _hash(kept),
        "results.json comparisons": _hash(results["comparisons"]),
    }


def _epochs(workdir: pathlib.Path) -> dict[str, str]:
    lines = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    lines = [line for line in lines if line.get("event") == "epoch"]
    keys = ("method", "backbone", "seed", "epoch", "loss", "valid_ndcg@10")
    return {"metrics.jsonl": _hash([[line[key] for key in keys] for line in lines])}


def _arrays(workdir: pathlib.Path, folder: str) -> dict[str, str]:
    found = {}
    for path in sorted((workdir / folder).glob("*.np[yz]")):
        stored = np.load(path, allow_pickle=False)
        arrays = (
            {name: stored[name] for name in stored.files}
            if isinstance(stored, np.lib.npyio.NpzFile)
            else {"": stored}
        )
        found[f"{folder}/{path.name}"] = _hash(
            [[name, array.dtype.str, array.tolist()] for name, array in arrays.items()]
        )
    return found


def _parameters(workdir: pathlib.Path) -> dict[str, str]:
    """Of the newest checkpoint of each training."""
    found = {}
    for folder in sorted((workdir / "checkpoints").glob("*/last")):
        newest = max(
            (path for path in folder.iterdir() if path.name.isdigit()),
            key=lambda path: int(path.name),
        )
        content = hashlib.sha256()
        for path, leaf in tree_leaves_with_path(
            ocp.StandardCheckpointer().restore(newest.absolute() / "default")
        ):
            content.update(keystr(path).encode() + np.asarray(leaf).tobytes())
        found[f"checkpoints/{folder.parent.name} {newest.name}"] = content.hexdigest()
    return found


def _recommendations(workdir: pathlib.Path) -> dict[str, str]:
    return {
        "recommendations.parquet": _hash(
            parquet.read_table(workdir / "recommendations.parquet").to_pydict()
        )
    }


def _pages(folder: pathlib.Path) -> dict[str, str]:
    """Every file of a report or an audit, less the moment at which it was written."""
    kept = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        f"{folder.name}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
    }


_PARTS = {
    "rows": _rows,
    **{
        folder: functools.partial(_arrays, folder=folder)
        for folder in ("ranks", "candidates", "knowledge")
    },
    "epochs": _epochs,
    "parameters": _parameters,
    "recommendations": _recommendations,
}


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first few names whose content differs; empty where none does."""
    named = [
        name
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    return ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")


def listing(workdir: pathlib.Path) -> set[str]:
    """Paths of all files and empty folders, with numbers of steps and the random names of checkpoints' parts taken out."""
    kept = (path for path in workdir.rglob("*") if path.is_file() or not any(path.iterdir()))
    shown = (str(path.relative_to(workdir)) for path in kept)
    return {re.sub(r"/[0-9a-f]{32}\b", "/#", re.sub(r"/\d+(?=/|$)", "/#", name)) for name in shown}
