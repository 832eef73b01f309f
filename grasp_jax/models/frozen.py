"""Frozen tables: what training reads and never changes, declared by a method, and placed on the devices by whoever runs it."""

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
    """Where the rows of a frozen table may lie."""

    EVERYWHERE = "everywhere"  # a copy on every device
    ITEM_ROWS = "item rows"  # cut over the mesh axis "table"
    USER_ROWS = "user rows"  # as `config.tables.users` says: a copy on every device, rows over all devices, or on the host


@dataclasses.dataclass(frozen=True)
class FrozenTable:
    """A table that training reads and never changes.

    Attributes:
      name: by which encoders and losses read it.
      rows: [rows, ...].
      placement: where its rows may lie.
      bank_name: of the table of the knowledge bank that it is, which is stored once for all methods, in `config.model.table_dtype`; ""
        for a table of the method's own, which keeps its type.
    """

    name: str
    rows: np.ndarray
    placement: Placement = Placement.EVERYWHERE
    bank_name: str = ""


def of_bank(bank: Bank, bank_name: str, name: str = "") -> FrozenTable:
    """A table of the bank, read by its own name or by another."""
    placement = Placement.ITEM_ROWS if bank_name in ITEM_TABLES else Placement.USER_ROWS
    return FrozenTable(name or bank_name, bank[bank_name], placement, bank_name)


def asked_with(kind: str, bank: Bank, split: Split) -> list[FrozenTable]:
    """The query tables "users" and "users_similar" of gates.

    Args:
      kind: `config.model.gate_query`, one of `gate_queries.QUERIES`.
      bank: the knowledge.
      split: of whose training part some kinds are made.
    """
    if kind == "user":
        return [of_bank(bank, name) for name in USER_TABLES]
    if kind == "neighbours":
        return [of_bank(bank, "users_similar", name) for name in USER_TABLES]
    return [
        FrozenTable(name, rows, Placement.USER_ROWS)
        for name, rows in query_tables(kind, bank, split).items()
    ]
