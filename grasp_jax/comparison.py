"""Whether one recommender ranks better than another: `compare`."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grasp_jax.api import Recommender
from grasp_jax.core.errors import UserError
from grasp_jax.core.frames import rows_as_frame
from grasp_jax.data.dataset import Dataset
from grasp_jax.evaluation import significance
from grasp_jax.evaluation.untrained import trial_label

SAME = (
    "eval.full",
    "eval.seed",
    "eval.num_negatives",
    "eval.full_users",
    "eval.include_short_users",
    "data.split",
)


def compare(models: Iterable[Recommender], dataset: Dataset | None = None) -> Any:
    """Compares every pair of recommenders on the same test users: paired tests with Holm's correction, and bootstrap intervals.

    The sample consists of the users; for recommenders with several seeds, of users and seeds.

    Args:
      models: two recommenders or more.
      dataset: data on which models are fitted that are not fitted yet.

    Returns:
      A frame with a row for each pair and protocol: protocol, first, second, difference (mean NDCG@10 of the second minus that of the
      first), low and high (95 % interval), p_value, and seeds (the smaller number of seeds of the two). p_value is corrected by Holm's
      method for the pairs of its protocol; the intervals are not corrected.

    Raises:
      UserError: there are fewer than two models, one is no `Recommender` or not fitted, or they were tested on different data or with
        different rules.
    """
    models = _recommenders(models)
    if dataset is not None and not isinstance(dataset, Dataset):
        raise UserError(f"compare: dataset is of type {type(dataset).__name__}; expected a Dataset")
    if len(models) < 2:
        raise UserError(f"compare: {len(models)} models; expected two or more")
    from grasp_jax.config import value_of
    from grasp_jax.fitting import evaluate

    gains, first = {}, None
    for number, model in enumerate(models):
        fitted = model.fitted_on(dataset)
        run = fitted.validated.trial.run
        rules = {"the data": run.fingerprint} | {
            f"config.{name}": value_of(run.config, name) for name in SAME
        }
        first = first or rules
        if different := [name for name in rules if rules[name] != first[name]]:
            raise UserError(
                f"compare: models[{number}] was evaluated differently from models[0]: {different[0]} differs; use one value for all"
            )
        name = trial_label(model.method, model.backbone)
        gains[name if name not in gains else f"{name} ({number})"] = evaluate(fitted).gains
    rows = []
    for protocol in next(iter(gains.values())):
        pairs = significance.compare({name: own[protocol] for name, own in gains.items()})
        rows += [{"protocol": protocol, **dataclasses.asdict(pair)} for pair in pairs]
    return rows_as_frame(rows)


def _recommenders(models: object) -> Sequence[Recommender]:
    """The models as a sequence.

    Raises:
      UserError: something else than recommenders was given.
    """
    if isinstance(models, Mapping | str) or not isinstance(models, Iterable):
        raise UserError(
            f"compare: models is of type {type(models).__name__}; expected a list of Recommenders: compare([first, second], dataset)"
        )
    listed = tuple(models)
    for number, model in enumerate(listed):
        if not isinstance(model, Recommender):
            raise UserError(
                f"compare: models[{number}] is of type {type(model).__name__}; expected a Recommender, such as Recommender(method='grasp')"
            )
    return listed
