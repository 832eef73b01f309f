"""RLMRec (Ren et al., 2024, arXiv 2310.15950): ID embeddings, pulled toward the text of their users and items by an alignment loss.

`con` maps text vectors down to D and contrasts them with the representations; `gen` maps representations up to E and contrasts them
with the text (their Eq. 8-12; both maximise the same bound on mutual information). Their graph encoder is a sequence backbone here: a
user's representation is the state that ranks the next item. Their `gen` also hides nodes of the graph, which a sequence does not have.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config import Config, ModelConfig
from grasp_jax.errors import UserError
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates
from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, ModelSizes
from grasp_jax.models.methods.plain import Plain
from grasp_jax.models.segments import newest_places

CONTRASTIVE, GENERATIVE = "con", "gen"


class Alignment(AuxiliaryLoss):
    """Contrast of representations and text, for users and items alike.

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
        return nn.Sequential(
            [nn.Dense((self.features + self.width) // 2), nn.leaky_relu, nn.Dense(out)]
        )

    def __call__(
        self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The weighted loss."""
        there = (batch.segments >= 0).ravel()
        places, users, is_user = newest_places(batch.segments, self.num_users)
        newest = batch.states.reshape(-1, self.features)[places]
        of_users = self._contrast(self.user_mlp, newest, tables["user_text"][users], users, is_user)
        items, vectors = batch.items.ravel(), batch.vectors.reshape(-1, self.features)
        of_items = self._contrast(self.item_mlp, vectors, tables["item_text"][items], items, there)
        return self.weight * (of_users + of_items)

    def _contrast(
        self, mlp: nn.Module, vectors: jax.Array, text: jax.Array, ids: jax.Array, valid: jax.Array
    ) -> jax.Array:
        a, b = (vectors, mlp(text)) if self.kind == CONTRASTIVE else (mlp(vectors), text)
        return info_nce(a, b, ids, valid, self.temperature)


def info_nce(
    a: jax.Array, b: jax.Array, ids: jax.Array, valid: jax.Array, temperature: float
) -> jax.Array:
    """Contrast of [n, width] rows by cosine: each `a` against its own `b` and those of other ids; mean over the valid rows."""
    a, b = (x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8) for x in (a, b))
    logits = (a @ b.T) / temperature
    other = (ids[:, None] != ids[None, :]) & valid[None, :]
    own = jnp.diagonal(logits)
    denominator = jnp.logaddexp(jax.nn.logsumexp(jnp.where(other, logits, -jnp.inf), axis=1), own)
    return jnp.where(valid, denominator - own, 0.0).sum() / jnp.maximum(valid.sum(), 1)


@dataclasses.dataclass(frozen=True)
class RLMRec(Plain):
    """ID vectors, aligned with text.

    Attributes:
      kind: "con" or "gen".
    """

    kind: str

    needs_bank: ClassVar[bool] = True

    def check(self, config: Config) -> None:
        """Users' texts are trained on.

        Raises:
          UserError: they lie in the host's memory.
        """
        if config.tables.users == "host":
            raise UserError(
                f"config.tables.users: 'host' with rlmrec_{self.kind}, which trains on users' texts; expected 'device' or 'sharded'"
            )

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Users' and items' own vectors; RLMRec reads no neighbours."""
        return [of_bank(bank, "users", "user_text"), of_bank(bank, "items", "item_text")]

    def auxiliary(self, config: ModelConfig, sizes: ModelSizes) -> Alignment:
        """`Alignment` with the config's temperature and weight."""
        options = config.rlmrec
        weight = {CONTRASTIVE: options.con_weight, GENERATIVE: options.gen_weight}[self.kind]
        return Alignment(
            self.kind, config.features, sizes.width, sizes.num_users, options.temperature, weight
        )
