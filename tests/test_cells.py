"""What a run decides for itself."""

import pathlib

import numpy as np
import pytest

from grasp_jax.cells import make_cell, preferred_members
from grasp_jax.config import default_config
from grasp_jax.experiment import Experiment
from grasp_jax.training.loop import Member


def test_validation_chooses_one_dropout_for_all_seeds() -> None:
    """Would break the protocol: a rate chosen seed by seed, by its luckiest seed, or by its place in the config."""
    members = [Member(seed, rate) for rate in (0.2, 0.5) for seed in (42, 43, 44)]
    assert preferred_members(members, np.array([0.30, 0.31, 0.32, 0.36, 0.31, 0.29])) == [3, 4, 5], "mean 0.32 against 0.31"
    assert preferred_members(members, np.array([0.30, 0.31, 0.36, 0.33, 0.31, 0.29])) == [0, 1, 2]
    assert preferred_members(members[:3], np.array([0.1, 0.2, 0.3])) == [0, 1, 2]


@pytest.mark.parametrize(("backbone", "one_item_users"), [("bert4rec", False), ("bert4rec", True), ("gru4rec", True), ("sasrec", True)])
def test_users_with_one_item_are_asked_behind_a_mask_only(tmp_path: pathlib.Path, backbone: str, one_item_users: bool) -> None:
    """LLM-ESR's protocol would not be reproduced, or a causal backbone be given users that have no next item."""
    (tmp_path / "inter.txt").write_text("1 1\n1 2\n1 3\n2 2\n2 3\n2 4\n2 1\n3 1\n3 2\n3 3\n3 5\n3 6\n")
    config = default_config()
    config.data.path, config.model.method, config.train.one_item_users = str(tmp_path), "plain", one_item_users
    config.eval.num_negatives, config.model.start_token = 1, True
    cell = make_cell(Experiment(config, tmp_path / "run"), "plain", backbone)
    assert cell.data.users.tolist() == ([0, 1, 2] if one_item_users and backbone != "sasrec" else [1, 2])
