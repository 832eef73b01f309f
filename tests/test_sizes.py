"""Sizes that do not fit into memory are refused by the name of their field before anything is computed; usual sizes are not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.planning.sizes import check_components, check_sizes, memory_of_devices, parameters
from tests.refusal import assert_names, refusal

USERS, ITEMS, LENGTH, GB = 2000, 1000, 10, 1e9
WIDTH = 64  # E


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
    assert_names(told, ("config.model.features: 64", "at most 23 for llminit", "has 23 numbers"))
    assert_names(refusal(check_components, config, 24, 384), ("at most 24", "there are 24 items"))
    raw = config.with_fields({"model.start_components": "raw"})
    for fine, items, width in ((config, 64, 64), (raw, 64, 8)):
        check_components(fine, items, width)
    check_components(config.with_fields({"train.start_from": "runs/earlier"}), 24, 23)
    check_components(config.with_fields({"model.method": "sasrec_ce"}), 24, 23)


TOO_MUCH: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
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
    assert parameters(config, "plain", 0, 1000) == 1000 * 64 + 2 * 6 * 64**2
    assert parameters(config, "grasp", 32, 1000) == 4 * 32 * 256 + 256 * 64 + 2 * 6 * 64**2


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"popularity", "semantic_neighbours"}))
def test_parameters_are_at_most_those_of_the_encoder(method: str) -> None:
    """A run that fits would be refused, or a method be forgotten: its own count is compared with the arrays of its encoder."""
    assert encoder_numbers(method, Config()) * 0.9 < counted(method, Config())
    assert counted(method, Config()) <= encoder_numbers(method, Config())


@pytest.mark.parametrize(
    "fields",
    [
        {"fusion": "early"},
        {"fusion": "early", "id_residual": False},
        {"id_towers": 0, "text_towers": 2},
        {"id_towers": 3, "company_towers": 0, "text_width": 8},
    ],
)
def test_parameters_of_what_grasp_plus_has(fields: dict[str, Any]) -> None:
    """Vectors of IDs were counted that a model without ID towers does not have."""
    config = Config().with_fields({f"model.plus.{name}": value for name, value in fields.items()})
    numbers = encoder_numbers("grasp_plus", config)
    assert numbers * 0.9 < counted("grasp_plus", config) <= numbers


def counted(method: str, config: Config) -> int:
    return METHODS[method].item_parameters(config.model, ModelSizes(ITEMS, 0, WIDTH))


def encoder_numbers(method: str, config: Config) -> int:
    """All numbers that the item encoder trains."""
    encoder = METHODS[method].encoder(config.model, ModelSizes(ITEMS, 0, WIDTH))
    width = getattr(encoder, "width", WIDTH)
    names = ("items", "items_similar", "text", "company")
    tables = {name: jnp.zeros((ITEMS, width)) for name in names}
    tables |= {"match": jnp.zeros((ITEMS, 1)), "trust": jnp.ones(ITEMS)}

    def vectors(encoder: ItemEncoder) -> Any:
        gates = jnp.ones((ITEMS, 3)) if encoder.gated else None
        return encoder(encoder.item_features(tables), gates)

    arrays = jax.eval_shape(lambda key: encoder.init(key, method=vectors), jax.random.key(0))
    return sum(array.size for array in jax.tree.leaves(arrays))


@pytest.mark.parametrize(
    "query, rows", [("two_fold", 22_000), ("prefix", 22_000), ("history", 2000)]
)
def test_query_tables_have_to_fit_the_host(split: Split, query: str, rows: int) -> None:
    """A table with a row for each interaction would swap the machine after hours, however large the memory of the devices is."""
    needed = 2 * rows * 64 * 4
    config = Config().with_fields({"model.gate_query": query})
    check_sizes(config, split, 64, 16 * GB, needed)
    message = refusal(check_sizes, config, split, 64, 16 * GB, needed - 1)
    assert_names(message, (f"config.model.gate_query: '{query}'", "of grasp", "'neighbours'"))
    check_sizes(config.with_fields({"model.method": "grasp_plus"}), split, 64, 16 * GB, needed - 1)


def test_places_that_do_not_fit_32_bits(split: Split) -> None:
    """Places of interactions would wrap around, and models train on other items than the users', without a word."""
    users = 1000
    offsets = np.linspace(0, 2**31 - 1 - users, users + 1).astype(np.int64)
    items = np.broadcast_to(np.int32(0), offsets[-1])  # which takes no memory
    full = dataclasses.replace(split.log, user_ids=np.arange(users), items=items, offsets=offsets)
    check(dataclasses.replace(split, log=full), 16 * GB)
    more = dataclasses.replace(full, items=np.broadcast_to(np.int32(0), offsets[-1] + 1))
    message = refusal(check, dataclasses.replace(split, log=more), 16 * GB)
    assert_names(message, ("2,147,482,648 interactions of 1,000 users", "at most 2,147,483,647"))
