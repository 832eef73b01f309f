"""GRU4Rec (Hidasi et al., 2016, arXiv 1511.06939) over packed rows: the state is reset at the beginning of each history."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config import ModelConfig
from grasp_jax.data.packing import START
from grasp_jax.kernels import backend
from grasp_jax.kernels.gru import gru, gru_scan
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.dropout import Dropout


class GRU4Rec(Backbone):
    """Stacked gated recurrent units; the state at a position predicts the item after it.

    The gates are those of PyTorch's GRU without biases, which LLM-ESR trains: r, z = sigmoid(x W + h U), n = tanh(x W_n + r (h U_n)), h' =
    (1 - z) n + z h.

    Attributes:
      features: D.
      num_layers: stacked units.
      start_token: put a learned vector before each history, so that the first item can be predicted too.
      dtype: compute type of matrix products; parameters and the state are float32.
      padded_length: above 0, the initial state is the result of so many steps over one untrained vector (the padding of LLM-ESR's code, 200
        steps minus those of the history), and the start token is this vector too.
      kernels: `config.kernels`; "backbone": the recurrence by `kernels.gru`; "auto": by it on a GPU, where it is several times as fast
        (gru-gpu.json).
    """

    features: int
    num_layers: int = 1
    dtype: jnp.dtype = jnp.float32
    start_token: bool = False
    padded_length: int = 0
    kernels: str = "xla"

    @property
    def mask_at(self) -> str:
        """Before each history, if there is a start token."""
        return START if self.start_token else ""

    @classmethod
    def from_config(cls, config: ModelConfig, max_length: int) -> "GRU4Rec":
        """The backbone of a config's `model` section; a recurrent backbone has no limit on the length of a history."""
        return cls(
            features=config.features,
            num_layers=config.gru_layers,
            dtype=jnp.dtype(config.dtype),
            start_token=config.start_token,
            padded_length=config.padded_length,
            kernels=config.kernels,
        )

    @nn.compact
    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, D] with segments and positions [R, L] -> states o [R, L, D] float32.

        `dropout` is the rate on the input of each layer, or None outside training; a rate needs the random stream "dropout". With [B]
        `places`, row * L + column, only their states: [B, D].
        """
        unroll = (
            gru
            if self.kernels == "backbone" or (self.kernels == "auto" and not backend.interpret())
            else gru_scan
        )
        x, padding = vectors, jnp.zeros((0, self.features))
        if self.padded_length:
            vector = jax.lax.stop_gradient(
                self.param("padding", nn.initializers.normal(0.02), (self.features,))
            )
            padding = jnp.broadcast_to(vector, (self.padded_length, self.features))
            if self.start_token:
                x = jnp.where((positions == 0)[..., None], vector, x)
        for layer in range(self.num_layers):
            x = Dropout()(x, dropout)
            # The input's share of the gates does not depend on the state, so it is computed outside the loop over positions.
            dense = nn.Dense(
                3 * self.features, use_bias=False, dtype=self.dtype, name=f"input_{layer}"
            )
            recurrent = self.param(
                f"recurrent_{layer}",
                nn.initializers.orthogonal(),
                (self.features, 3 * self.features),
            )
            start = jnp.zeros(self.features)
            if self.padded_length:
                padding = unroll(
                    dense(padding)[None], recurrent, jnp.zeros((1, self.padded_length), bool), start
                )[0]
                start = padding[-1]
            x = unroll(dense(x), recurrent, positions == 0, start)
        return x if places is None else x.reshape(-1, self.features)[places]
