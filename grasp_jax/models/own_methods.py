"""Checks of a method from outside the package, whose mistakes would otherwise show after its training or not at all."""

from typing import Any

import jax

from grasp_jax.core.errors import UserError
from grasp_jax.models.batch import Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.registration import OF_PACKAGE


def check_own_encoder(
    method: str, encoder: ItemEncoder, num_items: int, tables: Tables, gated: bool
) -> None:
    """Checks the shapes of the item vectors of a method that is not one of the package; nothing is computed.

    Args:
      method: its name.
      encoder: its item encoder.
      num_items: V.
      tables: the frozen tables that it reads.
      gated: `Method.gated`, by which the query tables are made.

    Raises:
      UserError: the encoder and its method differ on whether it has gates, the features of the whole catalogue do not have one row for each
        item, or vectors do not have the width that the encoder says. JAX does not refuse a row that does not exist: it would train on the
        last one instead.
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
        return encoder.init_with_output(key, tables, method=both)[0]

    features, vectors = jax.eval_shape(shapes, jax.random.key(0), tables)
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
