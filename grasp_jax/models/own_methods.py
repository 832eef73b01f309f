"""Checks of methods and backbones from outside the package, whose mistakes would otherwise show after the training or not at all."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from grasp_jax.core.errors import UserError
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates, DrawnNegatives
from grasp_jax.models.backbones.base import Backbone, BackboneWrapper
from grasp_jax.models.backbones.dual_view import DualView
from grasp_jax.models.backbones.towers import Towers
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.frozen import ITEM_TABLES, USER_TABLES, Bank, FrozenTable
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts, Method
from grasp_jax.models.registration import OF_PACKAGE
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.models.split_tables import shapes_of

BANK_TABLES = (*ITEM_TABLES, *USER_TABLES)
ROWS, USERS, ITEMS = 2, 4, 8  # of the small input with which values are compared
# in relation to the largest value: far more than rounding, far less than another formula
TOLERANCE = 0.02
NOISE = 0.3  # added to parameters, because a term whose parameters start at 0 would not show


def check_own_model(
    names: tuple[str, str],
    model: SequenceModel,
    num_items: int,
    length: int,
    tables: Tables,
    gated: bool,
) -> None:
    """Checks the parts of a model that are not of the package; a model of the package is not looked at.

    Args:
      names: of its method and its backbone.
      model: the model.
      num_items: V.
      length: L, places of a packed row.
      tables: the frozen tables of the method.
      gated: `Method.gated`, by which the query tables are made.

    Raises:
      UserError: a part has a mistake, as the functions below say.
    """
    method, backbone = names
    check_own_encoder(method, model.encoder, num_items, tables, gated)
    around = type(METHODS[method]).around_backbone is not Method.around_backbone
    whole, width = model.backbone, model.encoder.vector_width
    of_package = type(whole).__module__.startswith("grasp_jax.")
    if backbone not in OF_PACKAGE and of_package and isinstance(whole, BackboneWrapper):
        # alone first, because what the wrapper does with wrong states would be blamed on the wrapper
        narrow = whole.features if isinstance(whole, Towers | DualView) else width
        check_own_backbone(f"backbone {backbone!r}", whole.backbone, narrow, length)
    if backbone not in OF_PACKAGE or (method not in OF_PACKAGE and around):
        name = (
            f"method {method!r} with backbone {backbone!r}" if around else f"backbone {backbone!r}"
        )
        check_own_backbone(name, whole, width, length)
    if method not in OF_PACKAGE and model.auxiliary is not None:
        check_own_loss(method, model.auxiliary, model.encoder, tables)


def check_own_backbone(name: str, backbone: Backbone, width: int, length: int) -> None:
    """Checks the shapes of the states of a backbone; nothing is computed.

    Args:
      name: whose it is, for the message.
      backbone: what turns item vectors into states, with all that a method puts around it.
      width: D of the item vectors, and so of the states.
      length: L.

    Raises:
      UserError: there is not one state of this width for each place, or not one for each of the `places` that are asked for.
    """
    rows = jax.ShapeDtypeStruct((ROWS, length), jnp.int32)
    vectors = jax.ShapeDtypeStruct((ROWS, length, width), jnp.float32)
    few = jax.ShapeDtypeStruct((ROWS,), jnp.int32)

    def states(key: jax.Array, *arguments: Any) -> Any:
        vectors, rows, places = arguments
        return backbone.init_with_output(key, vectors, rows, rows, None, places)[0]

    for places, expected in ((None, vectors.shape), (few, (ROWS, width))):
        found = jax.eval_shape(states, jax.random.key(0), vectors, rows, places)
        if getattr(found, "shape", None) != expected:
            returned = getattr(found, "shape", type(found).__name__)
            asked = "all places" if places is None else f"places of shape {few.shape}"
            raise UserError(
                f"{name}: {type(backbone).__name__} returns {returned} for item vectors of shape {vectors.shape} and {asked}; "
                f"expected states of shape {expected}"
            )


def check_own_loss(method: str, loss: AuxiliaryLoss, encoder: ItemEncoder, tables: Tables) -> None:
    """Checks that an additional loss is one number; nothing is computed.

    Args:
      method: the method's name.
      loss: what `Method.auxiliary` returns.
      encoder: the method's encoder.
      tables: the frozen tables of the method.

    Raises:
      UserError: it is something else, or the loss reads a table that the method does not return.
    """

    def value(key: jax.Array, tables: Tables) -> Any:
        rows = jnp.zeros((ROWS, ITEMS), jnp.int32)
        vectors = jnp.zeros((ROWS, ITEMS, encoder.vector_width))
        drawn = DrawnNegatives(rows[0], vectors[0], rows[0] == 0)
        batch = BatchStates(rows, vectors, rows, vectors, None if encoder.gated else drawn)
        return loss.init_with_output(key, tables, batch)[0]

    name = f"method {method!r}: {type(loss).__name__}"
    with _missing_tables_named(method, "additional loss", tables):
        found = shapes_of(name, value, jax.random.key(0), tables)
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        returned = getattr(found, "shape", type(found).__name__)
        raise UserError(
            f"{name} returns {returned} for a batch; expected one number, a float without axes"
        )


def tables_of(method: str, bank: Bank, facts: Facts) -> list[FrozenTable]:
    """`Method.tables` of a method.

    Raises:
      UserError: a method from outside the package reads text vectors, and does not say that it needs them.
    """
    try:
        return [*METHODS[method].tables(bank, facts)]
    except KeyError as error:
        missing = error.args[:1] in {(name,) for name in BANK_TABLES}
        if method in OF_PACKAGE or METHODS[method].needs_bank or not missing:
            raise
        raise UserError(
            f"method {method!r}: tables(bank, facts) reads {error.args[0]!r} of the knowledge bank; set needs_bank = True "
            f"in the class {type(METHODS[method]).__name__}"
        ) from error


@contextlib.contextmanager
def _missing_tables_named(method: str, part: str, tables: Tables) -> Iterator[None]:
    """Names what to do about a table that a part of a method reads and the method does not return."""
    try:
        yield
    except KeyError as error:
        if error.args[:1] not in {(name,) for name in BANK_TABLES} or error.args[0] in tables:
            raise
        first = "" if METHODS[method].needs_bank else "set needs_bank = True and "
        raise UserError(
            f"method {method!r}: its {part} reads the table {error.args[0]!r}; {first}let tables(bank, facts) of the class "
            f"{type(METHODS[method]).__name__} return it: [of_bank(bank, {error.args[0]!r})]"
        ) from error


def check_own_encoder(
    method: str, encoder: ItemEncoder, num_items: int, tables: Tables, gated: bool
) -> None:
    """Checks the item vectors and scores of a method that is not one of the package.

    Args:
      method: its name.
      encoder: its item encoder.
      num_items: V.
      tables: the frozen tables that it reads.
      gated: `Method.gated`, by which the query tables are made.

    Raises:
      UserError: the encoder and its method differ on whether it has gates, the features of the whole catalogue do not have one row for each
        item, those of some items are not the same rows, vectors do not have the width that the encoder says, scores are not inner products,
        or the encoder needs a whole table whose rows are split. JAX does not refuse a row that does not exist: it would train on the last
        one instead.
    """
    if method in OF_PACKAGE:
        return
    name = f"method {method!r}: {type(encoder).__name__}"
    if encoder.gated != gated:
        raise UserError(
            f"{name}.gated is {encoder.gated}, and gated of its method {gated}; expected the same of both: let gated of the method return "
            f"{encoder.gated}, or give it another encoder"
        )

    def both(encoder: ItemEncoder, tables: Tables) -> tuple[Any, Any]:
        features = encoder.item_features(tables)
        # the vectors of gated methods depend on the user too
        return features, None if encoder.gated else encoder(features, None)

    def shapes(key: jax.Array, tables: Tables) -> Any:
        return encoder.init_with_output(key, tables, method=both)

    with _missing_tables_named(method, "encoder", tables):
        (features, vectors), variables = shapes_of(name, shapes, jax.random.key(0), tables)
    is_array = isinstance(features, jax.ShapeDtypeStruct)
    if not is_array or features.shape[:1] != (num_items,):
        returned = features.shape if is_array else type(features).__name__
        raise UserError(
            f"{name}.item_features returns {returned} for the whole catalogue (ids=None); expected a row for each of {num_items} items"
        )
    if vectors is not None and vectors.shape != (num_items, encoder.vector_width):
        raise UserError(
            f"{name} gives item vectors of shape {vectors.shape}; expected ({num_items}, {encoder.vector_width}), as its vector_width says"
        )
    _check_rows_of_items(name, encoder, variables, features, tables)
    _check_values(name, encoder, num_items, tables)


def _check_rows_of_items(
    name: str, encoder: ItemEncoder, variables: Any, features: Any, tables: Tables
) -> None:
    """Checks the shape of the features of some items; `variables` and `features` [V, ...] are descriptions of arrays."""

    def of(given: tuple[Any, jax.Array], tables: Tables) -> Any:
        variables, ids = given
        return encoder.apply(variables, tables, ids, method="item_features")

    for axes in ((ITEMS,), (2, ITEMS // 2)):
        ids = jax.ShapeDtypeStruct(axes, jnp.int32)
        found = shapes_of(name, of, (variables, ids), tables)
        expected = (*axes, *features.shape[1:])
        if getattr(found, "shape", None) != expected:
            returned = getattr(found, "shape", type(found).__name__)
            raise UserError(
                f"{name}.item_features returns {returned} for ids of shape {axes}; expected {expected}, the rows of these items alone"
            )


def _check_values(name: str, encoder: ItemEncoder, num_items: int, tables: Tables) -> None:
    """Checks the rows of some items and the scores of some pairs, with parameters near those with which training starts."""

    def both(encoder: ItemEncoder, tables: Tables) -> None:
        features = encoder.item_features(tables)
        if not encoder.gated:
            encoder(features, None)

    def differences(key: jax.Array, tables: Tables) -> dict[str, jax.Array]:
        params = encoder.init(key, tables, method=both).get("params", {})
        bound = encoder.bind({"params": _moved(params)})
        ids = jax.random.randint(key, (ITEMS,), 0, num_items)
        expected = bound.item_features(tables)[ids]
        flat = bound.item_features(tables, ids)
        pairs = bound.item_features(tables, ids.reshape(2, -1)).reshape(flat.shape)
        found = {"item_features": jnp.maximum(_apart(flat, expected), _apart(pairs, expected))}
        return found if encoder.gated else found | _apart_of_scores(bound, expected, key)

    with jax.default_matmul_precision("highest"):
        found = jax.jit(differences)(jax.random.key(1), tables)
    if found.pop("item_features") > TOLERANCE:
        raise UserError(
            f"{name}.item_features returns other vectors for ids than for the whole catalogue (ids=None); expected the rows of these items"
        )
    for hook, apart in found.items():
        if apart > TOLERANCE:
            raise UserError(
                f"{name}.{hook} does not give the inner product of state and item vector, by which training scores; leave it out. "
                "For a bias or another distance, widen the item vectors, and the states by around_backbone"
            )


def _apart_of_scores(
    encoder: ItemEncoder, features: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """How far the scores of each way of scoring are from inner products, for features [C, ...] of an encoder without gates."""
    vectors = encoder(features, None)
    states = jax.random.normal(key, (USERS, encoder.vector_width))
    products = states @ vectors.T
    weights, offset = encoder.last_layer(states)
    through_layer = weights @ encoder.head_input(features, None).T + offset[:, None]
    return {
        "score_all": _apart(encoder.score_all(features, states, None), products),
        "last_layer": _apart(through_layer, products),
    }


def _apart(found: jax.Array, expected: jax.Array) -> jax.Array:
    """The largest difference, in relation to the largest value."""
    return jnp.abs(found - expected).max() / jnp.maximum(jnp.abs(expected).max(), 1e-6)


def _moved(params: Params) -> Params:
    """Parameters with noise."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved: Params = jax.tree.unflatten(
        structure,
        [
            leaf + NOISE * jax.random.normal(key, leaf.shape, leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ],
    )
    return moved
