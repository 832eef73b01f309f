"""What a method adds to a backbone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from grasp_jax.config_dict import ConfigDict

Bank = Mapping[str, np.ndarray]  # the four tables of a knowledge bank, by name


@dataclasses.dataclass(frozen=True)
class Facts:
    """What frozen tables may depend on besides the bank: the `model` section and [V] training interactions of each item."""

    config: ConfigDict
    item_counts: np.ndarray


def no_tables(bank: Bank, facts: Facts) -> Bank:
    """A method that reads no text."""
    return {}


def no_auxiliary(config: ConfigDict, width: int, num_users: int) -> nn.Module | None:
    """A method whose loss is Eq. 6 alone."""
    return None


def as_initialised(params: Any, tables: Mapping[str, Any]) -> Any:
    """A method whose parameters start at random."""
    return params


def backbone_alone(backbone: nn.Module, config: ConfigDict, max_length: int) -> nn.Module:
    """A method that gives the backbone the item vectors as they are."""
    return backbone


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the paper's tables.

    Attributes:
      encoder: (the `model` section, V, E) -> item encoder.
      tables: (bank, facts) -> the frozen tables that training reads; gates are computed where "users" is among them.
      start: (fresh parameters, tables) -> the parameters that training starts from.
      auxiliary: (the `model` section, E, B) -> module of a loss beside Eq. 6, or None; it is called with (tables, segments, states,
        items, item vectors) of a batch.
      around_backbone: (backbone, the `model` section, longest history) -> the module that turns item vectors into states.
      needs_bank: whether text must be prepared.
      reads_states: whether the auxiliary loss reads "states", [N, D] newest states of all users at the start of the epoch.
      loss: "bce", "softmax" or "gbce" of `training.losses`, for the config's "auto".
    """

    encoder: Callable[[ConfigDict, int, int], nn.Module]
    tables: Callable[[Bank, Facts], Bank] = no_tables
    start: Callable[[Any, Mapping[str, Any]], Any] = as_initialised
    auxiliary: Callable[[ConfigDict, int, int], nn.Module | None] = no_auxiliary
    around_backbone: Callable[[nn.Module, ConfigDict, int], nn.Module] = backbone_alone
    needs_bank: bool = False
    reads_states: bool = False
    loss: str = "bce"
