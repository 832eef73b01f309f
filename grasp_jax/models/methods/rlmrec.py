"""RLMRec (Ren et al., 2024, arXiv 2310.15950): ID embeddings, pulled toward the text of their users and items by an alignment loss.

`con` maps text vectors down to D and contrasts them with the representations; `gen` maps representations up to E and contrasts them
with the text (their Eq. 8-12; both maximise the same bound on mutual information). Their graph encoder is a sequence backbone here: a
user's representation is the state that ranks the next item. Their `gen` also hides nodes of the graph, which a sequence does not have.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config_dict import ConfigDict
from grasp_jax.models.methods.method import Bank, Facts, Method
from grasp_jax.models.methods.plain import encoder
from grasp_jax.models.segments import newest_places

CONTRASTIVE, GENERATIVE = "con", "gen"


class Alignment(nn.Module):
    """The auxiliary loss of one batch, for users and items alike.

    Attributes:
      kind: "con" or "gen".
      features, width: D and E.
      num_users: B, users of a batch.
      temperature: of the contrast.
      weight: of the loss beside Eq. 6.
    """

    kind: str
    features: int
    width: int
    num_users: int
    temperature: float
    weight: float

    def setup(self) -> None:
        self.user_mlp, self.item_mlp = self._mlp(), self._mlp()

    def _mlp(self) -> nn.Sequential:
        out = self.features if self.kind == CONTRASTIVE else self.width
        return nn.Sequential([nn.Dense((self.features + self.width) // 2), nn.leaky_relu, nn.Dense(out)])

    def __call__(self, tables: Any, segments: jax.Array, states: jax.Array, items: jax.Array, vectors: jax.Array) -> jax.Array:
        """Segments and items [R, L], states and item vectors [R, L, D] -> the weighted loss."""
        there = (segments >= 0).ravel()
        places, users, is_user = newest_places(segments, self.num_users)
        newest = states.reshape(-1, self.features)[places]
        of_users = self._contrast(self.user_mlp, newest, tables["user_text"][users], users, is_user)
        of_items = self._contrast(
            self.item_mlp, vectors.reshape(-1, self.features), tables["item_text"][items.ravel()], items.ravel(), there
        )
        return self.weight * (of_users + of_items)

    def _contrast(self, mlp: nn.Module, vectors: jax.Array, text: jax.Array, ids: jax.Array, valid: jax.Array) -> jax.Array:
        a, b = (vectors, mlp(text)) if self.kind == CONTRASTIVE else (mlp(vectors), text)
        return info_nce(a, b, ids, valid, self.temperature)


def info_nce(a: jax.Array, b: jax.Array, ids: jax.Array, valid: jax.Array, temperature: float) -> jax.Array:
    """Contrast of [M, W] rows by cosine: each `a` against its own `b` and those of other ids; mean over the valid rows."""
    a, b = (x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8) for x in (a, b))
    logits = (a @ b.T) / temperature
    other = (ids[:, None] != ids[None, :]) & valid[None, :]
    own = jnp.diagonal(logits)
    denominator = jnp.logaddexp(jax.nn.logsumexp(jnp.where(other, logits, -jnp.inf), axis=1), own)
    return jnp.where(valid, denominator - own, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def texts(bank: Bank, facts: Facts) -> Bank:
    """Users' and items' own vectors; RLMRec reads no neighbours."""
    return {"user_text": bank["users"], "item_text": bank["items"]}


def alignment(config: ConfigDict, width: int, num_users: int, kind: str) -> nn.Module:
    """`Alignment` with the config's temperature and weight."""
    weight = {CONTRASTIVE: config.rlmrec.con_weight, GENERATIVE: config.rlmrec.gen_weight}[kind]
    return Alignment(kind, config.features, width, num_users, config.rlmrec.temperature, weight)


CON = Method(encoder, texts, auxiliary=functools.partial(alignment, kind=CONTRASTIVE), needs_bank=True)
GEN = Method(encoder, texts, auxiliary=functools.partial(alignment, kind=GENERATIVE), needs_bank=True)
