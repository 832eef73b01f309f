"""Every field of the config with senseless values: each is refused in one line, or accepted for a reason."""

import math
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import FIELDS, Config
from grasp_jax.config.checks import Number, Numbers
from grasp_jax.config_checks import check_config
from grasp_jax.core.errors import UserError
from tests.refusal import assert_names, refusal

DEFAULTS = {name: about.default for name, about in FIELDS.items()}
ODD: tuple[Any, ...] = (
    0,
    -1,
    1,
    0.5,
    -0.5,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    "",
    "x",
    "\0",
    "x" * 10_000,
    (),
    (0,),
    (-1,),
    (math.nan,),
    ("x",),
    (None,),
    (True,),
    ((),),
    None,
    True,
    False,
    [1],
    {1},
    b"x",
    2**40,
    -(2**40),
    10**400,
    1j,
    object,
)


def checked(key: str, value: Any) -> None:
    """Looks at the defaults with one field set to a value of any type, as a config file could have built it."""
    check_config(Config.from_dict({key: value}))


def taken(key: str, value: Any) -> bool:
    """Whether the value is accepted; fails where it is neither accepted nor refused in one line that names the field."""
    try:
        checked(key, value)
    except UserError as error:
        message = str(error)
        assert (
            len(message.splitlines()) == 1 and len(message) < 600 and message.startswith("config.")
        ), (key, value, message)
        return False
    return True


def may_be(key: str, value: Any) -> bool:
    """Whether there is a reason to accept a value: the default's type, finite, not negative, and a name where one is needed."""
    default = DEFAULTS[key]
    if isinstance(default, tuple):
        several = isinstance(FIELDS[key].check, Numbers)
        value = (
            (value,) if several and isinstance(value, (int, float)) else value
        )  # a number stands for a tuple of one
        return type(value) in (tuple, list) and all(
            type(part) in ((int, float) if several else (str,)) and part == part for part in value
        )
    if isinstance(default, (bool, str)):
        return type(value) is type(default) and value not in ("\0", "x" * 10_000)
    return (
        type(value) in ((int,) if isinstance(default, int) else (int, float)) and 0 <= value < 1e300
    )


@pytest.mark.parametrize("section", sorted({key.split(".")[0] for key in DEFAULTS}))
def test_every_field_with_every_odd_value(section: str) -> None:
    """A value would end in a traceback hours later, or be taken that means nothing: nan, a negative size, True for a number."""
    for key in (key for key in DEFAULTS if key.split(".")[0] == section):
        for value in ODD:
            assert not taken(key, value) or may_be(key, value), (key, value)


def test_every_number_has_bounds_and_its_default_is_within() -> None:
    """A new field would be checked by nothing."""
    numbers = {
        key
        for key, value in DEFAULTS.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert numbers == {name for name, about in FIELDS.items() if isinstance(about.check, Number)}
    for name, about in FIELDS.items():
        assert not isinstance(about.check, Number) or math.isfinite(about.check.high)
        about.check(name, about.default, about.default)


@pytest.mark.parametrize(
    "key, value, parts",
    [
        (
            "train.seeds",
            (2**32,),
            ("expected one or more different whole numbers from 0 to 4294967295",),
        ),
        ("train.batch_size", 2**30, ("1073741824; expected at most 1,048,576",)),
        ("model.gru_layers", 1000, ("1000; expected at most 256",)),
        ("model.mlp", (10**9,), ("expected widths of hidden layers from 1 to 65,536",)),
        (
            "train.seeds",
            tuple(range(2000)),
            ("2000 x 1 dropouts x 1 learning rates are 2,000 models", "at most 1,024"),
        ),
        ("eval.full", 1, ("1; expected True or False",)),
        ("train.batch_size", True, ("True; expected a whole number",)),
        ("model.row_norm", True, ("True; expected a number",)),
        ("data.name", "x" * 10_000, ("(10,002 characters); expected at most 4,096 characters",)),
        ("knowledge.encoder", "word2vec", ("expected one of lsa, tfidf_projection",)),
        ("train.max_epochs", 0, ("0; expected a positive number",)),
    ],
)
def test_what_is_said(key: str, value: Any, parts: tuple[str, ...]) -> None:
    """The field, the value or its length, and what was expected would not be told."""
    assert_names(refusal(checked, key, value), (f"config.{key}: ", *parts))


def test_seed_at_the_upper_end_and_a_prefix_of_two_lines() -> None:
    """Values that are meant would be refused."""
    assert taken("train.seeds", (2**32 - 1,)) and taken(
        "knowledge.sentence.prefix", "Instruct: retrieve\nQuery: "
    )


def test_a_section_that_is_surplus() -> None:
    """A config of another project would fail wherever it is first read."""
    for surplus, parts in (
        (
            {"trian": {"seeds": (1,)}},
            ("config.trian.seeds: no such field; did you mean config.train.seeds?",),
        ),
        ({"train": 5}, ("config.train: a section, no field; it has start_from",)),
        ({"train": {"seeds": {"a": 1}}}, ("config.train.seeds.a: no such field",)),
    ):
        assert_names(refusal(Config.from_dict, {**Config().to_dict(), **surplus}), parts)
    assert (
        Config.from_dict({"model": {}, "train.patience": 3}).to_dict()
        == Config().with_fields({"train": {"patience": 3}}).to_dict()
    )


BY_METHOD = {
    "nan": (
        {"plain": {"model": {"row_norm": math.nan}}},
        "config.by_method.plain.model.row_norm: nan; expected a positive number",
    ),
    "True": (
        {"plain": {"model": {"dropout": True}}},
        "config.by_method.plain.model.dropout: (True,); expected a tuple of floats",
    ),
    "text": ({"plain": {"train": {"learning_rate": "fast"}}}, "config.by_method.plain"),
    "no fields": ({"plain": 5}, "config.by_method.plain: 5; expected fields"),
    "section": ({"plain": {"model": 5}}, "config.by_method.plain"),
    "unknown": ({"magic": {"model": {"features": 5}}}, "config.by_method.magic: no such method"),
}


@pytest.mark.parametrize("fault", BY_METHOD)
def test_values_of_a_method(fault: str) -> None:
    """What `by_method` holds would be checked less than the rest."""
    changes, message = BY_METHOD[fault]
    assert message in refusal(checked, "by_method", changes)


def test_numbers_of_numpy_are_numbers() -> None:
    """Grids and lists of seeds that are made with NumPy would be refused, with the words "expected a whole number"."""
    given = {
        "model": {"features": np.int64(32), "dropout": np.float32(0.5), "plus": {"id_towers": 1}},
        "train": {
            "seeds": list(np.arange(3)),
            "learning_rate": (np.float64(0.5), np.float32(0.25)),
        },
    }
    config = Config.from_dict(given)
    values = (config.model.features, *config.train.seeds, *config.train.learning_rate)
    assert values == (32, 0, 1, 2, 0.5, 0.25) and config.model.dropout == (0.5,)
    assert {type(value) for value in values} == {int, float}
    assert_names(
        refusal(Config.from_dict, {"model": {"features": np.bool_(True)}}),
        ("config.model.features: True", "expected a whole number"),
    )
