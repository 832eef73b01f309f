"""Small models that several test files read. The first worker of a session that needs one trains it, and the others use its folder."""

import fcntl
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import grasp_jax as gj
from grasp_jax.api import Recommender
from grasp_jax.config import Config
from tests.command_line import arguments, run, write_dataset

TINY: dict[str, Any] = {
    "features": 8,
    "mlp": (8,),
    "num_layers": 1,
    "knowledge__width": 8,
    "num_neighbours": 3,
    "similar_users": 3,
    "max_epochs": 1,
    "batch_size": 64,
    "shared_negatives": 32,
    "num_negatives": 20,
    "learning_rate": 1e-2,
}
SMALL = {**TINY, "max_length": 9}
METHODS = {  # of a backbone: without text, with gates that read texts, and with towers of texts
    "sasrec": "plain",
    "gru4rec": "grasp",
    "bert4rec": "grasp_plus",
}


def small_shop() -> gj.Dataset:
    """The data of the models below."""
    return gj.Dataset.synthetic(num_users=100, num_items=100)


def trained(factory: pytest.TempPathFactory, backbone: str) -> pathlib.Path:
    """A finished workdir of a model of `METHODS`. Who changes its files takes a copy."""

    def train(workdir: pathlib.Path) -> None:
        gj.Recommender(method=METHODS[backbone], backbone=backbone, **SMALL).fit(
            small_shop(), workdir
        )

    return once(factory, f"trained-{backbone}", train)


def by_command_line(factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with `write_dataset` as "data", the finished workdir "run" of `arguments`, and what the program printed, "printed.txt"."""

    def train(folder: pathlib.Path) -> None:
        result = run(arguments(write_dataset(folder / "data"), folder / "run"))
        assert result.returncode == 0, result.stderr
        (folder / "printed.txt").write_text(result.stdout, encoding="utf-8")

    return once(factory, "by-command-line", train)


def at_small_size(patch: pytest.MonkeyPatch) -> None:
    """Lets programs of the documentation train on the shop and at the size of the models above: their programs are then compiled already.

    In place of SASRec they train GRU4Rec, which compiles in half of the time.
    What a program writes is read first, so that a field or a value that a reader could not use is refused all the same.
    """
    real_init, real_synthetic, shop = Recommender.__init__, gj.Dataset.synthetic, small_shop()

    def init(self: Recommender, config: Config | None = None, **fields: Any) -> None:
        real_init(self, config, **fields)
        if config is None:
            quick = {"backbone": "gru4rec"} if fields.get("backbone", "sasrec") == "sasrec" else {}
            real_init(self, **{**fields, **SMALL, **quick})

    def synthetic(**fields: Any) -> gj.Dataset:
        real_synthetic(**fields)
        return shop

    patch.setattr(Recommender, "__init__", init)
    patch.setattr(gj.Dataset, "synthetic", synthetic)


def once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """The folder of this name, which `make` fills once in a session, whichever worker comes first."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder
