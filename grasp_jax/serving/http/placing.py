"""Snapshots of a model: placed on the device with its programs compiled, and written again with more items."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.histories import place
from grasp_jax.serving.http.fixed_programs import (
    LEFT_OUT,
    WRITTEN,
    FixedPrograms,
    Placed,
    Shapes,
    batch_sizes_for,
    blocks,
    capacity_for,
    compile_programs,
    key_of,
)
from grasp_jax.serving.http.snapshot import Snapshot
from grasp_jax.serving.programs import VECTORS, served_model, without_kernels
from grasp_jax.serving.vectors import item_vectors

ALIGNED = 64  # bytes


def shapes_of(
    artifact: Artifact,
    batch_sizes: tuple[int, ...] | None,
    lengths: tuple[int, ...],
    most_items: int,
) -> Shapes:
    """The shapes for which a model is compiled.

    Args:
      artifact: the model.
      batch_sizes: people at once, ascending; None: those that suit the size of the catalogue.
      lengths: lengths of histories, in addition to the longest that the model reads.
      most_items: largest number of items in an answer.
    """
    longest, num_items = artifact.config.data.max_length, len(artifact.catalogue.ids)
    shorter = tuple(sorted({length for length in lengths if length < longest}))
    capacity = capacity_for(num_items)
    sizes = batch_sizes or batch_sizes_for(capacity)
    return Shapes(sizes, (*shorter, longest), capacity, min(most_items, capacity), 0)


def take_snapshot(
    artifact: Artifact,
    shapes: Shapes,
    earlier: Snapshot | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> Snapshot | None:
    """Places a model on the device and compiles its programs, unless those of an earlier snapshot fit.

    Args:
      artifact: the model.
      shapes: from `shapes_of`; this function sets the width.
      earlier: the model that was served before.
      keep_going: as in `compile_programs`.

    Returns:
      The snapshot, after one call of every program; None if `keep_going` returned False.

    Raises:
      UserError: the gates read a different text vector at each position of a history.
    """
    artifact = without_kernels(artifact)
    placed = place(artifact)
    params, of = placed.params, served_model(artifact, placed)
    alone = item_vectors(artifact, params, placed.features) if artifact.gated else None
    del placed  # the features are as large as the vectors that are computed from them
    vectors = of.items[VECTORS] if alone is None else alone
    shapes = shapes._replace(width=vectors.shape[1])
    programs: FixedPrograms | None
    if earlier is not None and earlier.programs.key == key_of(of, shapes):
        programs = earlier.programs
    else:
        programs = compile_programs(of, shapes, keep_going)
    if programs is None:
        return None
    inverse = _filled(_inverse(vectors), shapes.capacity)
    del vectors
    items: dict[str, jax.Array] = {
        name: _filled(of.items.pop(name), shapes.capacity) for name in list(of.items)
    }
    catalogue = (
        Placed(items[VECTORS], None, inverse)
        if alone is None
        else Placed(items, _filled(alone, shapes.capacity), inverse)
    )
    made = Snapshot(
        artifact=artifact,
        base=artifact,
        params=params,
        programs=programs,
        parameters={name: jnp.asarray(array) for name, array in of.parameters.items()},
        placed=catalogue,
        removed=frozenset(),
        number=1 if earlier is None else earlier.number + 1,
    )
    # compile now, so that the first new item need not wait
    _vectors_of_new(made, artifact.features[:1])
    return made if _warm(made, keep_going) else None


def with_items(snapshot: Snapshot, artifact: Artifact) -> Snapshot:
    """The same model with more items; compiles only if the catalogue has no room for them.

    Args:
      snapshot: the model that is served.
      artifact: its artifact with the new items as its last rows.
    """
    first, last = len(snapshot.catalogue.ids), len(artifact.catalogue.ids)
    if last > snapshot.programs.shapes.capacity:
        larger = snapshot.programs.shapes._replace(capacity=capacity_for(last))
        grown = take_snapshot(artifact, larger)
        assert grown is not None
        return dataclasses.replace(
            grown, removed=snapshot.removed, number=snapshot.number, index=snapshot.index
        )
    vectors = _vectors_of_new(snapshot, artifact.features[first:last])
    given: Any = vectors
    if artifact.gated:
        dtype = jnp.dtype(artifact.config.model.table_dtype)
        given = {"features": np.asarray(artifact.features[first:last], np.float32)}
        for name in ("items", "items_similar"):
            rounded = np.asarray(artifact.tables[name][first:last]).astype(dtype)
            given[name] = rounded.astype(np.float32)
    whole = snapshot.placed
    new = Placed(given, vectors if artifact.gated else None, _inverse(vectors))
    leaves, structure = jax.tree.flatten(new)
    nowhere = snapshot.programs.shapes.capacity
    for begin, block in zip(
        range(first, last, WRITTEN), zip(*map(blocks, leaves), strict=True), strict=True
    ):
        at = np.arange(begin, begin + WRITTEN, dtype=np.int32)
        at[at >= last] = nowhere
        whole = snapshot.programs.write(whole, jax.tree.unflatten(structure, block), at)
    return dataclasses.replace(snapshot, artifact=artifact, placed=whole)


def _vectors_of_new(snapshot: Snapshot, features: np.ndarray) -> np.ndarray:
    """[n, D] vectors of the items that were added later, always computed in blocks of the same size."""
    base = snapshot.base
    made = [
        item_vectors(base, snapshot.params, jnp.asarray(block))
        for block in blocks(np.asarray(features))
    ]
    return np.concatenate(made)[: len(features)]


def _warm(snapshot: Snapshot, keep_going: Callable[[], bool]) -> bool:
    """Calls every program once, because the first call of each takes longer; returns False once `keep_going` does."""
    shapes, programs = snapshot.programs.shapes, snapshot.programs
    for (b, length), states in programs.states.items():
        if not keep_going():
            return False
        asked: list[np.ndarray] = [np.zeros((b, length), np.int32), np.ones(b, np.int32)]
        if snapshot.artifact.gated:
            asked += [np.zeros((b, snapshot.placed.items["items"].shape[1]), np.float32)] * 2
        person = states(snapshot.parameters, snapshot.placed.items, *asked)
        for masked in (False, True):
            left_out = (
                np.zeros((b, shapes.capacity), bool)
                if masked
                else np.full((b, LEFT_OUT), -1, np.int32)
            )
            found = programs.best[b, masked](
                snapshot.parameters, person, snapshot.placed.items, snapshot.is_open, left_out
            )
            jax.block_until_ready(found)
        if snapshot.artifact.gated:
            known = (snapshot.parameters, person, snapshot.placed.items)
            jax.block_until_ready(programs.gates[b](*known, found[1]))
        snapshot.nearest([0] * b)
    return True


def _inverse(vectors: np.ndarray) -> np.ndarray:
    """[n] float32 one over the length of each row, computed as in `vectors.nearest_items`."""
    lengths = np.linalg.norm(vectors, axis=1)
    return np.asarray(1.0 / np.maximum(lengths, 1e-12), np.float32)


def _filled(rows: np.ndarray, capacity: int) -> jax.Array:
    """[V, ...] rows padded with zeros, on the device. On a CPU the memory is aligned as XLA needs it, so it is not copied."""
    shape = (capacity, *rows.shape[1:])
    size = rows.dtype.itemsize * int(np.prod(shape))
    room = np.empty(size + ALIGNED, np.uint8)
    begin = -room.ctypes.data % ALIGNED
    whole = room[begin : begin + size].view(rows.dtype).reshape(shape)
    whole[: len(rows)] = rows
    whole[len(rows) :] = 0
    return jnp.asarray(whole)
