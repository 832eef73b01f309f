"""The frozen tables that a method reads, placed on devices as `config.mesh` and `config.tables` say."""

import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.models.batch import Tables
from grasp_jax.models.frozen import Bank, FrozenTable, Placement, frozen_query_tables
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.own_methods import tables_of
from grasp_jax.parallel.mesh import ALL, TABLE, replicate
from grasp_jax.parallel.rows import HostRows, PlacedRows, shard_rows
from grasp_jax.training.inherited import (
    check_start,
    check_turn,
    inherited_start,
    inherited_turn,
)
from grasp_jax.trials.run import Prepared


def frozen_tables(prepared: Prepared, method: str) -> Tables:
    """The frozen tables of a method, placed as `config.mesh` and `config.tables` say."""
    if method not in prepared.tables:
        bank: Bank = {}
        if METHODS[method].needs_bank:
            assert prepared.bank is not None
            bank = prepared.bank.tables
        config, split = prepared.run.config.for_method(method).model, prepared.run.split
        declared = tables_of(method, bank, facts_of(prepared, method))
        if METHODS[method].gated(config):
            declared += frozen_query_tables(config.gate_query, bank, split)
        prepared.tables[method] = {table.name: _on_devices(prepared, table) for table in declared}
    return prepared.tables[method]


def facts_of(prepared: Prepared, method: str) -> Facts:
    """What the tables of a method may depend on besides the bank; every call returns the same object."""
    if method not in prepared.facts:
        run = prepared.run
        model, counts = run.config.for_method(method).model, run.split.item_counts
        raw_items = functools.partial(_raw_items, prepared.bank)
        turn, start = _turn(prepared, method), _start(prepared, method)
        prepared.facts[method] = Facts(model, counts, raw_items, run.split, turn, start)
    return prepared.facts[method]


def _start(prepared: Prepared, method: str) -> Mapping[str, np.ndarray] | None:
    """`Facts.start` of a run that trains on from an earlier one."""
    run = prepared.run
    config = run.config.for_method(method)
    if not config.train.start_from or not METHODS[method].starts_from_text(config.model):
        return None
    earlier = pathlib.Path(config.train.start_from).expanduser()
    start = inherited_start(run.workdir, earlier, method)
    if start is not None:
        assert prepared.bank is not None
        check_start(start, prepared.bank.items.shape[1], method, config.model, earlier)
    return start


def _turn(prepared: Prepared, method: str) -> np.ndarray | None:
    """`Facts.turn` of a run that trains on from an earlier one."""
    run = prepared.run
    config = run.config.for_method(method)
    if not config.train.start_from or not METHODS[method].fits_text(config.model):
        return None
    earlier = pathlib.Path(config.train.start_from).expanduser()
    turn = inherited_turn(run.workdir, earlier, method)
    assert prepared.bank is not None
    check_turn(turn, prepared.bank.items.shape[1], method, config.model, earlier)
    return turn


def _raw_items(bank: KnowledgeBank | None) -> np.ndarray:
    """[V, E] item vectors as the encoder gave them."""
    assert bank is not None
    from grasp_jax.knowledge.raw import raw_item_vectors  # as what makes banks, not for every run

    return raw_item_vectors(bank)


def _on_devices(prepared: Prepared, table: FrozenTable) -> PlacedRows:
    """A frozen table, placed as the config wants it; a table of the bank is placed once for all methods."""
    if not table.bank_name:
        return _placed(prepared, table, table.rows.dtype)
    if table.bank_name not in prepared.shared:
        dtype = jnp.dtype(prepared.run.config.model.table_dtype)
        prepared.shared[table.bank_name] = _placed(prepared, table, dtype)
    return prepared.shared[table.bank_name]


def _placed(prepared: Prepared, table: FrozenTable, dtype: np.dtype) -> PlacedRows:
    config, mesh = prepared.run.config, prepared.mesh
    if table.placement is Placement.ITEM_ROWS and config.mesh.table > 1:
        return shard_rows(mesh, table.rows, dtype, (TABLE,))
    if table.placement is Placement.USER_ROWS and config.tables.users == "sharded":
        return shard_rows(mesh, table.rows, dtype, ALL)
    if table.placement is Placement.USER_ROWS and config.tables.users == "host":
        return HostRows(table.rows, dtype, mesh)
    whole: jax.Array = replicate(mesh, np.asarray(table.rows, dtype))
    return whole
