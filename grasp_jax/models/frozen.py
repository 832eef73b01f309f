"""Frozen tables, which training reads and never changes: a method declares them, and `placed_tables` places them on the devices."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from grasp_jax.data.split import Split
from grasp_jax.models.gate_queries import query_tables

Bank: TypeAlias = Mapping[str, np.ndarray]  # the four tables of a knowledge bank, by name
ITEM_TABLES, USER_TABLES = ("items", "items_similar"), ("users", "users_similar")


class Placement(enum.Enum):
    """Where the rows of a frozen table are stored."""

    EVERYWHERE = "everywhere"  # a copy on every device
    ITEM_ROWS = "item rows"  # split over the mesh axis "table"
    # as `config.tables.users` says: a copy on every device, rows split over all devices, or on the host
    USER_ROWS = "user rows"


@dataclasses.dataclass(frozen=True)
class FrozenTable:
    """A table that training reads but never changes.

    Attributes:
      name: the name under which encoders and losses read it.
      rows: [rows, ...].
      placement: where its rows are stored.
      bank_name: if it is a table of the knowledge bank, the name of that table, which is stored once for all methods in
        `config.model.table_dtype`; "" for a table that the method computes, which keeps its dtype.
    """

    name: str
    rows: np.ndarray
    placement: Placement = Placement.EVERYWHERE
    bank_name: str = ""


def of_bank(bank: Bank, bank_name: str, name: str = "") -> FrozenTable:
    """A table of the bank, under its own name or another one."""
    placement = Placement.ITEM_ROWS if bank_name in ITEM_TABLES else Placement.USER_ROWS
    return FrozenTable(name or bank_name, bank[bank_name], placement, bank_name)


def frozen_query_tables(kind: str, bank: Bank, split: Split) -> list[FrozenTable]:
    """The query tables "users" and "users_similar" of gates.

    Args:
      kind: `config.model.gate_query`, one of `config.model.QUERIES`.
      bank: the knowledge bank.
      split: the split whose training part some kinds read.
    """
    if kind == "user":
        return [of_bank(bank, name) for name in USER_TABLES]
    if kind == "neighbours":
        return [of_bank(bank, "users_similar", name) for name in USER_TABLES]
    return [
        FrozenTable(name, rows, Placement.USER_ROWS)
        for name, rows in query_tables(kind, bank, split).items()
    ]
