"""Sizes that do not fit into memory are refused by the name of their field before anything is computed; usual sizes are not."""

from typing import Any

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.methods import METHODS
from grasp_jax.planning.sizes import check_components, check_sizes, memory_of_devices, parameters
from tests.refusal import assert_names, refusal

USERS, ITEMS, LENGTH, GB = 2000, 1000, 10, 1e9


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(0)
    items = rng.integers(0, ITEMS, USERS * LENGTH).astype(np.int32)
    log = InteractionLog(
        "some",
        np.arange(USERS),
        np.arange(ITEMS),
        items,
        np.arange(USERS + 1, dtype=np.int64) * LENGTH,
    )
    return leave_one_out(log, 100)


def check(split: Split, memory: float, **fields: Any) -> None:
    config = Config().with_fields(
        {name.replace("__", "."): value for name, value in fields.items()}
    )
    check_sizes(config, split, 64, memory)


def test_defaults_fit_wherever_there_is_a_gigabyte(split: Split) -> None:
    """Legitimate runs would be refused, for any method."""
    check(split, GB, model__method=",".join(METHODS), model__backbone="sasrec,gru4rec,bert4rec")
    assert memory_of_devices(1) > GB


def test_more_features_than_components() -> None:
    """The second trial of a small shop would be refused after the first one was trained."""
    config = Config().with_fields({"model.method": "sasrec_ce,llminit", "model.features": 64})
    told = refusal(check_components, config, 24, 23)
    assert_names(told, ("config.model.features: 64", "at most 23 for llminit", "24 items"))
    raw = config.with_fields({"model.start_components": "raw"})
    for fine, items, width in ((config, 64, 64), (raw, 64, 8)):
        check_components(fine, items, width)
    check_components(config.with_fields({"train.start_from": "runs/earlier"}), 24, 23)
    check_components(config.with_fields({"model.method": "sasrec_ce"}), 24, 23)


TOO_MUCH: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "negatives beyond the catalogue": (
        {"eval__num_negatives": 1000},
        ("1000; expected at most 990", "1000 items, and a user has had 10", "num_negatives=990"),
    ),
    "shared negatives beyond it": (
        {
            "model__method": "grasp_plus",
            "model__plus__fusion": "early",
            "train__shared_negatives": 1001,
        },
        ("config.train.shared_negatives: 1001", "grasp_plus", "softmax", "expected at most 1000"),
    ),
    "a wide model": (
        {"model__features": 65_536},
        ("config.model.features: 65536", "GB", "expected at most 16.0 GB", "lower it"),
    ),
    "a wide MLP": (
        {"model__mlp": (65_536, 65_536)},
        ("config.model.mlp: (65536, 65536)", "parameters of grasp"),
    ),
    "many models": (
        {"model__features": 1024, "train__seeds": tuple(range(1000))},
        ("config.train.seeds: (0, 1,", "parameters of grasp", "GB"),
    ),
    "negatives of a target": (
        {"train__negatives": 1_000_000, "train__batch_size": 2000},
        ("config.train.negatives: 1000000", "a step's negatives"),
    ),
    "padding": (
        {"model__padded_length": 60_000, "train__batch_size": 2000},
        ("config.model.padded_length: 60000", "hidden states"),
    ),
}


@pytest.mark.parametrize("fault", TOO_MUCH)
def test_what_is_refused(split: Split, fault: str) -> None:
    """An allocation of hundreds of gigabytes would fail after hours, or make the machine swap; the field to lower is named."""
    fields, parts = TOO_MUCH[fault]
    assert_names(refusal(check, split, 16 * GB, **fields), parts)


def test_shared_negatives_that_nobody_draws(split: Split) -> None:
    """The default would keep methods that do not share negatives from small data."""
    check(split, GB, model__method="plain,grasp", train__shared_negatives=5000)
    for fields in ({"train__loss": "ce"}, {"train__negatives_drawn": "in_batch"}):
        fields |= {"model__plus__fusion": "early"}
        check(split, GB, model__method="grasp_plus", train__shared_negatives=5000, **fields)


def test_parameters_are_counted_by_hand() -> None:
    """The estimate would be of something else: two blocks of six D x D matrices; V x D / 2 of ids; E x H + H x D of text."""
    config = Config()
    assert parameters(config, "plain", 0, 1000) == 1000 * 64 / 2 + 2 * 6 * 64**2
    assert parameters(config, "grasp", 32, 1000) == 32 * 256 + 256 * 64 + 2 * 6 * 64**2
