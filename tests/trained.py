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


def with_one_layer(patch: pytest.MonkeyPatch) -> None:
    """Lets programs of the documentation train with one layer where they name no number of layers: a second one takes time to compile."""
    real = Recommender.__init__

    def init(self: Recommender, config: Config | None = None, **fields: Any) -> None:
        real(self, config, **(fields if config else {"num_layers": 1, **fields}))

    patch.setattr(Recommender, "__init__", init)


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
