"""Shapes of what own code returns, and a refusal of code that reads as one array a table whose rows are not all on each device."""

from collections.abc import Callable
from typing import Any

import jax

from grasp_jax.core.errors import UserError
from grasp_jax.models.batch import Tables
from grasp_jax.parallel.mesh import TABLE
from grasp_jax.parallel.rows import HostRows, ShardedRows


def shapes_of(name: str, of: Callable[..., Any], given: Any, tables: Tables) -> Any:
    """The shapes of `of(given, tables)`; nothing is computed.

    Raises:
      UserError: it fails, and would not if all rows of all tables were on every device; `name` says whose function it is.
    """
    try:
        return jax.eval_shape(of, given, tables)
    except Exception as error:
        split = {
            table: rows
            for table, rows in tables.items()
            if isinstance(rows, ShardedRows | HostRows)
        }
        whole = {**tables, **{table: _as_one_array(rows) for table, rows in split.items()}}
        if not split or not _runs(of, given, whole):
            raise
        alone = [table for table in split if not _runs(of, given, {**whole, table: split[table]})]
        table = [*alone, *split][0]
        rows = split[table]
        of_items = isinstance(rows, ShardedRows) and rows.axes == (TABLE,)
        field, value = ("mesh.table", "1") if of_items else ("tables.users", "device")
        raise UserError(
            f"{name} reads the table {table!r} as one array, but by config.{field} not all of its rows are on each device; set "
            f"config.{field}={value}, or read the table with from_all_rows and from_rows of grasp_jax.parallel.rows (docs/extending.md, "
            "Tables that are split)"
        ) from error


def _as_one_array(rows: ShardedRows | HostRows) -> jax.ShapeDtypeStruct:
    dtype = rows.rows.dtype if isinstance(rows, ShardedRows) else rows.dtype
    return jax.ShapeDtypeStruct(rows.shape, dtype)


def _runs(of: Callable[..., Any], given: Any, tables: Any) -> bool:
    try:
        jax.eval_shape(of, given, tables)
    except Exception:  # of anybody's code
        return False
    return True
