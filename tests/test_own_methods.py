"""Mistakes of a method from outside the package: each is found before its training, and named."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from grasp_jax.config import Config, ModelConfig
from grasp_jax.models import build, registration
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.id_table import IdEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Method, ModelSizes
from grasp_jax.models.own_methods import check_own_encoder
from tests.refusal import assert_names, refusal

ITEMS, FEATURES = 40, 8


class Mine(Method):
    """The plain method."""

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> ItemEncoder:
        return IdEncoder(sizes.num_items, FEATURES)


class Wider(IdEncoder):
    """Vectors that are wider than it says."""

    def item_features(self, *arguments: Any, **options: Any) -> jax.Array:
        features = super().item_features(*arguments, **options)
        return jnp.concatenate([features, features], axis=-1)


class Nothing(IdEncoder):
    """No vectors at all."""

    def item_features(self, *arguments: Any, **options: Any) -> Any:
        return None


class NoFeatures(ItemEncoder):
    """An encoder that is not complete."""


def test_a_loss_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run would prepare its texts, and end with KeyError: 'sofmax'."""
    monkeypatch.setattr(registration, "METHODS", dict(METHODS))
    wrong = type("Wrong", (Mine,), {"loss": "sofmax"})()
    message = refusal(registration.register_method, "wrong", wrong)
    assert_names(message, ("Wrong: its loss is 'sofmax'", "softmax"))
    later = type("Later", (Mine,), {"default_loss": lambda *_: "sofmax"})()
    registration.register_method("later", later)
    assert_names(refusal(later.loss_of, Config()), ("Later: its loss is 'sofmax'",))


def test_a_method_without_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NotImplementedError without words, or an AttributeError from deep within the model, would be all that its author reads."""
    empty = type("Empty", (Method,), {})()
    message = refusal(registration.register_method, "empty", empty)
    assert_names(message, ("Empty does not define encoder(config, sizes)",))
    for wrong in (None, IdEncoder):
        method = type("Wrong", (Mine,), {"encoder": lambda *_, wrong=wrong: wrong})()
        monkeypatch.setitem(build.METHODS, "wrong", method)
        sizes = ModelSizes(ITEMS, 4)
        message = refusal(build.build_model, ModelConfig(), "wrong", "sasrec", sizes)
        assert_names(message, ("method 'wrong': encoder(config, sizes) returns", "ItemEncoder"))
    with pytest.raises(NotImplementedError, match="NoFeatures does not define item_features"):
        check_own_encoder("mine", NoFeatures(), ITEMS, {}, False)


def test_shapes_of_item_vectors() -> None:
    """With five items too few, JAX trained on the last row in their place, and the run died after its training."""
    check_own_encoder("mine", IdEncoder(ITEMS, FEATURES), ITEMS, {}, False)
    message = refusal(check_own_encoder, "mine", IdEncoder(ITEMS - 5, FEATURES), ITEMS, {}, False)
    assert_names(message, ("method 'mine': IdEncoder.item_features", "(35, 8)", "40 items"))
    message = refusal(check_own_encoder, "mine", Wider(ITEMS, FEATURES), ITEMS, {}, False)
    assert_names(message, ("Wider", "(40, 16)", "expected (40, 8)", "vector_width"))
    message = refusal(check_own_encoder, "mine", Nothing(ITEMS, FEATURES), ITEMS, {}, False)
    assert_names(message, ("Nothing.item_features returns NoneType",))
    message = refusal(check_own_encoder, "mine", IdEncoder(ITEMS, FEATURES), ITEMS, {}, True)
    assert_names(
        message,
        (
            "IdEncoder.gated is False, and gated of its method True",
            "let gated of the method return False",
        ),
    )


def test_an_encoder_whose_last_layers_are_of_its_vectors() -> None:
    """A right method would be refused with words of Flax, because its features alone do not make all of its parameters."""
    sizes = ModelSizes(ITEMS, 4, width=6)
    tables = {name: jnp.zeros((ITEMS, 6)) for name in ("items", "items_similar")}
    encoder = METHODS["grasp_wo_attention"].encoder(ModelConfig(), sizes)
    check_own_encoder("mine", encoder, ITEMS, tables, False)
