"""Mean and 95 % interval of NDCG@10 of each trial: users resampled and, of several, seeds."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from grasp_jax.evaluation.significance import LEVEL, bootstrap_means
from grasp_jax.evaluation.users_and_seeds import interval_of_pair
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values


@dataclasses.dataclass(frozen=True)
class Interval:
    """NDCG@10 of a trial in percent; `low` and `high` are None where the ranks of its users are no longer there."""

    method: str
    backbone: str
    mean: float
    low: float | None
    high: float | None


def intervals(run: FinishedRun, protocol: str) -> list[Interval]:
    """The intervals of every trial that the protocol measured, in the run's order.

    Trials of one run have the same test users, so one set of resamples serves all of them.
    """
    measured = [
        trial for trial in trials(run) if len(values(run, *trial, protocol, "all", "NDCG@10"))
    ]
    gains = {
        trial: own for trial in measured if (own := run.gains.get((*trial, protocol))) is not None
    }
    same = {own.shape[1] for own in gains.values()}
    if len(same) > 1:  # of runs of earlier versions: nothing to resample together
        gains = {}
    draws = _resampled(list(gains.values()))
    found = []
    for method, backbone in measured:
        mean = float(values(run, method, backbone, protocol, "all", "NDCG@10").mean())
        low = high = None
        if (own := gains.get((method, backbone))) is not None:
            of_users = draws[:, list(gains).index((method, backbone))]
            nothing = np.zeros((1, own.shape[1]))
            low, high = interval_of_pair(nothing, own, of_users, LEVEL)
            low, high = 100 * low, 100 * high
        found.append(Interval(method, backbone, mean, low, high))
    return found


def _resampled(gains: Sequence[np.ndarray]) -> np.ndarray:
    """[R, trials] means of resampled users, seeds averaged."""
    if not gains:
        return np.empty((0, 0))
    return bootstrap_means(np.stack([own.mean(axis=0) for own in gains], axis=1))
