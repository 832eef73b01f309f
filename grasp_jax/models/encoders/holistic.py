"""Holistic attention (Eq. 4-5): the text knowledge of a (user, item) pair -> one item vector of width D.

Reference: concatenate the attended vectors [self | similar | global] and feed the MLP. Fast path: the first layer is linear and a
gate is a scalar, so

    W [g1 i | g2 ibar | g3 i | g3 ibar] = g1 (Wa i) + g2 (Wb ibar) + g3 (Wc i + Wd ibar)

and each item is projected to [3, H] independently of the user. So no operation on user-item pairs has width E.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import GatedHead, ItemEncoder
from grasp_jax.models.gates import pair_gates, sigmoid_attention
from grasp_jax.models.products import product
from grasp_jax.parallel.rows import from_all_rows, from_rows

GELU_CURVATURE = 0.797885  # the largest, of the tanh form: at 0, where it is sqrt(2 / pi)


def holistic_attention(
    users: jax.Array, users_similar: jax.Array, items: jax.Array, items_similar: jax.Array
) -> jax.Array:
    """Eq. 4 as written: [..., E] each -> [..., 4E], [self | similar | global]. The plain reference, gate "paper"."""
    joined_users = jnp.concatenate([users, users_similar], axis=-1)
    joined_items = jnp.concatenate([items, items_similar], axis=-1)
    return jnp.concatenate(
        [
            sigmoid_attention(users, items),
            sigmoid_attention(users_similar, items_similar),
            sigmoid_attention(joined_users, joined_items),
        ],
        axis=-1,
    )


def gelu(x: jax.Array) -> jax.Array:
    """The activation of hidden layers: GELU in its tanh form."""
    return jax.nn.gelu(x, approximate=True)


def combine(projected: jax.Array, gates: jax.Array | None, bias: jax.Array) -> jax.Array:
    """Eq. 4-5, first layer of pairs: [..., 3, H] projections and [..., 3] gates -> [..., H]; without gates, [..., H] sums -> [..., H]."""
    if gates is None:
        return projected + bias
    # Written out: an einsum over an axis of three becomes a batched matrix product, which is far slower.
    g1, g2, g3 = gates[..., 0:1], gates[..., 1:2], gates[..., 2:3]
    return g1 * projected[..., 0, :] + g2 * projected[..., 1, :] + g3 * projected[..., 2, :] + bias


class HolisticEncoder(ItemEncoder):
    """The MLP of Eq. 5 in factorised form; `hidden=()` is linear.

    Attributes:
      width: E.
      features: D.
      hidden: widths of the hidden layers; H is the first of them, or D.
      gate: a `kind` of `gates.pair_gates`; with "none" all gates are one, so the three projections of an item are summed at once.
      row_norm: length of the frozen rows as input of the MLP (gates read unit rows). Near 1, pre-activations start small and Adam changes
        them slowly: the function is smooth in the text, which is better for tail items. Near sqrt(E), the MLP distinguishes items sooner,
        which is better for head items.
      keep: which of the self, similar and global attentions are used (Table 4).
      dtype: compute type of matrix products; parameters are float32.
      scale: factor of the logits of Eq. 3, for the gate "paper".
    """

    width: int
    features: int
    hidden: Sequence[int] = (256,)
    gate: str = "paper"
    row_norm: float = 1.0
    keep: tuple[bool, bool, bool] = (True, True, True)
    dtype: jnp.dtype = jnp.float32
    scale: float = 1.0

    @property
    def vector_width(self) -> int:
        """D."""
        return self.features

    @property
    def gated(self) -> bool:
        """Unless the gate is "none"."""
        return self.gate != "none"

    @property
    def normalises_gates(self) -> bool:
        """If the gate is "softmax"."""
        return self.gate == "softmax"

    def setup(self) -> None:
        sizes = [*self.hidden, self.features]
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
        )
        # Wa, Wc: act on i
        self.own_kernel = self.param("own_kernel", init, (2, self.width, sizes[0]))
        # Wb, Wd: act on ibar
        self.similar_kernel = self.param("similar_kernel", init, (2, self.width, sizes[0]))
        self.first_bias = self.param("first_bias", nn.initializers.zeros, (sizes[0],))
        self.layers = [nn.Dense(size, dtype=self.dtype) for size in sizes[1:]]
        if self.gate == "learned":
            self.temperature = self.param("temperature", nn.initializers.ones, (3,))
            self.gate_bias = self.param("gate_bias", nn.initializers.zeros, (3,))

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The part of items that does not depend on the user, [..., 3, H] (or [..., H], see `project`); for None, of
        the whole catalogue.
        """
        rows, kernels = (tables["items"], tables["items_similar"]), self._first_kernels()
        return (
            from_all_rows(self._projected, kernels, rows)
            if ids is None
            else from_rows(self._projected, kernels, rows, ids)
        )

    def project(self, items: jax.Array, items_similar: jax.Array) -> jax.Array:
        """Rows i and ibar, [..., E] each -> [..., 3, H]: Wa i, Wb ibar and Wc i + Wd ibar; their sum [..., H] for the gate "none"."""
        return self._projected(self._first_kernels(), items, items_similar)

    def _projected(
        self, kernels: tuple[jax.Array, jax.Array], items: jax.Array, items_similar: jax.Array
    ) -> jax.Array:
        """`project` with given kernels: the products of Eq. 5's first layer with rows of text, before the gates."""
        (wa, wc), (wb, wd) = kernels
        if self.gate == "none":
            own_part, similar_part, global_part = self.keep
            own = product(items, own_part * wa + global_part * wc, self.dtype)
            similar = product(items_similar, similar_part * wb + global_part * wd, self.dtype)
            return own + similar
        own = product(items, jnp.concatenate([wa, wc], axis=-1), self.dtype)
        similar = product(items_similar, jnp.concatenate([wb, wd], axis=-1), self.dtype)
        half = wa.shape[-1]
        return jnp.stack(
            [own[..., :half], similar[..., :half], own[..., half:] + similar[..., half:]], axis=-2
        )

    def gates(
        self, logits: jax.Array | None, normaliser: jax.Array | None = None
    ) -> jax.Array | None:
        """[..., 2] pair logits -> [..., 3] gates; None for the gate "none"."""
        if self.gate == "none" or logits is None:
            return None
        if self.gate == "paper":
            logits = self.scale * logits
        if self.gate == "learned":
            gates = pair_gates("learned", logits, self.temperature, self.gate_bias)
        else:
            gates = pair_gates(self.gate, logits, normaliser=normaliser)
        return gates if all(self.keep) else gates * jnp.asarray(self.keep, gates.dtype)

    def _first_kernels(self) -> tuple[jax.Array, jax.Array]:
        return self.row_norm * self.own_kernel, self.row_norm * self.similar_kernel

    def head_input(self, projected: jax.Array, gates: jax.Array | None) -> jax.Array:
        """The input of the last layer, [..., H']: scores need only its product with `last_layer(o)`."""
        return self._hidden_layers(combine(projected, gates, self.first_bias))

    def _hidden_layers(self, x: jax.Array) -> jax.Array:
        for k in range(len(self.hidden)):
            x = gelu(x)
            if k + 1 < len(self.hidden):
                x = self.layers[k](x)
        return x

    def finish(self, head: jax.Array) -> jax.Array:
        """The last layer: [..., H'] -> [..., D]."""
        return self.layers[-1](head) if self.hidden else head

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """States o [..., D] -> weights [..., H'] and offset [...] with `o.i_all = weights . head_input + offset`."""
        if not self.hidden:
            return states, jnp.zeros(states.shape[:-1])
        kernel, bias = (
            self.layers[-1].variables["params"]["kernel"],
            self.layers[-1].variables["params"]["bias"],
        )
        return jnp.einsum("...d,hd->...h", states, kernel), states @ bias

    def score_all(
        self, features: jax.Array, states: jax.Array, gates: jax.Array | None
    ) -> jax.Array:
        """Scores of all pairs of B users and C items: [C, 3, H], states [B, D] and gates [B, C, 3] -> [B, C].

        This is exact also with one hidden layer: `o . W2 gelu(x) = (W2^T o) . gelu(x)`, so a pair costs H instead of H x D. One user at a
        time, XLA fuses the sum over H with the computation of its terms, so nothing of size [B, C, H] is stored.
        """
        weights, offset = self.last_layer(states)
        if gates is None:
            return (
                jnp.einsum("bh,ch->bc", weights, self.head_input(features, None)) + offset[:, None]
            )
        if len(self.hidden) > 1:
            return (
                jnp.einsum("bh,bch->bc", weights, self.head_input(features[None], gates))
                + offset[:, None]
            )
        act = gelu if self.hidden else (lambda x: x)
        # [H, C] each: the sum is over H, the major axis, so the loop over C is vectorised
        own, similar, both = features.transpose(1, 2, 0)

        @jax.checkpoint  # so that no terms are kept for the backward pass
        def one_user(user: tuple[jax.Array, jax.Array]) -> jax.Array:
            (g1, g2, g3), weight = user  # [C] each, [H]
            x = g1 * own + g2 * similar + g3 * both + self.first_bias[:, None]
            return (weight[:, None] * act(x)).sum(axis=0)

        scores: jax.Array = jax.lax.map(one_user, (gates.transpose(0, 2, 1), weights))
        return scores + offset[:, None]

    def gated_head(self) -> GatedHead | None:
        """Not None only if gates at logit 0 do not depend on the pair, and there is at most one hidden layer."""
        if not self.gated or self.normalises_gates or len(self.hidden) > 1:
            return None
        rest = self.gates(jnp.zeros(2))
        assert rest is not None
        if not self.hidden:  # the first layer's output is the vector itself
            return GatedHead(rest, self.first_bias, jnp.eye(self.features), lambda x: x, 0.0)
        kernel = self.layers[-1].variables["params"]["kernel"]
        return GatedHead(rest, self.first_bias, kernel, gelu, GELU_CURVATURE)
