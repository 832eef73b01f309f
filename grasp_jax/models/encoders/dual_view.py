"""LLM-ESR's two views of an item (Liu et al., 2024, arXiv 2405.20646): a trained ID vector and an adapted text vector, concatenated."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.id_table import id_rows
from grasp_jax.models.products import affine
from grasp_jax.parallel.rows import from_all_rows, from_rows


class DualViewEncoder(ItemEncoder):
    """Item vectors [ID | adapter(text)], 2D wide.

    The adapter is two linear layers with nothing between them, E -> E/2 -> D; their matrices are multiplied first, so that a text row is
    multiplied by one [E, D] matrix.

    Attributes:
      num_items: V.
      width: E.
      view: D, the width of one view.
      dtype: number type of the factors of the product with the text.
    """

    num_items: int
    width: int
    view: int
    dtype: jnp.dtype = jnp.float32

    @property
    def vector_width(self) -> int:
        """2D."""
        return 2 * self.view

    def setup(self) -> None:
        init = nn.initializers.lecun_normal()
        self.table = self.param(
            "table", nn.initializers.xavier_normal(), (self.num_items, self.view)
        )
        self.down = self.param("down", init, (self.width, self.width // 2))
        self.down_bias = self.param("down_bias", nn.initializers.zeros, (self.width // 2,))
        self.out = self.param("out", init, (self.width // 2, self.view))
        self.out_bias = self.param("out_bias", nn.initializers.zeros, (self.view,))

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., 2D]; the whole catalogue for None."""
        adapter = self.down @ self.out, self.down_bias @ self.out + self.out_bias
        text, adapted = (tables["items"],), functools.partial(affine, dtype=self.dtype)
        if ids is None:
            return jnp.concatenate([self.table, from_all_rows(adapted, adapter, text)], axis=-1)
        return jnp.concatenate(
            [id_rows(self.table, ids, context), from_rows(adapted, adapter, text, ids)], axis=-1
        )
