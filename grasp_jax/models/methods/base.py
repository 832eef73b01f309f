"""What a method adds to a backbone."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from grasp_jax.config import Config, ModelConfig
from grasp_jax.config.training import LOSSES
from grasp_jax.core.errors import UserError
from grasp_jax.data.split import Split
from grasp_jax.models.auxiliary import AuxiliaryLoss
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.frozen import ITEM_TABLES, Bank, FrozenTable
from grasp_jax.models.new_items import NewTexts, ReadOfNew

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ModelSizes:
    """Sizes that a model depends on and that are not fields of the config.

    Attributes:
      num_items: V.
      max_length: longest packed history, for position embeddings.
      width: E of the knowledge bank, 0 without one.
      num_users: B, users of a training batch on all devices together, not of the data; saved models store it under this name.
      shares: number of devices that share this batch.
    """

    num_items: int
    max_length: int
    width: int = 0
    num_users: int = 0
    shares: int = 1


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that frozen tables may depend on, apart from the bank.

    Attributes:
      config: the `model` section.
      item_counts: [V] training interactions of each item.
      raw_items: [V, E] item vectors as the encoder returned them, computed at the first use.
      split: the split whose training part may be used for tables; None if no split is available.
      turn: [E, E'] `Method.text_turn` of the run from which training starts; None: it is computed from the present items.
      start: "start_mean" [E] and "start_directions" [E, D], by which ID vectors start in that run; None: computed from the present items.
      learned: by name, what was computed from one bank for `Method.tables` and is needed again for `Method.fitted`.
    """

    config: ModelConfig
    item_counts: np.ndarray
    raw_items: Callable[[], np.ndarray] | None = None
    split: Split | None = None
    turn: np.ndarray | None = None
    start: Mapping[str, np.ndarray] | None = None
    learned: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The result of `make`, which is called only at the first use of the name, because on a large catalogue it takes minutes."""
        if name not in self.learned:
            self.learned[name] = make()
        result: T = self.learned[name]
        return result


class Method:
    """A method: an item encoder, and everything else that differs from the plain backbone.

    A method is one object, in `METHODS` by the name that a config gives it. A new one is a file with a subclass and a line in
    `METHODS`: it must define `encoder`. By default it reads no text and has no gates and no additional loss.

    Attributes of the class:
      trained: whether the method has parameters to learn. If not, the model is validated, saved and used without training.
      needs_bank: whether it reads text, so that a knowledge bank must be prepared.
      reads_states: whether its auxiliary loss reads `StepContext.states`, which are computed at the start of each epoch.
      pads_start: whether ID vectors that start from text may be longer than the components of the text; the rest is random.
      loss: the loss if `config.train.loss` is "auto": one of `LOSSES`.
    """

    trained: ClassVar[bool] = True
    needs_bank: ClassVar[bool] = False
    reads_states: ClassVar[bool] = False
    pads_start: ClassVar[bool] = False
    loss: ClassVar[str] = "bce"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> ItemEncoder:
        """The item encoder.

        Args:
          config: the `model` section.
          sizes: V and E.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define encoder")

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """Numbers that one model trains for item vectors, outside its backbone, at least; 0: unknown. A run for which they are too many is
        refused before it starts.

        Args:
          config: the `model` section.
          sizes: V and E; E is 0 where the width is not known yet.
        """
        return 0

    def default_loss(self, config: ModelConfig) -> str:
        """The loss if `config.train.loss` is "auto": `loss`, unless fields of the `model` section imply another one."""
        return self.loss

    def loss_of(self, config: Config) -> str:
        """The name of the loss with which a config trains the method.

        Raises:
          UserError: the method's own loss is none of `LOSSES`.
        """
        loss = config.train.loss
        return check_loss(self, self.default_loss(config.model)) if loss == "auto" else loss

    def fits_text(self, config: ModelConfig) -> bool:
        """Whether the tables contain text vectors in directions that are fitted to the items (`text_turn`). If so, a model cannot read
        tables that were fitted on another day.
        """
        return False

    def text_turn(self, items: np.ndarray, config: ModelConfig) -> np.ndarray | None:
        """[E, E'] matrix that turns item vectors [V, E] into directions that are fitted to them; None if the method fits none."""
        return None

    def starts_from_text(self, config: ModelConfig) -> bool:
        """Whether ID vectors start from components of text, whose directions are fitted to the items (`Facts.start`)."""
        return False

    def gated(self, config: ModelConfig) -> bool:
        """Whether the encoder has gates (`ItemEncoder.gated`) with this `model` section. If so, there are query tables too."""
        return False

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """The frozen tables that the encoder and the auxiliary loss read, except the query tables of gates (`frozen.frozen_query_tables`).

        Args:
          bank: the four tables of the knowledge bank, by name; empty for a method that reads no text.
          facts: the `model` section, the numbers of training interactions, and more.
        """
        return ()

    def fitted(self, bank: Bank, facts: Facts) -> Mapping[str, np.ndarray]:
        """Arrays that are fitted to the catalogue and that `of_new_items` needs to read new texts; they are saved with the model.

        Args:
          bank, facts: as in `tables`.
        """
        return {}

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """The arrays that the encoder reads for items that were not in training; by default their rows and those of their neighbours.

        Raises:
          UserError: the method does not compute item vectors from texts.
        """
        rows = dict(zip(ITEM_TABLES, (texts.items, texts.items_similar), strict=True))
        return ReadOfNew({name: table for name, table in rows.items() if table is not None})

    def trust(
        self, config: ModelConfig, counts: np.ndarray, fitted: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """How far the method trusts the ID vector ("id") or the text ("text") of each item: [V] shares from 0 to 1; empty if it does not
        weight them.

        Args:
          config: the `model` section.
          counts: [V] training interactions.
          fitted: the arrays of `fitted`, of the items of training; later items follow them.
        """
        return {}

    def start(self, params: Params, tables: Tables) -> Params:
        """The parameters with which the training of one model starts, computed from random ones. It is called within jit."""
        return params

    def auxiliary(self, config: ModelConfig, sizes: ModelSizes) -> AuxiliaryLoss | None:
        """An additional loss, added to that of the next item; None if there is none.

        Args:
          config: the `model` section.
          sizes: E and B.
        """
        return None

    def check(self, config: Config) -> None:
        """Checks that the config has no values that contradict the method.

        Raises:
          UserError: naming the field.
        """

    def around_backbone(self, backbone: Backbone, config: ModelConfig, max_length: int) -> Backbone:
        """The module that turns item vectors into states: the backbone, a module that contains it, or one that replaces it.

        Args:
          backbone: the one that the config names.
          config: the `model` section.
          max_length: longest packed history.
        """
        return backbone


def check_loss(method: Method, loss: str) -> str:
    """The loss of a method, unchanged.

    Raises:
      UserError: there is no such loss.
    """
    if loss not in LOSSES:
        raise UserError(
            f"{type(method).__name__}: its loss is {loss!r}; expected one of {', '.join(LOSSES)}"
        )
    return loss
