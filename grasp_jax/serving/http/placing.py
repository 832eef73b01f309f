"""Makes snapshots of a model: places its arrays on the device, compiles its programs, and adds items to a snapshot."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.histories import place
from grasp_jax.serving.http.fixed_programs import (
    MOST_EXCLUDED,
    ROWS_PER_WRITE,
    DeviceCatalogue,
    FixedPrograms,
    Shapes,
    batch_sizes_for,
    blocks,
    capacity_for,
    compile_programs,
    key_of,
)
from grasp_jax.serving.http.snapshot import ServingSnapshot
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
      batch_sizes: people in a batch, ascending; None: those that suit the size of the catalogue.
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
    earlier: ServingSnapshot | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> ServingSnapshot | None:
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
    params, served = placed.params, served_model(artifact, placed)
    neutral = item_vectors(artifact, params, placed.features) if artifact.gated else None
    del placed  # the features are as large as the vectors that are computed from them
    vectors = served.items[VECTORS] if neutral is None else neutral
    shapes = shapes._replace(width=vectors.shape[1])
    programs: FixedPrograms | None
    if earlier is not None and earlier.programs.key == key_of(served, shapes):
        programs = earlier.programs
    else:
        programs = compile_programs(served, shapes, keep_going)
    if programs is None:
        return None
    norms = _padded_on_device(_inverse_norms(vectors), shapes.capacity)
    del vectors
    items: dict[str, jax.Array] = {
        name: _padded_on_device(served.items.pop(name), shapes.capacity)
        for name in list(served.items)
    }
    catalogue = (
        DeviceCatalogue(items[VECTORS], None, norms)
        if neutral is None
        else DeviceCatalogue(items, _padded_on_device(neutral, shapes.capacity), norms)
    )
    snapshot = ServingSnapshot(
        artifact=artifact,
        base=artifact,
        params=params,
        programs=programs,
        parameters=jax.device_put(dict(served.parameters)),
        placed=catalogue,
        removed=frozenset(artifact.catalogue.unlisted.tolist()),
        number=1 if earlier is None else earlier.number + 1,
    )
    # compile now, so that the first new item need not wait
    _vectors_of_new(snapshot, artifact.features[:1])
    return snapshot if _warmed_up(snapshot, keep_going) else None


def with_items(snapshot: ServingSnapshot, artifact: Artifact) -> ServingSnapshot:
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
        # the vectors of later items are still computed with the model as it was loaded
        return dataclasses.replace(
            grown,
            base=snapshot.base,
            params=snapshot.params,
            removed=snapshot.removed,
            number=snapshot.number,
            index=snapshot.index,
        )
    return with_rows(snapshot, artifact, np.arange(first, last))


def with_rows(snapshot: ServingSnapshot, artifact: Artifact, rows: np.ndarray) -> ServingSnapshot:
    """The same model with other content in some rows of its items, none of which it had when it was loaded.

    Args:
      snapshot: the model that is served.
      artifact: its artifact with the new content.
      rows: [n] the rows, less than the capacity.
    """
    vectors = _vectors_of_new(snapshot, artifact.features[rows])
    new_items: Any = vectors
    if artifact.gated:
        dtype = jnp.dtype(artifact.config.model.table_dtype)
        new_items = {"features": np.asarray(artifact.features[rows], np.float32)}
        for name in ("items", "items_similar"):
            rounded = np.asarray(artifact.tables[name][rows]).astype(dtype)
            new_items[name] = rounded.astype(np.float32)
    catalogue = snapshot.placed
    new = DeviceCatalogue(new_items, vectors if artifact.gated else None, _inverse_norms(vectors))
    leaves, structure = jax.tree.flatten(new)
    past_the_end = snapshot.programs.shapes.capacity  # where nothing is written
    starts = range(0, len(rows), ROWS_PER_WRITE)
    for begin, block in zip(starts, zip(*map(blocks, leaves), strict=True), strict=True):
        places = np.full(ROWS_PER_WRITE, past_the_end, np.int32)
        own = rows[begin : begin + ROWS_PER_WRITE]
        places[: len(own)] = own
        catalogue = snapshot.programs.write(catalogue, jax.tree.unflatten(structure, block), places)
    return dataclasses.replace(snapshot, artifact=artifact, placed=catalogue)


def _vectors_of_new(snapshot: ServingSnapshot, features: np.ndarray) -> np.ndarray:
    """[n, D] vectors of the items that were added later, always computed in blocks of the same size."""
    base = snapshot.base
    vectors = [
        item_vectors(base, snapshot.params, jnp.asarray(block))
        for block in blocks(np.asarray(features))
    ]
    return np.concatenate(vectors)[: len(features)]


def _warmed_up(snapshot: ServingSnapshot, keep_going: Callable[[], bool]) -> bool:
    """Calls every program once, because the first call of each takes longer; returns False once `keep_going` does."""
    shapes, programs = snapshot.programs.shapes, snapshot.programs
    for (b, length), states in programs.states.items():
        if not keep_going():
            return False
        inputs: list[np.ndarray] = [np.zeros((b, length), np.int32), np.ones(b, np.int32)]
        if snapshot.artifact.gated:
            inputs += [np.zeros((b, snapshot.placed.items["items"].shape[1]), np.float32)] * 2
        person = states(snapshot.parameters, snapshot.placed.items, *inputs)
        for masked in (False, True):
            excluded = (
                np.zeros((b, shapes.capacity), bool)
                if masked
                else np.full((b, MOST_EXCLUDED), -1, np.int32)
            )
            available = snapshot.available_on_device
            best = programs.best[b, masked](
                snapshot.parameters, person, snapshot.placed.items, available, excluded
            )
            jax.block_until_ready(best)
        if snapshot.artifact.gated:
            arguments = (snapshot.parameters, person, snapshot.placed.items, best[1])
            jax.block_until_ready(programs.gates[b](*arguments))
        snapshot.nearest([0] * b)
    return True


def _inverse_norms(vectors: np.ndarray) -> np.ndarray:
    """[n] float32 one over the length of each row, computed as in `vectors.nearest_items`."""
    lengths = np.linalg.norm(vectors, axis=1)
    return np.asarray(1.0 / np.maximum(lengths, 1e-12), np.float32)


def _padded_on_device(rows: np.ndarray, capacity: int) -> jax.Array:
    """[V, ...] rows padded with zeros, on the device. On a CPU the memory is aligned as XLA needs it, so it is not copied."""
    shape = (capacity, *rows.shape[1:])
    size = rows.dtype.itemsize * int(np.prod(shape))
    buffer = np.empty(size + ALIGNED, np.uint8)
    begin = -buffer.ctypes.data % ALIGNED
    padded = buffer[begin : begin + size].view(rows.dtype).reshape(shape)
    padded[: len(rows)] = rows
    padded[len(rows) :] = 0
    return jnp.asarray(padded)
