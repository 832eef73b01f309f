"""RLMRec (Ren et al., 2024, arXiv 2310.15950): ID vectors with a contrastive loss that aligns them with the texts of users and items.

`con` maps text vectors to width D and contrasts them with the representations; `gen` maps representations to width E and contrasts them
with the text vectors (their Eq. 8-12; both maximise the same bound on mutual information). The losses are those of the public code
(https://github.com/HKUDS/RLMRec, encoder/models/general_cf/lightgcn_plus.py and lightgcn_gene.py), with one projection for users and items.
`con` is the sum of three contrastive losses: over users, over positive items and over negative items. `gen` is one loss over users and
items together.

Their graph encoder is replaced by a sequence backbone: a user's representation is the state that ranks the next item, positive items are
the items of the histories, and negative items are the negatives of the step. Their `gen` masks nodes of the graph and computes the loss
only for these. A sequence has no such nodes, so here the loss is computed for all users and items of a batch, each counted once.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config import Config, ModelConfig
from grasp_jax.core.errors import UserError
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates, mean_where
from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.masked import MASKED
from grasp_jax.models.methods.base import Facts, ModelSizes
from grasp_jax.models.methods.plain import Plain
from grasp_jax.models.new_items import NewTexts, ReadOfNew
from grasp_jax.models.segments import newest_places
from grasp_jax.parallel.rows import from_all_rows

CONTRASTIVE, GENERATIVE = "con", "gen"


def info_nce(
    anchors: jax.Array, texts: jax.Array, keys: jax.Array, exist: jax.Array, temperature: float
) -> jax.Array:
    """InfoNCE by cosine, -log(exp(anchor . text / t) / sum_j exp(anchor . key_j / t)).

    Args:
      anchors: [n, width] representations.
      texts: [n, width], the positive of each anchor.
      keys: [m, width] the texts in the denominator, which include the positive.
      exist: [m] bool, which keys exist.
      temperature: t.

    Returns:
      [n] losses.
    """
    anchors, texts, keys = (
        x / jnp.sqrt(1e-8 + (x**2).sum(axis=-1, keepdims=True))  # a text may be all zeros
        for x in (anchors, texts, keys)
    )
    logits = jnp.where(exist, anchors @ keys.T / temperature, MASKED)
    positive = (anchors * texts).sum(axis=-1) / temperature
    return jax.nn.logsumexp(logits, axis=1) - positive


def is_first(ids: jax.Array, exist: jax.Array) -> jax.Array:
    """[n] ids -> [n] bool: whether an id exists and is the first of its value."""
    same = (ids[:, None] == ids[None, :]) & exist[None, :]
    return exist & ~jnp.tril(same, -1).any(axis=1)


class Alignment(AuxiliaryLoss):
    """Loss that aligns representations with texts, for users and items.

    Attributes:
      kind: "con" or "gen".
      features, width: D and E.
      batch_users: B, users of a batch.
      temperature: of the contrast.
      weight: of the loss that is added to Eq. 6.
      among_all_users: whether `con` contrasts a user's text with those of all users, or only with those of the batch.
    """

    kind: str
    features: int
    width: int
    batch_users: int
    temperature: float
    weight: float
    among_all_users: bool = False

    def setup(self) -> None:
        init = nn.initializers.xavier_uniform()
        out = self.features if self.kind == CONTRASTIVE else self.width
        self.mlp = nn.Sequential(
            [
                nn.Dense((self.features + self.width) // 2, kernel_init=init),
                nn.leaky_relu,
                nn.Dense(out, kernel_init=init),
            ]
        )

    def __call__(
        self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The weighted loss."""
        losses = {CONTRASTIVE: self._contrastive, GENERATIVE: self._generative}[self.kind]
        return self.weight * losses(tables, batch)

    def _contrastive(self, tables: Tables, batch: BatchStates) -> jax.Array:
        """The sum of three means: over users, over the items of their histories, and over negatives."""
        newest, users, is_user = self._users(batch)
        text = self.mlp(tables["user_text"][users])
        keys, exist = text, is_user
        if self.among_all_users:
            keys = from_all_rows(lambda mlp, rows: mlp(rows), self.mlp, (tables["user_text"],))
            exist = jnp.ones(len(keys), bool)
        loss = mean_where(info_nce(newest, text, keys, exist, self.temperature), is_user)
        is_item = (batch.segments >= 0).ravel()
        groups = [(batch.items.ravel(), batch.vectors.reshape(-1, self.features), is_item)]
        if batch.negatives is not None:
            groups.append(batch.negatives)
        for items, vectors, exist in groups:
            text = self.mlp(tables["item_text"][items])
            loss += mean_where(info_nce(vectors, text, text, exist, self.temperature), exist)
        return loss

    def _generative(self, tables: Tables, batch: BatchStates) -> jax.Array:
        """The mean over users and items of the batch, each contrasted with all of them."""
        newest, users, is_user = self._users(batch)
        items = batch.items.ravel()
        is_item = is_first(items, (batch.segments >= 0).ravel())
        rows = jnp.concatenate([newest, batch.vectors.reshape(-1, self.features)])
        text = jnp.concatenate([tables["user_text"][users], tables["item_text"][items]])
        exist = jnp.concatenate([is_user, is_item])
        return mean_where(info_nce(self.mlp(rows), text, text, exist, self.temperature), exist)

    def _users(self, batch: BatchStates) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[B, D] newest states, [B] user rows, and [B] bool, whether there is such a user."""
        places, users, is_user = newest_places(batch.segments, self.batch_users)
        return batch.states.reshape(-1, self.features)[places], users, is_user


@dataclasses.dataclass(frozen=True)
class RLMRec(Plain):
    """ID vectors, aligned with text.

    Attributes:
      kind: "con" or "gen".
    """

    kind: str

    needs_bank: ClassVar[bool] = True

    def check(self, config: Config) -> None:
        """Checks that users' texts are on the devices, because training reads them.

        Raises:
          UserError: they are in the host's memory.
        """
        if config.tables.users == "host":
            raise UserError(
                f"config.tables.users: 'host' with rlmrec_{self.kind}, which trains on users' texts; expected 'device' or 'sharded'"
            )

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Users' and items' own vectors; RLMRec reads no neighbours."""
        return [of_bank(bank, "users", "user_text"), of_bank(bank, "items", "item_text")]

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """Raises UserError: only the loss reads texts, and an item is represented by its ID vector."""
        raise UserError(
            f"add_items: rlmrec_{self.kind} reads texts only in training, and its items are trained ID vectors, which a new item does not "
            "have; train a model on data with these items, or use a method whose items are made of text, such as grasp_plus"
        )

    def auxiliary(self, config: ModelConfig, sizes: ModelSizes) -> Alignment:
        """`Alignment` with the config's temperature and weight."""
        options = config.rlmrec
        temperature, weight = {
            CONTRASTIVE: (options.temperature, options.con_weight),
            GENERATIVE: (options.gen_temperature, options.gen_weight),
        }[self.kind]
        return Alignment(
            self.kind,
            config.features,
            sizes.width,
            sizes.num_users,
            temperature,
            weight,
            options.user_negatives == "all",
        )
