"""The two plain ways to join a trained ID vector e and a linear map of a text vector, Wx + b: their sum, and their concatenation.

A concatenation [e | Wx + b] is mapped to D by one more matrix, so that backbone, states and served vectors are as wide as those of any
other method.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.id_table import id_rows
from grasp_jax.models.products import affine
from grasp_jax.parallel.rows import from_all_rows, from_rows


class IdTextEncoder(ItemEncoder):
    """Item vectors e + Wx + b; or, joined by concatenation, [e | Wx + b] A + a.

    The text's matrices are multiplied first, so that a text row is multiplied by one [E, D] matrix.

    Attributes:
      num_items: V.
      width: E.
      features: D.
      row_norm: length of the text rows x.
      concatenates: whether the two are concatenated and mapped, instead of added.
      dtype: number type of the factors of the product with the text.
    """

    num_items: int
    width: int
    features: int
    row_norm: float = 1.0
    concatenates: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def vector_width(self) -> int:
        """D."""
        return self.features

    def setup(self) -> None:
        init, zeros, size = (
            nn.initializers.lecun_normal(),
            nn.initializers.zeros,
            self.features,
        )
        self.table = self.param("table", nn.initializers.xavier_normal(), (self.num_items, size))
        self.kernel = self.param("kernel", init, (self.width, size))
        self.bias = self.param("bias", zeros, (size,))
        if self.concatenates:
            self.join = self.param("join", init, (2 * size, size))
            self.join_bias = self.param("join_bias", zeros, (size,))

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., D]; the whole catalogue for None."""
        vectors = self.table if ids is None else id_rows(self.table, ids, context)
        kernel, bias, text = self.row_norm * self.kernel, self.bias, (tables["items"],)
        if self.concatenates:
            id_part, text_part = jnp.split(self.join, 2)
            vectors, kernel = vectors @ id_part, kernel @ text_part
            bias = bias @ text_part + self.join_bias
        linear, mapped = (kernel, bias), functools.partial(affine, dtype=self.dtype)
        if ids is None:
            return vectors + from_all_rows(mapped, linear, text)
        return vectors + from_rows(mapped, linear, text, ids)
