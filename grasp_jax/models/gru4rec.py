"""GRU4Rec (Hidasi et al., 2016, arXiv 1511.06939) over packed rows: the state is reset where a history begins."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from grasp_jax.data.packing import START
from grasp_jax.models.dropout import Dropout


class GRU4Rec(nn.Module):
    """Stacked gated recurrent units; the state at a position predicts the item after it.

    Gates as in PyTorch's GRU without biases, which is what LLM-ESR trains:
    r, z = sigmoid(x W + h U), n = tanh(x W_n + r (h U_n)), h' = (1 - z) n + z h.

    Attributes:
      features: D.
      num_layers: stacked units.
      start_token: put a learned vector before each history, so that the first item can be asked for too.
      dtype: compute type of matrix products; parameters and the state are float32.
    """

    features: int
    num_layers: int = 1
    dtype: jnp.dtype = jnp.float32
    start_token: bool = False

    bidirectional = False
    causal = True

    @property
    def mask_at(self) -> str:
        return START if self.start_token else ""

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict, max_length: int) -> "GRU4Rec":
        """The backbone of a config's `model` section; a recurrent state has no longest history."""
        return cls(config.features, config.gru_layers, jnp.dtype(config.dtype), config.start_token)

    @nn.compact
    def __call__(self, vectors: jax.Array, segments: jax.Array, positions: jax.Array, dropout: jax.Array | None = None) -> jax.Array:
        """Item vectors [R, L, D] with segments and positions [R, L] -> states o [R, L, D] float32.

        `dropout` is the rate on the input of each layer, or None outside training (needs the random stream "dropout" otherwise).
        """
        x = vectors
        for layer in range(self.num_layers):
            x = Dropout()(x, dropout)
            # The input's share of the gates needs no state, so it leaves the loop over positions.
            from_input = nn.Dense(3 * self.features, use_bias=False, dtype=self.dtype, name=f"input_{layer}")(x).astype(jnp.float32)
            recurrent = self.param(f"recurrent_{layer}", nn.initializers.orthogonal(), (self.features, 3 * self.features))
            x = unroll(from_input, recurrent.astype(self.dtype), positions == 0)
        return x


def unroll(from_input: jax.Array, recurrent: jax.Array, first: jax.Array) -> jax.Array:
    """States of one layer: [R, L, 3D] input shares, [D, 3D] recurrent weights, [R, L] bool where a history begins -> [R, L, D]."""
    rows, _, width = from_input.shape
    features = width // 3

    def step(state: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        share, begins = inputs
        state = jnp.where(begins[:, None], 0.0, state)
        from_state = jnp.matmul(state.astype(recurrent.dtype), recurrent, preferred_element_type=jnp.float32)
        r, z = jnp.split(jax.nn.sigmoid(share[:, : 2 * features] + from_state[:, : 2 * features]), 2, axis=1)
        n = jnp.tanh(share[:, 2 * features :] + r * from_state[:, 2 * features :])
        state = (1.0 - z) * n + z * state
        return state, state

    _, states = jax.lax.scan(step, jnp.zeros((rows, features)), (from_input.swapaxes(0, 1), first.T))
    return states.swapaxes(0, 1)
