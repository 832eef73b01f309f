"""What a caller of `Recommender` gives, checked: a config, fields by their names, and metrics."""

import os
from collections.abc import Iterable, Mapping, Sequence

from grasp_jax.config import Config, resolve_field
from grasp_jax.config.checks import shown
from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.ranking_metrics import Metric
from grasp_jax.models.backbones import BACKBONES

OF_FIT = ("workdir", "refit", "callbacks", "dataset")  # arguments of `Recommender.fit`


def as_config(config: object) -> Config:
    """The config that `Recommender` was given, or the defaults.

    Raises:
      UserError: something else was given; the message says how that is meant.
    """
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    if isinstance(config, str | os.PathLike):
        place = os.fspath(config)
        kind = "backbone" if place in BACKBONES else "method"
        is_name = isinstance(config, str) and place.isidentifier()
        meant = f"{kind}={config!r}" if is_name else f"grasp_jax.open_config({place!r})"
    else:
        meant = "grasp_jax.Config().with_fields({'model': {'dropout': 0.3}}), or fields by their names, such as dropout=0.3"
    raise UserError(
        f"Recommender: config is of type {type(config).__name__}; expected a Config: write {meant}"
    )


def fields_by_full_name(fields: Mapping[str, object]) -> dict[str, object]:
    """The values by full names of fields, "model.dropout".

    Raises:
      UserError: there is no such field, it is an argument of `fit`, or two names are of the same field.
    """
    found: dict[str, tuple[str, object]] = {}
    for name, value in fields.items():
        if name in OF_FIT:
            raise UserError(f"Recommender: {name} is an argument of fit: fit(dataset, {name}=...)")
        full = resolve_field(name)
        if full in found:
            raise UserError(
                f"Recommender: {found[full][0]} and {name} are the same field, config.{full}; leave one out"
            )
        found[full] = name, os.fspath(value) if isinstance(value, os.PathLike) else value
    return {full: value for full, (_, value) in found.items()}


def listed_metrics(metrics: object) -> Sequence[str | Metric]:
    """The metrics as a sequence; a single name or function is one of them.

    Raises:
      UserError: a metric is neither a name nor a function.
    """
    is_one = isinstance(metrics, str) or callable(metrics)
    several = metrics if isinstance(metrics, Iterable) and not is_one else (metrics,)
    listed = tuple(several)
    for metric in listed:
        if not (isinstance(metric, str) or callable(metric)):
            raise UserError(
                f"metrics: {shown(metric)}; expected a name, such as 'Recall@10', or a function of a Ranking"
            )
    return listed
