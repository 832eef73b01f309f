"""Mistakes of a method from outside the package: each is found before its training, and named."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import Config, ModelConfig
from grasp_jax.models import build, registration
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.id_table import IdEncoder
from grasp_jax.models.frozen import of_bank
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts, Method, ModelSizes
from grasp_jax.models.own_methods import (
    check_own_backbone,
    check_own_encoder,
    check_own_loss,
    check_own_model,
    tables_of,
)
from grasp_jax.parallel.mesh import TABLE, make_mesh
from grasp_jax.parallel.rows import HostRows, from_all_rows, from_rows, shard_rows
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


class WithDistance(IdEncoder):
    """Scores by distance, where other parts of the package use the inner product."""

    def score_all(
        self, features: jax.Array, states: jax.Array, gates: jax.Array | None
    ) -> jax.Array:
        return -((states[:, None] - features[None]) ** 2).sum(axis=-1)


class WithBias(IdEncoder):
    """Adds a bias to the scores, which is 0 until it is trained."""

    def setup(self) -> None:
        super().setup()
        self.bias = self.param("bias", nn.initializers.zeros, (FEATURES,))

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        return states, states @ self.bias


class Deaf(IdEncoder):
    """Ignores which items are asked for."""

    def item_features(self, *_: Any, **__: Any) -> jax.Array:
        return self.table


class FirstRows(IdEncoder):
    """Returns as many rows as are asked for, but the first ones."""

    def item_features(self, tables: Tables, ids: Any = None, *_: Any) -> jax.Array:
        shape = () if ids is None else ids.shape
        return self.table if ids is None else self.table[: ids.size].reshape(*shape, -1)


@pytest.mark.parametrize(
    ("encoder", "hook"), [(WithDistance, "score_all"), (WithBias, "last_layer")]
)
def test_scores_are_inner_products(encoder: type[IdEncoder], hook: str) -> None:
    """Training and some protocols would score by one formula, and recommend by another, without a word."""
    message = refusal(check_own_encoder, "mine", encoder(ITEMS, FEATURES), ITEMS, {}, False)
    assert_names(message, (f"{encoder.__name__}.{hook}", "inner product", "around_backbone"))


def test_an_encoder_reads_which_items_are_asked_for() -> None:
    """An encoder that ignores `ids` was trained: each item got the vector of another one."""
    message = refusal(check_own_encoder, "mine", Deaf(ITEMS, FEATURES), ITEMS, {}, False)
    assert_names(message, ("Deaf.item_features returns (40, 8) for ids of shape (8,)", "(8, 8)"))
    message = refusal(check_own_encoder, "mine", FirstRows(ITEMS, FEATURES), ITEMS, {}, False)
    assert_names(message, ("FirstRows.item_features returns other vectors", "ids=None"))


def test_an_encoder_whose_last_layers_are_of_its_vectors() -> None:
    """A right method would be refused with words of Flax, because its features alone do not make all of its parameters."""
    sizes = ModelSizes(ITEMS, 4, width=6)
    tables = {name: jnp.zeros((ITEMS, 6)) for name in ("items", "items_similar")}
    encoder = METHODS["grasp_wo_attention"].encoder(ModelConfig(), sizes)
    check_own_encoder("mine", encoder, ITEMS, tables, False)


class Many(AuxiliaryLoss):
    """A number for each user instead of one."""

    def __call__(self, tables: Tables, batch: BatchStates, *_: Any) -> jax.Array:
        return (batch.states**2).sum(axis=-1)


class TextLoss(AuxiliaryLoss):
    """Reads a table of text vectors."""

    def __call__(self, tables: Tables, batch: BatchStates, *_: Any) -> jax.Array:
        return tables["items"].sum()


class Every(Backbone):
    """Ignores which states are asked for."""

    keep: int = FEATURES

    @classmethod
    def from_config(cls, config: ModelConfig, max_length: int) -> "Every":
        return cls()

    def __call__(self, vectors: jax.Array, *_: Any) -> jax.Array:
        return vectors[..., : self.keep]


def test_an_additional_loss_is_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX would speak of gradients that are only defined for scalar outputs; a plain function would be trained."""
    message = refusal(check_own_loss, "mine", Many(), IdEncoder(ITEMS, FEATURES), {})
    assert_names(message, ("method 'mine': Many returns (2, 8)", "one number"))
    function = type("Wrong", (Mine,), {"auxiliary": lambda *_: lambda *_: 0.0})()
    monkeypatch.setitem(build.METHODS, "wrong", function)
    message = refusal(build.build_model, ModelConfig(), "wrong", "sasrec", ModelSizes(ITEMS, 4))
    assert_names(message, ("method 'wrong': auxiliary(config, sizes)", "AuxiliaryLoss, or None"))


def test_shapes_of_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Einstein sums with wrong subscripts, from deep within the model, would be all that the author of a backbone reads."""
    message = refusal(check_own_backbone, "backbone 'every'", Every(), FEATURES, 4)
    assert_names(
        message, ("backbone 'every': Every returns (2, 4, 8)", "places of shape (2,)", "(2, 8)")
    )
    message = refusal(check_own_backbone, "backbone 'every'", Every(keep=5), FEATURES, 4)
    assert_names(message, ("Every returns (2, 4, 5)", "all places", "(2, 4, 8)"))
    message = refusal(registration.register_backbone, "none", type("Half", (Backbone,), {}))
    assert_names(message, ("Half does not define from_config",))
    monkeypatch.setitem(build.BACKBONES, "nothing", type("No", (Every,), {"from_config": _nothing}))
    message = refusal(build.build_backbone, ModelConfig(), "plain", "nothing")
    assert_names(message, ("backbone 'nothing': from_config", "returns None"))


@pytest.mark.parametrize("method", ["grasp_plus", "llm_esr", "unisrec", "plain"])
def test_a_backbone_within_a_method_is_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The towers of the package would be blamed for the states of a backbone in them."""
    monkeypatch.setitem(build.BACKBONES, "every", Every)
    config, sizes = ModelConfig(features=FEATURES), ModelSizes(ITEMS, 4, width=6)
    model = build.build_model(config, method, "every", sizes)
    message = refusal(check_own_model, (method, "every"), model, ITEMS, 4, {}, False)
    assert_names(message, ("backbone 'every': Every returns (2, 4, 8)", "places of shape (2,)"))


def _nothing(*_: object) -> None:
    """What `from_config` of a class returns whose author forgot `return`."""


class Reader(IdEncoder):
    """Reads a table of text vectors."""

    def item_features(self, tables: Tables, *arguments: Any, **options: Any) -> jax.Array:
        return super().item_features(tables, *arguments, **options) + tables["items"].sum()


def test_text_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyError: 'items' would be all that is said to whoever forgot `needs_bank` or `tables`."""
    forgot = type("Forgot", (Mine,), {"tables": lambda _, bank, facts: [of_bank(bank, "items")]})()
    monkeypatch.setitem(METHODS, "mine", forgot)
    facts = Facts(ModelConfig(), np.ones(ITEMS))
    message = refusal(tables_of, "mine", {}, facts)
    assert_names(message, ("method 'mine'", "'items'", "needs_bank = True", "class Forgot"))
    reader = Reader(ITEMS, FEATURES)
    message = refusal(check_own_encoder, "mine", reader, ITEMS, {}, False)
    wanted = ("reads the table 'items'", "of_bank(bank, 'items')", "needs_bank")
    assert_names(message, ("its encoder", *wanted))
    message = refusal(check_own_loss, "mine", TextLoss(), IdEncoder(ITEMS, FEATURES), {})
    assert_names(message, ("its additional loss", *wanted))


class Projected(IdEncoder):
    """Adds projected texts, as if each device had all of them."""

    def setup(self) -> None:
        super().setup()
        self.projection = nn.Dense(FEATURES)

    def item_features(self, tables: Tables, ids: jax.Array | None = None, *_: Any) -> jax.Array:
        text = tables["items"]
        vectors = super().item_features(tables, ids)
        return vectors + self.projection(text if ids is None else text[ids])


class ByRows(IdEncoder):
    """The same where the rows are, as the message proposes."""

    def setup(self) -> None:
        super().setup()
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (6, FEATURES))

    def item_features(self, tables: Tables, ids: jax.Array | None = None, *_: Any) -> jax.Array:
        vectors, text = super().item_features(tables, ids), (tables["items"],)
        if ids is None:
            return vectors + from_all_rows(_projected, self.kernel, text)
        return vectors + from_rows(_projected, self.kernel, text, ids)


def _projected(kernel: jax.Array, rows: jax.Array) -> jax.Array:
    return rows @ kernel


class OfUsers(AuxiliaryLoss):
    """Reads text vectors of users."""

    def __call__(self, tables: Tables, batch: BatchStates, *_: Any) -> jax.Array:
        return tables["users"][batch.segments].mean()


def test_tables_that_are_split_over_devices() -> None:
    """The training would end in an error of JAX or flax about ShardedRows, a word that no author of a method knows."""
    mesh, rows = make_mesh(1, 1), np.ones((ITEMS, 6), np.float32)
    encoder, tables = Projected(ITEMS, FEATURES), {"items": jnp.asarray(rows)}
    check_own_encoder("mine", encoder, ITEMS, tables, False)
    tables = {"items": shard_rows(mesh, rows, rows.dtype, (TABLE,))}
    message = refusal(check_own_encoder, "mine", encoder, ITEMS, tables, False)
    assert_names(message, ("'mine': Projected", "'items' as one array", "config.mesh.table=1"))
    check_own_encoder("mine", ByRows(ITEMS, FEATURES), ITEMS, tables, False)
    broken = type("Broken", (Projected,), {"item_features": lambda *_: 1 / 0})(ITEMS, FEATURES)
    with pytest.raises(ZeroDivisionError):
        check_own_encoder("mine", broken, ITEMS, tables, False)
    plain = IdEncoder(ITEMS, FEATURES)
    check_own_loss("mine", OfUsers(), plain, {"users": jnp.asarray(rows)})
    on_host = {**tables, "users": HostRows(rows, rows.dtype, mesh)}
    message = refusal(check_own_loss, "mine", OfUsers(), plain, on_host)
    assert_names(message, ("OfUsers", "'users'", "config.tables.users=device", "from_rows"))
