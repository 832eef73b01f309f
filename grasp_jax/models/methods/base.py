"""What a method adds to a backbone."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from grasp_jax.config import Config, ModelConfig
from grasp_jax.data.split import Split
from grasp_jax.models.auxiliary import AuxiliaryLoss
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.frozen import ITEM_TABLES, Bank, FrozenTable
from grasp_jax.models.new_items import NewTexts, ReadOfNew


@dataclasses.dataclass(frozen=True)
class ModelSizes:
    """Numbers that a model is built for and that are not fields of the config.

    Attributes:
      num_items: V.
      max_length: longest packed history, for position embeddings.
      width: E of the knowledge bank, 0 without one.
      num_users: B, users of a training batch on all devices together.
      shares: devices that divide it among them.
    """

    num_items: int
    max_length: int
    width: int = 0
    num_users: int = 0
    shares: int = 1


@dataclasses.dataclass(frozen=True)
class Facts:
    """What frozen tables may depend on besides the bank.

    Attributes:
      config: the `model` section.
      item_counts: [V] training interactions of each item.
      raw_items: [V, E] item vectors as the encoder gave them, made when asked for.
      split: whose training part tables may be made of; None where there is none at hand.
      turn: [E, E'] `Method.text_turn` of the run that training goes on from; None: that of the items at hand.
    """

    config: ModelConfig
    item_counts: np.ndarray
    raw_items: Callable[[], np.ndarray] | None = None
    split: Split | None = None
    turn: np.ndarray | None = None


class Method:
    """A method: an item encoder, and everything else that differs from the plain backbone.

    A method is one object, in `METHODS` by the name that a config gives it. A new one is a file with a subclass and a line in
    `METHODS`: it must define `encoder`. By default it reads no text and has no gates and no additional loss.

    Attributes of the class:
      trained: whether there is anything to learn. If not, nothing is trained: the model is validated as it is, saved, and answers
        like any other.
      needs_bank: whether it reads text, so that a knowledge bank must be prepared.
      reads_states: whether its auxiliary loss reads `StepContext.states`, which are computed at the start of each epoch.
      loss: "bce", "softmax", "gbce" or "ce" of `training.losses`, where `config.train.loss` is "auto".
    """

    trained: ClassVar[bool] = True
    needs_bank: ClassVar[bool] = False
    reads_states: ClassVar[bool] = False
    loss: ClassVar[str] = "bce"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> ItemEncoder:
        """The item encoder.

        Args:
          config: the `model` section.
          sizes: V and E.
        """
        raise NotImplementedError

    def default_loss(self, config: ModelConfig) -> str:
        """The loss where `config.train.loss` is "auto": `loss`, unless the `model` section says otherwise."""
        return self.loss

    def loss_of(self, config: Config) -> str:
        """The name of the loss that a config trains the method with."""
        named = config.train.loss
        return self.default_loss(config.model) if named == "auto" else named

    def fits_text(self, config: ModelConfig) -> bool:
        """Whether tables are the text in directions that are fitted to the items (`text_turn`): a model reads those of no other day."""
        return False

    def text_turn(self, items: np.ndarray, config: ModelConfig) -> np.ndarray | None:
        """[E, E'] by which tables turn rows of items [V, E] into directions that are fitted to them; None where there are none."""
        return None

    def gated(self, config: ModelConfig) -> bool:
        """Whether the encoder has gates (`ItemEncoder.gated`), as the `model` section has it: then there are query tables as well."""
        return False

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """The frozen tables that the encoder and the auxiliary loss read, but for the query tables of gates (`frozen.asked_with`).

        Args:
          bank: the four tables of the knowledge bank, by name; empty for a method that reads no text.
          facts: the `model` section and how often items were bought.
        """
        return ()

    def fitted(self, bank: Bank, facts: Facts) -> Mapping[str, np.ndarray]:
        """Arrays that were fitted to the catalogue, by which `of_new_items` reads new texts; saved with the model.

        Args:
          bank, facts: as of `tables`.
        """
        return {}

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """What the encoder reads of items that the model was not trained with; by default their rows and those of their neighbours.

        Raises:
          UserError: the method makes no item vectors of texts.
        """
        rows = dict(zip(ITEM_TABLES, (texts.items, texts.items_similar), strict=True))
        return ReadOfNew({name: table for name, table in rows.items() if table is not None})

    def start(self, params: Params, tables: Tables) -> Params:
        """The parameters that one model starts from, of freshly drawn ones; within jit."""
        return params

    def auxiliary(self, config: ModelConfig, sizes: ModelSizes) -> AuxiliaryLoss | None:
        """A loss beside that of the next item; None without one.

        Args:
          config: the `model` section.
          sizes: E and B.
        """
        return None

    def check(self, config: Config) -> None:
        """Makes sure that the config, as the method has it, holds no values that do not go with the method.

        Raises:
          UserError: naming the field.
        """

    def around_backbone(self, backbone: Backbone, config: ModelConfig, max_length: int) -> Backbone:
        """What turns item vectors into states: the backbone, a module that holds it, or one that takes its place.

        Args:
          backbone: the one that the config names.
          config: the `model` section.
          max_length: longest packed history.
        """
        return backbone
