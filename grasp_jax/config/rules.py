"""Checks of values that are allowed separately but not together; the rules of a method are in `Method.check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from grasp_jax.config.checks import not_different_rates
from grasp_jax.config.fields import flatten, names
from grasp_jax.config.model import QUERIES_BY_INTERACTION
from grasp_jax.core.errors import UserError

if TYPE_CHECKING:
    from grasp_jax.config.config import Config

MOST_REPLICAS = 1024  # models trained together: seeds x dropouts x learning rates


def refuse_equal_rates(changes: Mapping[str, Any], where: str) -> None:
    """Refuses two equal dropouts where a user sets them, for they would train one model twice.

    It is no rule of a whole config: earlier versions took equal rates, and their runs still open.

    Args:
      changes: the argument of `Config.with_fields`.
      where: what messages call the config.

    Raises:
      UserError: naming the field, of `by_method` or `by_source` where it stands there.
    """
    for name, rates in flatten(changes).items():
        if name.split(".")[-2:] != ["model", "dropout"] or not isinstance(rates, (tuple, list)):
            continue
        if any(rate in rates[:place] for place, rate in enumerate(rates)):
            raise not_different_rates(f"{where}.{name}", rates)


def _replicas(config: Config, where: str) -> None:
    seeds, rates, dropouts = config.train.seeds, config.train.learning_rate, config.model.dropout
    if (count := len(seeds) * len(rates) * len(dropouts)) > MOST_REPLICAS:
        raise UserError(
            f"{where}.train.seeds: {len(seeds)} x {len(dropouts)} dropouts x {len(rates)} "
            f"learning rates are {count:,} models; expected at most {MOST_REPLICAS:,} that are "
            "trained together: lower their number"
        )


def _epochs(config: Config, where: str) -> None:
    if config.train.max_epochs < 1 and not config.train.start_from:
        raise UserError(
            f"{where}.train.max_epochs: {config.train.max_epochs!r}; expected a positive number, "
            "or 0 together with train.start_from"
        )
    if 0 < config.train.decay_epochs < config.train.max_epochs:
        raise UserError(
            f"{where}.train.max_epochs: {config.train.max_epochs} with "
            f"train.decay_epochs={config.train.decay_epochs}, after which the learning rate is 0; "
            f"expected at most {config.train.decay_epochs}"
        )


def _new_since(config: Config, where: str) -> None:
    if config.train.new_since and not config.train.start_from:
        raise UserError(
            f"{where}.train.new_since: {config.train.new_since!r} without train.start_from; a model "
            "that starts at random must read all users: expected the earlier run in "
            "train.start_from, or an empty train.new_since"
        )


def _reduction(config: Config, where: str) -> None:
    reduction = config.knowledge.reduction
    if (reduction.kind == "none") != (reduction.width == 0):
        raise UserError(
            f"{where}.knowledge.reduction.width: {reduction.width!r} with kind "
            f"{reduction.kind!r}; expected a width for truncate and pca, and 0 for none"
        )


def _heads(config: Config, where: str) -> None:
    if config.model.features % config.model.num_heads:
        raise UserError(
            f"{where}.model.num_heads: {config.model.num_heads}; expected a divisor of "
            f"model.features={config.model.features}"
        )


def _kernels(config: Config, where: str) -> None:
    if config.kernels != "backbone":
        return
    if config.mesh.data * config.mesh.table > 1:
        mesh = f"{config.mesh.data} x {config.mesh.table}"
        raise UserError(
            f"{where}.kernels: {config.kernels!r} with a mesh of {mesh} devices; no kernel is cut into "
            "parts: expected auto or xla"
        )
    if config.model.padded_length and set(names(config.model.backbone)) - {"gru4rec"}:
        raise UserError(
            f"{where}.kernels: {config.kernels!r} with model.padded_length={config.model.padded_length}; "
            "attention over padding has no kernel: expected auto or xla"
        )


def _queries(config: Config, where: str) -> None:
    query = config.model.gate_query
    if config.tables.users != "device" and query in QUERIES_BY_INTERACTION:
        raise UserError(
            f"{where}.tables.users: {config.tables.users!r} with model.gate_query={query!r}, "
            "which has a row for every interaction; expected 'device'"
        )


RULES: tuple[Callable[[Config, str], None], ...] = (
    _replicas,
    _epochs,
    _new_since,
    _reduction,
    _heads,
    _kernels,
    _queries,
)
