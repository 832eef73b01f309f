"""What a method adds to a backbone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import ml_collections
import numpy as np

Bank = Mapping[str, np.ndarray]  # the four tables of a knowledge bank, by name


def no_tables(bank: Bank, features: int) -> Bank:
    """A method that reads no text."""
    return {}


def no_auxiliary(config: ml_collections.ConfigDict, width: int, num_users: int) -> nn.Module | None:
    """A method whose loss is Eq. 6 alone."""
    return None


def as_initialised(params: Any, tables: Mapping[str, Any]) -> Any:
    """A method whose parameters start at random."""
    return params


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the paper's tables.

    Attributes:
      encoder: (the `model` section, V, E) -> item encoder.
      tables: (bank, D) -> the frozen tables that training reads; gates are computed where "users" is among them.
      start: (fresh parameters, tables) -> the parameters that training starts from.
      auxiliary: (the `model` section, E, B) -> module of a loss beside Eq. 6, or None; it is called with (tables, segments, states,
        items, item vectors) of a batch.
      needs_bank: whether text must be prepared.
    """

    encoder: Callable[[ml_collections.ConfigDict, int, int], nn.Module]
    tables: Callable[[Bank, int], Bank] = no_tables
    start: Callable[[Any, Mapping[str, Any]], Any] = as_initialised
    auxiliary: Callable[[ml_collections.ConfigDict, int, int], nn.Module | None] = no_auxiliary
    needs_bank: bool = False
