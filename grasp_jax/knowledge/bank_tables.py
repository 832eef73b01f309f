"""From the encoder's vectors to the tables of a bank: centred rows, neighbours and their means (Sec. 3.2 of the paper)."""

import functools

import ml_dtypes
import numpy as np

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.bank import new_table
from grasp_jax.knowledge.encoders.geometry import (
    Blocks,
    Geometry,
    mean_direction,
    principal_directions,
    to_rows,
    unit_rows,
    widths,
)
from grasp_jax.knowledge.neighbours.pooling import mean_of_neighbours
from grasp_jax.knowledge.neighbours.retrieve import Search, find_neighbours, row_groups, same_text
from grasp_jax.knowledge.raw import LENGTHS, item_lengths
from grasp_jax.knowledge.refresh import refreshed_neighbours
from grasp_jax.knowledge.shards import read_shards, shard_width
from grasp_jax.knowledge.unfinished_bank import GROUP_FIELDS, KINDS, Tables, UnfinishedBank

BLOCK = 4096  # rows copied at a time


def bank_tables(
    config: KnowledgeConfig,
    split: Split,
    sources: SourceTexts,
    work: UnfinishedBank,
    search: Search | None = None,
) -> Tables:
    """The four tables of a bank and its extras; with `config.since`, unchanged rows come from that bank."""
    tables, partial, since = work.tables, work.partial, work.old if config.since else None
    geometries = _geometries(config, split, work)
    for kind in KINDS:
        unit = _write_rows(config, kind, work, geometries[kind])
        field = GROUP_FIELDS[kind]
        groups = row_groups(getattr(sources, kind), field, value_of(config, field))
        if (
            since is not None
            and config.retrieval == "exact"
            and groups is None
            and not config.exclude_copies
        ):
            neighbours = refreshed_neighbours(
                unit,
                config.num_neighbours,
                work.earlier_rows[kind],
                since.extras[f"{kind}_neighbours"],
            )
        else:
            labels = same_text(tables.get(f"{kind}_texts"), unit) if config.exclude_copies else None
            neighbours = find_neighbours(config, kind, unit, groups, labels, partial, search)
        tables[kind] = unit
        tables[f"{kind}_similar"] = new_table(partial, f"{kind}_similar", unit.shape, config.dtype)
        mean_of_neighbours(
            unit, neighbours, tables[f"{kind}_similar"], config.pooling == "similarity"
        )
        tables |= {f"{kind}_centre": geometries[kind].centre, f"{kind}_neighbours": neighbours}
    earlier = work.old.extras.get(LENGTHS) if work.old is not None else None
    lengths = item_lengths(
        work.shards, work.earlier_rows["items"], geometries["items"].centre, earlier
    )
    if lengths is not None:
        tables[LENGTHS] = lengths
    if geometries["items"].basis is not None:
        tables["basis"] = geometries["items"].basis
    return tables


def _geometries(config: KnowledgeConfig, split: Split, work: UnfinishedBank) -> dict[str, Geometry]:
    """The geometry of item and user vectors: that of an earlier bank, or one computed from these vectors.

    Raises:
      UserError: vectors of several widths, or of another than the earlier bank's.
    """
    given = {kind: shard_width(work.shards, kind) for kind in KINDS if len(work.wanted(kind))}
    if work.old is not None:
        extras = work.old.extras
        earlier = {
            kind: Geometry(np.asarray(extras[f"{kind}_centre"]), extras.get("basis"))
            for kind in KINDS
        }
        wide = len(earlier["items"].centre)
        for width in given.values():
            if widths(config, width)[0] != wide:
                named = config.since or config.centre_from
                raise UserError(
                    f"{named}: that bank's vectors are {wide} wide, the encoder's {width}; prepare without it"
                )
        return earlier
    if len(set(given.values())) > 1:
        raise UserError(
            f"item vectors are {given['items']} wide and user vectors {given['users']}; expected one width"
        )
    read, kept = widths(config, given["items"])
    blocks: dict[str, Blocks] = {
        kind: functools.partial(read_shards, work.shards, kind) for kind in KINDS
    }
    centres = {
        kind: mean_direction(blocks[kind], read) if config.center else np.zeros(read, np.float32)
        for kind in KINDS
    }
    basis = None
    if config.reduction.kind == "pca":
        basis = principal_directions(blocks["items"], split.item_counts > 0, centres["items"], kept)
    return {kind: Geometry(centre, basis) for kind, centre in centres.items()}


def _write_rows(
    config: KnowledgeConfig, kind: str, work: UnfinishedBank, geometry: Geometry
) -> np.ndarray:
    """[rows, E] the table of a kind: rows of the earlier bank where they are unchanged, else vectors of the encoder, in order."""
    width = len(geometry.centre) if geometry.basis is None else geometry.basis.shape[1]
    earlier_rows, new, begin = work.earlier_rows[kind], work.wanted(kind), 0
    unit = new_table(work.partial, kind, (len(earlier_rows), width), config.dtype)
    for vectors in read_shards(work.shards, kind):
        unit[new[begin : begin + len(vectors)]] = to_rows(vectors, geometry)
        begin += len(vectors)
    if work.old is not None:
        old, unchanged = getattr(work.old, kind), np.flatnonzero(earlier_rows >= 0)
        for start in range(0, len(unchanged), BLOCK):
            rows = unchanged[start : start + BLOCK]
            unit[rows] = _mended(old[earlier_rows[rows]], geometry)
    return unit


def _mended(rows: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Rows of an earlier bank, zeros where there is no text: versions before 0.6 wrote minus the mean there."""
    if not geometry.centre.any():
        return rows
    minus = unit_rows(-geometry.centre[None])
    minus = minus if geometry.basis is None else unit_rows(minus @ geometry.basis)
    rounding = 4 * float(ml_dtypes.finfo(rows.dtype).eps)  # type: ignore[no-untyped-call]
    allowed = rounding * np.abs(minus) + 1e-6
    empty = (np.abs(rows.astype(np.float32) - minus) <= allowed).all(axis=1, keepdims=True)
    return np.where(empty, rows.dtype.type(0), rows)
