"""Rows of interactions that may not be meant to count: other kinds of events than purchases, and quantities below zero."""

import collections
import contextlib
import json
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from grasp_jax.core.words import one_line
from grasp_jax.data.columns import bare, names_kinds
from grasp_jax.data.table_files import ending_of
from grasp_jax.data.tables import SourceTable, is_text, values_of
from grasp_jax.setup.keep import command_that_keeps
from grasp_jax.setup.sample import Sample

PURCHASES = set(
    (
        "purchase purchases purchased buy bought order orders ordered transaction transactions "
        "paid completed delivered"
    ).split()
)
YES = {"1", "1.0", "True", "true"}
REVOKED = {"cancelled", "canceled", "refunded", "refund", "returned", "return"}
OTHERS = {
    *("view", "views", "pageview", "pv", "view_item", "impression", "click", "clicks"),
    *("cart", "carts", "add_to_cart", "addtocart", "remove_from_cart", "checkout"),
    *("fav", "favorite", "favourite", "wishlist"),
}
QUANTITY = ("quantity", "qty", "units")  # ends of names; an amount may be a discount
MOST_KINDS, MOST_SHOWN = 20, 6  # distinct values of a column of kinds; of them in a message
KEPT = "kept_"  # before the name of the file


def notes_on_rows(log: Sample, used: Collection[str]) -> list[str]:
    """What a run does with kinds of events and quantities below zero, for people; a second line is a command that keeps some of the rows.

    Args:
      log: the interactions.
      used: columns that have another role.
    """
    notes = []
    for name in log.names:
        if name in used or name in log.table.repeated:
            continue
        counts = _counts(log.table, name)
        if counts and _are_kinds(name, counts, log.whole):
            notes.append(_note_on_kinds(log, name, counts))
        elif _is_quantity(name) and (below := _share_below_zero(log.table, name)):
            words = f"column {name!r} is below zero in {_percent(below)} of the {_rows(log)}, as of returned goods"
            notes.append(_note(log, words, "those above zero", name, None))
    return notes


def prefer_kept(pairs: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Tables without those of which the command above has kept some rows, and a line for each that is left out for its kept rows."""
    kept = {(table.path, *table.names): table for table in pairs}
    left, notes = [], []
    for table in pairs:
        file = _kept_file(table.path)
        if (file, *table.names) in kept:
            notes.append(
                f"{file.name} has the kept rows of {table.path.name}, and is used instead of it (config.data.interactions_file)"
            )
        else:
            left.append(table)
    return left, notes


def _kept_file(path: pathlib.Path) -> pathlib.Path:
    """The file of the rows that are kept of another one, or of a folder of Parquet files."""
    out = path.with_name(KEPT + path.name.removesuffix(ending_of(path)[1]))
    if path.is_dir() and out.suffix != ".parquet":
        out = out.with_name(out.name + ".parquet")
    return out


def _is_quantity(name: str) -> bool:
    return bare(name) == "amount" or bare(name).endswith(QUANTITY)


def _counts(table: SourceTable, name: str) -> list[tuple[Any, int]]:
    """The values of a column and in how many rows they are, the most frequent first; empty if they are many, or lists."""
    values = table.columns[name]
    if isinstance(values, list):
        if not all(isinstance(value, str | int | float | None) for value in values):
            return []
        counts = collections.Counter(values)
    else:
        if pa.types.is_nested(values.type):
            return []
        pairs = values.value_counts()
        if len(pairs) > MOST_KINDS:
            return []
        found = zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True)
        counts = collections.Counter({_plain(value): count for value, count in found})
    return counts.most_common() if len(counts) <= MOST_KINDS else []


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _are_kinds(name: str, counts: list[tuple[Any, int]], whole: bool) -> bool:
    """Whether a column says what kind of event a row is, by its name or its values; a single kind in all rows leaves nothing to decide."""
    if len(counts) < 2 and (whole or not counts):
        return False
    known = [value for value, _ in counts if bare(str(value)) in PURCHASES | REVOKED | OTHERS]
    return names_kinds(name) or 2 * len(known) > len(counts)


def _note_on_kinds(log: Sample, name: str, counts: list[tuple[Any, int]]) -> str:
    shown = [f"{_shown(value)} ({_percent(n / log.table.num_rows)})" for value, n in counts]
    rest = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
    kept = _kept(name, [value for value, _ in counts if value not in (None, "")])
    words = f"column {name!r} has {', '.join(shown[:MOST_SHOWN])}{rest} of the {_rows(log)}"
    return _note(log, words, "only " + ", ".join(map(_shown, kept)), name, kept)


def _kept(name: str, values: list[Any]) -> list[Any]:
    """Values of an example: purchases; if none is called so, all that were not revoked, or the most frequent one."""
    if bare(name).startswith("is_") and (yes := [value for value in values if str(value) in YES]):
        return yes
    if bought := [value for value in values if bare(str(value)) in PURCHASES]:
        return bought
    valid = [value for value in values if bare(str(value)) not in REVOKED]
    return valid if len(valid) < len(values) else valid[:1]


def _note(log: Sample, words: str, kept: str, name: str, values: list[Any] | None) -> str:
    path = log.path.resolve()
    out = _kept_file(path)
    file = json.dumps(out.name, ensure_ascii=False)
    return (
        f"whether all rows count: {words}, and a run uses every row; for example, the command below keeps {kept}; if you run it, set "
        f"config.data.interactions_file = {file}\n{command_that_keeps(log.table, path, out, name, values)}"
    )


def _share_below_zero(table: SourceTable, name: str) -> float:
    """Share of the rows with a number below zero; 0 if most of the rows have no number, or all numbers are below zero, as of discounts."""
    values = table.columns[name]
    if not isinstance(values, list) and not (
        is_text(values.type)
        or pa.types.is_integer(values.type)
        or pa.types.is_floating(values.type)
    ):
        return 0.0
    numbers = np.full(table.num_rows, np.nan)
    for row, value in enumerate(values_of(table, name)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers[row] = float(value)
    known = np.isfinite(numbers)
    if known.mean() <= 0.5 or (numbers[known] < 0).all():
        return 0.0
    return float((numbers < 0).mean())


def _rows(log: Sample) -> str:
    return "rows" if log.whole else f"first {log.table.num_rows:,} rows"


def _shown(value: Any) -> str:
    return one_line("(empty)" if value in (None, "") else value, 40)


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"
