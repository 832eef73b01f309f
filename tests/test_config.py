"""Defaults, the names and sections of fields, and what a config is made of."""

import json
import pickle
from typing import Any

import pytest

from grasp_jax.config import FIELDS, Config, default_config, names, resolve_field, value_of
from grasp_jax.config.checks import Choice
from grasp_jax.config_checks import check_config
from grasp_jax.knowledge.corruption import KINDS
from grasp_jax.planning.devices import DEVICES
from tests.changed_config import changed
from tests.refusal import assert_names, refusal


def test_defaults_are_valid() -> None:
    """Would break every run."""
    check_config(Config())
    check_config(Config.from_dict(default_config().to_dict()))


def test_a_method_may_have_its_own_settings() -> None:
    """Would break sweeps: every method would have one dropout, or a mistyped field be set in vain."""
    config = changed(
        "by_method", {"plain": {"model": {"dropout": (0.5,)}, "train": {"learning_rate": 3e-3}}}
    )
    plain = config.for_method("plain")
    assert (plain.model.dropout, plain.train.learning_rate, plain.model.features) == (
        (0.5,),
        (3e-3,),
        64,
    )
    assert config.for_method("llminit").model.dropout == config.model.dropout == (0.2,)
    for own, parts in (
        (
            {"model": {"droput": 1}},
            ("config.by_method.grasp.model.droput: no such field; did you mean dropout?",),
        ),
        (
            {"data": {"max_length": 5}},
            ("config.by_method.grasp.data", "all methods of a run share it"),
        ),
        (
            {"model": {"table_dtype": "float16"}},
            ("config.by_method.grasp.model.table_dtype", "all methods of a run share it"),
        ),
        (5, ("config.by_method.grasp: 5", "expected fields")),
    ):
        assert_names(refusal(changed, "by_method", {"grasp": own}), parts)


def test_a_method_is_checked_as_it_is_trained() -> None:
    """What `by_method` mends would be refused all the same, or a fault of the whole config be looked for in `by_method`."""
    given: dict[str, Any] = {"model": {"method": "sasrec_ce,grasp_plus", "mlp": (256, 128)}}
    own = {"grasp_plus": {"model": {"mlp": (256,)}}}
    check_config(Config.from_dict({**given, "by_method": own}))
    message = refusal(check_config, Config.from_dict({**given, "by_method": {}}))
    assert message.startswith("config.model.mlp: (256, 128); expected one number")
    both = {
        "model": {"method": "grasp_plus"},
        "by_method": {"grasp_plus": {"model": {"mlp": (2, 3)}}},
    }
    message = refusal(check_config, Config.from_dict(both))
    assert message.startswith("config.by_method.grasp_plus.model.mlp: (2, 3); expected one number")


@pytest.mark.parametrize("section", ["", "train", "data.synthetic"])
def test_unknown_keys_raise(section: str) -> None:
    """Would break runs: a mistyped key, set in vain. `main` locks the config, as here."""
    config = default_config().lock()
    for part in filter(None, section.split(".")):
        config = config[part]
    with pytest.raises((AttributeError, KeyError), match="learning_speed"):
        config.learning_speed = 1
    with pytest.raises(AttributeError, match="learning_speed"):
        _ = config.learning_speed


def test_unknown_keys_raise_in_config_files() -> None:
    """Would break runs: `config.data.max_lenght = 50` in a config file would be set in vain."""
    with pytest.raises(AttributeError, match="max_lenght"):
        default_config().data.max_lenght = 50


@pytest.mark.parametrize(
    "section, field, value",
    [
        ("train", "batch_size", "many"),
        ("train", "batch_size", 64.5),
        ("train", "seeds", 42),
        ("data", "name", 7),
    ],
)
def test_wrong_types_raise(section: str, field: str, value: Any) -> None:
    """Would break runs late: a value of another type than the default's is refused where it is set, by name."""
    config = default_config().lock()
    with pytest.raises(TypeError, match=field):
        config[section][field] = value


def test_a_config_goes_through_json_and_pickle() -> None:
    """A stored config would come back as another one."""
    config = Config().with_fields(
        {
            "train.seeds": (1, 2),
            "kernels": "xla",
            "by_method": {"plain": {"model": {"dropout": [0.5]}}},
        }
    )
    assert (
        Config.from_dict(json.loads(json.dumps(config.to_dict())))
        == config
        == pickle.loads(pickle.dumps(config))
    )
    assert config.model.kernels == "xla", "the model's section follows"


@pytest.mark.parametrize(
    "name, full",
    [
        ("dropout", "model.dropout"),
        ("max_epochs", "train.max_epochs"),
        ("batch_size", "train.batch_size"),
        ("kernels", "kernels"),
        ("eval.seed", "eval.seed"),
        ("plus.gate", "model.plus.gate"),
        ("plus__gate", "model.plus.gate"),
        ("encoder", "knowledge.encoder"),
    ],
)
def test_fields_by_their_last_name(name: str, full: str) -> None:
    """`Recommender(dropout=0.3)` would set another field, or none."""
    assert resolve_field(name) == full


def test_names_that_are_no_field_or_several() -> None:
    """One of several fields would be set by chance."""
    assert_names(
        refusal(resolve_field, "gate"),
        ("gate: the name of several fields; expected one of model.gate, model.plus.gate",),
    )
    assert_names(refusal(resolve_field, "seed"), ("knowledge.seed", "eval.seed"))
    assert_names(
        refusal(resolve_field, "droput"),
        ("config.droput: no such field; did you mean config.model.dropout?",),
    )
    assert_names(refusal(resolve_field, "model"), ("config.model: a section, no field",))


def test_choices_are_those_that_the_package_knows() -> None:
    """A value would be taken that no code has, or refused though there is code."""
    choices = {
        name: about.check.names for name, about in FIELDS.items() if isinstance(about.check, Choice)
    }
    assert (
        choices["plan.device"] == tuple(DEVICES) and choices["knowledge.corruption.kind"] == KINDS
    )


def test_sections_know_where_they_stand() -> None:
    """Messages would name another field."""
    assert all(about.what.endswith(".") for about in FIELDS.values())
    sections = {name.rpartition(".")[0] for name in FIELDS} - {""}
    assert all(section == value_of(Config(), section).SECTION for section in sections)


def test_names() -> None:
    """Would break lists of methods: blanks after the commas."""
    assert names("plain") == ["plain"] and names(" plain,grasp , llm_esr") == [
        "plain",
        "grasp",
        "llm_esr",
    ]
