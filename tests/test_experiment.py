"""What a run decides for itself."""

import numpy as np

from grasp_jax.experiment import preferred_members
from grasp_jax.training.loop import Member


def test_validation_chooses_one_dropout_for_all_seeds() -> None:
    """Would break the protocol: a rate chosen seed by seed, by its luckiest seed, or by its place in the config."""
    members = [Member(seed, rate) for rate in (0.2, 0.5) for seed in (42, 43, 44)]
    assert preferred_members(members, np.array([0.30, 0.31, 0.32, 0.36, 0.31, 0.29])) == [3, 4, 5], "mean 0.32 against 0.31"
    assert preferred_members(members, np.array([0.30, 0.31, 0.36, 0.33, 0.31, 0.29])) == [0, 1, 2]
    assert preferred_members(members[:3], np.array([0.1, 0.2, 0.3])) == [0, 1, 2]
