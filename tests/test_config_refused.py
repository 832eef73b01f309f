"""Values of a config that are refused before any work is done, in one line."""

from typing import Any

import pytest

from grasp_jax.config import Config
from grasp_jax.config_checks import check_config
from tests.changed_config import checked
from tests.refusal import assert_names, refusal


@pytest.mark.parametrize("section", ["describe", "embed"])
def test_keys_in_a_config_are_refused_and_not_shown(section: str) -> None:
    """Would break secrecy: a key would stand in config.json, or in the error itself."""
    for field, value in (
        ("base_url", "http://host/v1?api_key=SECRET1"),
        ("key_variable", "sk-SECRET1"),
    ):
        message = refusal(checked, {f"knowledge.{section}.{field}": value})
        assert (
            message.startswith(f"config.knowledge.{section}.{field}: ") and "SECRET1" not in message
        )


REFUSED = {
    "data.source": ("web", "'web'; expected one of files, synthetic, amazon, auto"),
    "knowledge.dtype": ("float64", "'float64'; expected one of float32, float16, bfloat16"),
    "knowledge.reduction.kind": ("svd", "'svd'; expected one of none, truncate, pca"),
    "knowledge.reduction.width": (8, "8 with kind 'none'; expected a width for truncate and pca"),
    "knowledge.retrieval": ("faiss", "'faiss'; expected one of exact, clusters, scann"),
    "model.gate": ("sigmoid", "'sigmoid'; expected one of paper, learned, none, softmax"),
    "model.dtype": ("float64", "'float64'; expected one of float32, bfloat16"),
    "model.table_dtype": ("int8", "'int8'; expected one of float32, float16, bfloat16"),
    "model.projection": ("both", "'both'; expected one of auto, token, table"),
    "data.max_length": (0, "0; expected a positive number"),
    "data.synthetic.num_items": (50, "50; expected at least 100"),
    "train.learning_rate": ((), "(); expected one or more different positive numbers"),
    "eval.num_negatives": (-100, "-100; expected a positive number"),
    "recommend.top_n": (0, "0; expected a positive number"),
    "train.seeds": ((), "(); expected one or more different whole numbers from 0"),
    "knowledge.audit.duplicate_cosine": (1.5, "1.5; expected a cosine, at most 1"),
    "knowledge.audit.pairs": (0, "0; expected a positive number"),
    "knowledge.audit.history_groups": ((), "(); expected one or more lengths from 1"),
    "model.dropout": ((), "(); expected one or more different rates from 0 to below 1"),
    "model.num_heads": (3, "3; expected a divisor of model.features=64"),
    "model.method": (
        "plain, magic",
        "'magic'; expected one of popularity, semantic_neighbours, plain",
    ),
    "model.backbone": (
        "rnn",
        "'rnn'; expected one of sasrec, bert4rec",
    ),
}


def test_an_own_method_that_is_not_registered_is_told_how() -> None:
    """Who asks a workdir of a method of their own would read a list of other methods and not learn what is missing."""
    config = Config().with_fields({"model.method": "mine"})
    assert_names(refusal(check_config, config), ("'mine'", "of your own", "--config=FILE"))


def test_a_method_with_a_slip_in_its_name_is_suggested() -> None:
    """Who writes a dash for an underscore would have to find it in a list of 19 names."""
    config = Config().with_fields({"model.method": "sasrec_ce,grasp-plus"})
    assert_names(
        refusal(check_config, config), ("'grasp-plus'; did you mean grasp_plus? expected",)
    )


REFUSED_TUPLES = [
    ("model.dropout", (0.1, 0.1), "(0.1, 0.1); expected one or more different rates from 0"),
    ("train.learning_rate", (-1e-3,), "(-0.001,); expected one or more different positive numbers"),
    (
        "train.learning_rate",
        (1e-3, 1e-3),
        "(0.001, 0.001); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        (1e-3, float("inf")),
        "(0.001, inf); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        (float("nan"),),
        "(nan,); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        ("1e-3",),
        "('1e-3',); expected a tuple of floats, such as (1e-3,3e-3)",
    ),
    ("train.seeds", ("a",), "('a',); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (1.5,), "(1.5,); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (True,), "(True,); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (42, 42), "(42, 42); expected one or more different whole numbers from 0"),
    ("train.seeds", (-1,), "(-1,); expected one or more different whole numbers from 0"),
    (
        "knowledge.audit.history_groups",
        (3, 3),
        "(3, 3); expected one or more lengths from 1, each above the last",
    ),
    ("knowledge.audit.history_groups", (0, 3), "(0, 3); expected one or more lengths from 1"),
    (
        "knowledge.audit.history_groups",
        ("3",),
        "('3',); expected a tuple of ints, such as (3,5,10,20)",
    ),
    ("model.mlp", ("256",), "('256',); expected a tuple of ints, such as (256,)"),
    ("model.dropout", ("0.2",), "('0.2',); expected a tuple of floats, such as (0.2,0.5)"),
    (
        "model.dropout",
        (0.2, 1.0),
        "(0.2, 1.0); expected one or more different rates from 0 to below 1",
    ),
    ("model.dropout", (-0.1,), "(-0.1,); expected one or more different rates from 0 to below 1"),
    (
        "model.dropout",
        (float("nan"),),
        "(nan,); expected one or more different rates from 0 to below 1",
    ),
]


@pytest.mark.parametrize(
    "key, value, message", [*((key, *case) for key, case in REFUSED.items()), *REFUSED_TUPLES]
)
def test_values_that_no_stage_could_use(key: str, value: Any, message: str) -> None:
    """A run would fail late, or train something else than the config says, instead of one line with key, value and what was expected."""
    assert refusal(checked, {key: value}).startswith(f"config.{key}: {message}")


def test_values_at_the_edge_are_taken() -> None:
    """Would break legitimate runs: a linear MLP, no dropout, seed 0, whole numbers as rates, several methods."""
    for key, value in {
        "model.mlp": (),
        "model.dropout": (0, 0.5),
        "train.seeds": (0, 1),
        "model.method": "plain, grasp",
        "model.num_heads": 4,
        "train.learning_rate": (1, 1e-3),
        "data.max_length": 1,
    }.items():
        checked({key: value})


@pytest.mark.parametrize(
    "key, value",
    [
        ("model.mlp", (0,)),
        ("model.mlp", (-3,)),
        ("model.mlp", None),
        ("model.method", "grasp,grasp"),
        ("model.backbone", "sasrec, sasrec"),
        ("eval.full_users", -1),
        ("data.tail_item_below", -2),
        ("data.min_rating", float("nan")),
        ("train.checkpoint_seconds", -1.0),
    ],
)
def test_values_that_would_fail_late(key: str, value: Any) -> None:
    """Would break runs late: an MLP of no or negative width, one model trained twice into one folder."""
    assert f"config.{key}" in refusal(checked, {key: value})


def test_a_form_of_layer_that_is_gone_names_its_replacement() -> None:
    """A config of an earlier version would be refused with two names, and nobody know which to take."""
    message = refusal(Config().with_fields, {"model.block": "gpt"})
    assert_names(message, ("config.model.block: 'gpt'", "its replacement is prenorm"))
