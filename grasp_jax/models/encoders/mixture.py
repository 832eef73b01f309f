"""UniSRec's adaptor of text vectors (Hou et al., KDD 2022, arXiv 2206.05941, Eq. 1-4): whitening by several experts, mixed by gates.

Expert k is a parametric whitening, (x - b_k) W_k, and the gates are softmax(x W_g + noise), with noise of a learned width only in
training. What the paper leaves open is as in the public code (https://github.com/RUCAIBox/UniSRec): the initial parameters, the width
softplus(x W_n) + 0.01 of the noise, and dropout on the input of the experts but not of the gates.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.id_table import id_rows
from grasp_jax.models.products import product
from grasp_jax.models.unit import unit
from grasp_jax.parallel.rows import from_all_rows, from_rows

LEAST_NOISE = 1e-2
INITIAL_STD = 0.02  # standard deviation of the initial matrices


class MixtureEncoder(ItemEncoder):
    """Item vectors of length 1: the adapted text, or its sum with a trained ID vector, scaled to length 1.

    Attributes:
      num_items: V.
      width: E.
      features: D.
      experts: n, the number of experts.
      dropout: share of the entries of a text row that a training step drops, the same for all experts.
      row_norm: length of the text rows x.
      with_ids: whether an ID vector is added.
      dtype: number type of the factors of the matrix products; that of the gates is float32.
    """

    num_items: int
    width: int
    features: int
    experts: int = 8
    dropout: float = 0.2
    row_norm: float = 1.0
    with_ids: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def vector_width(self) -> int:
        """D."""
        return self.features

    def setup(self) -> None:
        normal, zeros = nn.initializers.normal(INITIAL_STD), nn.initializers.zeros
        shape = (self.experts, self.width, self.features)
        self.whitening = self.param("whitening", normal, shape)
        self.centre = self.param("centre", zeros, (self.experts, self.width))
        self.gate = self.param("gate", zeros, (self.width, self.experts))
        self.noise = self.param("noise", zeros, (self.width, self.experts))
        if self.with_ids:
            self.table = self.param("table", normal, (self.num_items, self.features))

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., D]; the whole catalogue for None."""
        whitened, gate, noise = jnp.split(self._of_rows(tables, ids), self._ends, axis=-1)
        if self.has_rng("dropout"):
            random = jax.random.normal(self.make_rng("dropout"), gate.shape)
            gate = gate + random * (jax.nn.softplus(noise) + LEAST_NOISE)
        outputs = whitened.reshape(*gate.shape, self.features)
        vectors = (jax.nn.softmax(gate)[..., None] * outputs).sum(axis=-2)
        if self.with_ids:
            vectors += self.table if ids is None else id_rows(self.table, ids, context)
        return unit(vectors)

    @property
    def _ends(self) -> list[int]:
        """The end positions of the experts' outputs and of the gates' logits."""
        end = self.experts * self.features
        return [end, end + self.experts]

    def _of_rows(self, tables: Tables, ids: jax.Array | None) -> jax.Array:
        """[..., n D + 2 n]: the experts' outputs, the logits of the gates, and the inputs of the scale of their noise."""
        stacked = self.whitening.swapaxes(0, 1).reshape(self.width, -1)
        offset = jnp.einsum("ke,ked->kd", self.centre, self.whitening).ravel()
        gates = jnp.concatenate([self.gate, self.noise], axis=1)
        operands = stacked, offset, gates, jnp.float32(self.row_norm)
        items, adapted = tables["items"], functools.partial(_adapted, dtype=self.dtype)
        if self.dropout and self.has_rng("dropout"):  # `check` guarantees that no rows are sharded
            rows = items if ids is None else items[ids]
            keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.dropout, rows.shape)
            return adapted(operands, rows, keep / (1.0 - self.dropout))
        if ids is None:
            return from_all_rows(adapted, operands, (items,))
        return from_rows(adapted, operands, (items,), ids)


def _adapted(
    operands: tuple[jax.Array, ...],
    text: jax.Array,
    keep_scale: jax.Array | float = 1.0,
    *,
    dtype: jnp.dtype,
) -> jax.Array:
    """Adapts text rows [..., E], whose entries are multiplied by dropout's factors `keep_scale` before the experts read them."""
    stacked, offset, gates, length = operands
    rows = length * text.astype(jnp.float32)
    experts = product(rows * keep_scale, stacked, dtype) - offset
    return jnp.concatenate([experts, rows @ gates], axis=-1)
