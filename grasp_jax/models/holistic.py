"""Holistic attention (Eq. 4-5): the text knowledge of a (user, item) pair -> one item vector of width D.

Reference: concatenate the attended vectors [self | similar | global] and feed the MLP. Fast path: the first layer is linear and a
gate is a scalar, so

    W [g1 i | g2 ibar | g3 i | g3 ibar] = g1 (Wa i) + g2 (Wb ibar) + g3 (Wc i + Wd ibar)

and each item is projected once, to [3, H], before any user is known. E never meets the number of tokens.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models import attention


def holistic_attention(users: jax.Array, users_similar: jax.Array, items: jax.Array, items_similar: jax.Array) -> jax.Array:
    """Eq. 4 as written: [..., E] each -> [..., 4E], [self | similar | global]. The plain reference, gate "paper"."""
    joined_users = jnp.concatenate([users, users_similar], axis=-1)
    joined_items = jnp.concatenate([items, items_similar], axis=-1)
    return jnp.concatenate(
        [
            attention.sigmoid_attention(users, items),
            attention.sigmoid_attention(users_similar, items_similar),
            attention.sigmoid_attention(joined_users, joined_items),
        ],
        axis=-1,
    )


def combine(projected: jax.Array, gates: jax.Array, bias: jax.Array) -> jax.Array:
    """First-layer output of pairs: [..., 3, H] projections and [..., 3] gates -> [..., H]."""
    # Written out: an einsum over an axis of three becomes a batched matrix product, which is far slower.
    g1, g2, g3 = gates[..., 0:1], gates[..., 1:2], gates[..., 2:3]
    return g1 * projected[..., 0, :] + g2 * projected[..., 1, :] + g3 * projected[..., 2, :] + bias


class HolisticEncoder(nn.Module):
    """The MLP of Eq. 5 in factorised form; `hidden=()` is linear.

    Attributes:
      width: E.
      features: D.
      hidden: widths of the hidden layers; H is the first of them, or D.
      gate: a `kind` of `attention.gates`.
      row_norm: length of the frozen rows as input of the MLP (gates see unit rows). Near 1, pre-activations start small and Adam moves
        them slowly: smooth in the text, better on tail items. Near sqrt(E), items are told apart sooner: better on head items.
      keep: which of the self, similar and global attentions take part (Table 4).
      dtype: compute type of matrix products; parameters are float32.
    """

    width: int
    features: int
    hidden: Sequence[int] = (256,)
    gate: str = "paper"
    row_norm: float = 1.0
    keep: tuple[bool, bool, bool] = (True, True, True)
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        sizes = [*self.hidden, self.features]
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=(0,))
        self.own_kernel = self.param("own_kernel", init, (2, self.width, sizes[0]))  # Wa, Wc: act on i
        self.similar_kernel = self.param("similar_kernel", init, (2, self.width, sizes[0]))  # Wb, Wd: act on ibar
        self.first_bias = self.param("first_bias", nn.initializers.zeros, (sizes[0],))
        self.layers = [nn.Dense(size, dtype=self.dtype) for size in sizes[1:]]
        if self.gate == "learned":
            self.temperature = self.param("temperature", nn.initializers.ones, (3,))
            self.gate_bias = self.param("gate_bias", nn.initializers.zeros, (3,))

    def project(self, items: jax.Array, items_similar: jax.Array) -> jax.Array:
        """Rows i and ibar, [..., E] each -> [..., 3, H]: Wa i, Wb ibar and Wc i + Wd ibar."""
        kernels = [self.row_norm * jnp.concatenate([kernel[0], kernel[1]], axis=-1) for kernel in (self.own_kernel, self.similar_kernel)]
        own = jnp.einsum("...e,eh->...h", items.astype(self.dtype), kernels[0].astype(self.dtype), preferred_element_type=jnp.float32)
        similar = jnp.einsum(
            "...e,eh->...h", items_similar.astype(self.dtype), kernels[1].astype(self.dtype), preferred_element_type=jnp.float32
        )
        half = self.first_bias.shape[0]
        return jnp.stack([own[..., :half], similar[..., :half], own[..., half:] + similar[..., half:]], axis=-2)

    def gates(self, logits: jax.Array, normaliser: jax.Array | None = None) -> jax.Array:
        """[..., 2] pair logits -> [..., 3] gates."""
        if self.gate == "learned":
            gates = attention.gates("learned", logits, self.temperature, self.gate_bias)
        else:
            gates = attention.gates(self.gate, logits, normaliser=normaliser)
        return gates if all(self.keep) else gates * jnp.asarray(self.keep, gates.dtype)

    def head_input(self, projected: jax.Array, gates: jax.Array) -> jax.Array:
        """The input of the last layer, [..., H']: scores need only its product with `last_layer(o)`."""
        x = combine(projected, gates, self.first_bias)
        for k in range(len(self.hidden)):
            x = self.activation(x)
            if k + 1 < len(self.hidden):
                x = self.layers[k](x)
        return x

    def __call__(self, projected: jax.Array, gates: jax.Array) -> jax.Array:
        """Item vectors `i_all` (Eq. 5): [..., 3, H] and [..., 3] -> [..., D]."""
        return self.finish(self.head_input(projected, gates))

    def finish(self, head: jax.Array) -> jax.Array:
        """The last layer: [..., H'] -> [..., D]."""
        return self.layers[-1](head) if self.hidden else head

    def activation(self, x: jax.Array) -> jax.Array:
        """GELU, tanh form."""
        return jax.nn.gelu(x, approximate=True)

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """States o [..., D] -> weights [..., H'] and offset [...] with `o.i_all = weights . head_input + offset`."""
        if not self.hidden:
            return states, jnp.zeros(states.shape[:-1])
        kernel, bias = self.layers[-1].variables["params"]["kernel"], self.layers[-1].variables["params"]["bias"]
        return jnp.einsum("...d,hd->...h", states, kernel), states @ bias
