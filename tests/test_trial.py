"""Choices that a run makes by itself."""

import pathlib

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.planning import sizes
from grasp_jax.training.replicas import Replica
from grasp_jax.trials.run import check, open_run, prepare
from grasp_jax.trials.trial import make_trial, preferred_replicas
from tests.refusal import assert_names, refusal


def test_validation_chooses_one_pair_of_rates_for_all_seeds() -> None:
    """Would break the protocol: rates chosen seed by seed, by their luckiest seed, one without the other, or by their place."""
    replicas = [Replica(seed, dropout, 1e-3) for dropout in (0.2, 0.5) for seed in (42, 43, 44)]
    assert preferred_replicas(replicas, np.array([0.30, 0.31, 0.32, 0.36, 0.31, 0.29])) == [
        3,
        4,
        5,
    ], "mean 0.32 against 0.31"
    assert preferred_replicas(replicas, np.array([0.30, 0.31, 0.36, 0.33, 0.31, 0.29])) == [0, 1, 2]
    assert preferred_replicas(replicas[:3], np.array([0.1, 0.2, 0.3])) == [0, 1, 2]
    replicas = [
        Replica(seed, dropout, rate)
        for rate in (1e-3, 3e-3)
        for dropout in (0.2, 0.5)
        for seed in (42, 43)
    ]
    assert preferred_replicas(
        replicas, np.array([0.40, 0.20, 0.31, 0.31, 0.30, 0.31, 0.33, 0.32])
    ) == [6, 7]
    assert preferred_replicas(
        replicas, np.array([0.40, 0.25, 0.31, 0.31, 0.30, 0.31, 0.32, 0.32])
    ) == [0, 1], "rate and dropout together"


def test_every_seed_is_trained_with_every_pair_of_rates(tmp_path: pathlib.Path) -> None:
    """A rate that the config names would not be tried, or only the first of several."""
    write_log(tmp_path)
    config = Config().with_fields(
        {
            "data.path": str(tmp_path),
            "model.method": "plain",
            "eval.num_negatives": 1,
            "train.learning_rate": (1e-3, 3e-3),
            "model.dropout": (0.2, 0.5),
            "train.seeds": (1, 2),
        }
    )
    prepared = prepare(open_run(config, tmp_path / "run"))
    replicas = make_trial(prepared, "plain", "sasrec").replicas
    assert len(set(replicas)) == len(replicas) == 8 and {
        replica.learning_rate for replica in replicas[:4]
    } == {1e-3}
    config = config.with_fields({"by_method": {"plain": {"train": {"learning_rate": 1e-2}}}})
    prepared = prepare(open_run(config, tmp_path / "run"))
    assert make_trial(prepared, "plain", "sasrec").replicas == [
        Replica(seed, rate, 1e-2) for rate in (0.2, 0.5) for seed in (1, 2)
    ]


def test_users_who_have_nearly_everything_stop_nobody(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One user with all items would block the training, or one with too few left the evaluation of all others."""
    others = "".join(
        f"{user} {1 + (user + 7 * k) % 40}\n" for user in range(3, 20) for k in range(6)
    )
    everything = "".join(
        f"1 {item}\n" for item in (*range(1, 41), 1, 2)
    )  # all 40 before the last two
    nearly = "".join(f"2 {item}\n" for item in range(1, 36))
    (tmp_path / "inter.txt").write_text(everything + nearly + others)
    config = Config().with_fields(
        {"data.path": str(tmp_path), "model.method": "plain", "eval.num_negatives": 10}
    )
    run = open_run(config, tmp_path / "run")
    check(run)
    trial = make_trial(prepare(run), "plain", "sasrec")
    said = capsys.readouterr().out
    assert (
        "2 users are not tested" in said
        and "the first is 1" in said
        and "1 users are not trained on" in said
    )
    assert (
        run.split.test.evaluated.tolist()
        == list(range(2, 19))
        == run.split.valid.evaluated.tolist()
    )
    assert trial.data.users.tolist() == list(range(1, 19)), (
        "who has nearly everything is trained on, who has everything is not"
    )
    for wanted in (39, 2**24):  # the second is not refused for the memory it would need
        config = config.with_fields({"eval.num_negatives": wanted})
        assert_names(
            refusal(check, open_run(config, tmp_path / "other")),
            (f"config.eval.num_negatives: {wanted}", "expected at most 34"),
        )


def test_a_width_that_is_not_known_yet_refuses_no_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query tables of vectors of 8 numbers would be counted with 256, the width of another encoder, and the run refused."""
    write_log(tmp_path)
    np.save(tmp_path / "items.npy", np.zeros((6, 8), np.float32))
    config = Config().with_fields(
        {
            "data.path": str(tmp_path),
            "model.gate_query": "prefix",
            "eval.num_negatives": 1,
            "knowledge.encoder": "file",
            "knowledge.item_file": "items.npy",
        }
    )
    monkeypatch.setattr(sizes, "memory_of_devices", lambda _: 1e12)
    monkeypatch.setattr(sizes, "memory_of_host", lambda: 2000.0)  # 2 tables, 15 rows, 8 numbers
    check(open_run(config, tmp_path / "run"))
    check(open_run(config.with_fields({"knowledge.item_file": "later.npy"}), tmp_path / "run"))
    known = config.with_fields({"knowledge.encoder": "lsa"})
    assert_names(refusal(check, open_run(known, tmp_path / "run")), ("config.model.gate_query",))


def write_log(folder: pathlib.Path) -> None:
    (folder / "inter.txt").write_text(
        "1 1\n1 2\n1 3\n2 2\n2 3\n2 4\n2 1\n3 1\n3 2\n3 3\n3 5\n3 6\n"
    )


@pytest.mark.parametrize(
    ("backbone", "one_item_users"),
    [("bert4rec", False), ("bert4rec", True), ("gru4rec", True), ("sasrec", True)],
)
def test_users_with_one_item_are_asked_behind_a_mask_only(
    tmp_path: pathlib.Path, backbone: str, one_item_users: bool
) -> None:
    """LLM-ESR's protocol would not be reproduced, or a causal backbone be given users that have no next item."""
    write_log(tmp_path)
    config = Config().with_fields(
        {
            "data.path": str(tmp_path),
            "model.method": "plain",
            "train.one_item_users": one_item_users,
            "eval.num_negatives": 1,
            "model.start_token": True,
        }
    )
    trial = make_trial(prepare(open_run(config, tmp_path / "run")), "plain", backbone)
    assert trial.data.users.tolist() == (
        [0, 1, 2] if one_item_users and backbone != "sasrec" else [1, 2]
    )
