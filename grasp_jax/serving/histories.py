"""People who are not in the training data: an audience from the items that each of them has had."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config.model import QUERIES_BY_INTERACTION, QUERIES_OF_BANK
from grasp_jax.core.errors import UserError
from grasp_jax.core.padding import next_power_of_two
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Histories, Split
from grasp_jax.evaluation.audience import Audience, whole_histories
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.models.batch import Params
from grasp_jax.models.device_data import QUERY_TABLES, DeviceData, interaction_logits
from grasp_jax.models.gate_queries import query_rows, query_tables
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.serving.artifact import Artifact

# length of the flat histories on the device; longer ones are padded to the next power of two, so that few shapes are compiled
SHORTEST = 64


class OnDevice(NamedTuple):
    """A saved model's arrays on the device.

    Attributes:
      params: of one replica.
      features: [V, ...] output of the item encoder for every item.
      tables: "items" and "items_similar", only for a gated model.
    """

    params: Params
    features: jax.Array
    tables: Mapping[str, jax.Array]


def audience_of_histories(
    artifact: Artifact,
    histories: Sequence[np.ndarray],
    on_device: OnDevice,
    low_rated: Sequence[np.ndarray] | None = None,
    queries: Sequence[np.ndarray] | None = None,
) -> Audience:
    """Makes an audience of people who have at least one item each.

    Args:
      artifact: the model.
      histories: item rows of each person, oldest first.
      on_device: its arrays.
      low_rated: rows of the items that each person has rated low, which count as seen; None: nothing.
      queries: for a gated model, `query_vectors` of these people; None: they are computed.

    Raises:
      UserError: the gates read the text of a user, and the model has no encoder for it.
    """
    log = _log(artifact, histories, low_rated)
    people, flat, offsets = np.arange(len(histories)), log.items, log.offsets
    kind, query_of_person, tables = "user", people.astype(np.int32), {}
    positions = np.arange(len(flat))
    if artifact.gated:
        kind = artifact.config.model.gate_query
        query_of_person = query_rows(kind, log, offsets[1:], people)
        dtype = jnp.dtype(artifact.config.model.table_dtype)
        by_name = (
            dict(zip(QUERY_TABLES, queries, strict=True))
            if queries is not None
            else _query_tables(artifact, kind, histories, log)
        )
        tables = dict(on_device.tables)
        tables |= {name: jnp.asarray(table, dtype) for name, table in by_name.items()}
    data = _device_data(log, query_rows(kind, log, positions, log.users), tables)
    ranker = Ranker(artifact.model, on_device.params, data, tables, on_device.features)
    return Audience(
        ranker,
        log,
        query_of_person,
        whole_histories(log, artifact.config.data.max_length),
        make_mesh(),
    )


def with_new_items(audience: Audience, artifact: Artifact, on_device: OnDevice) -> Audience:
    """The same people with a catalogue to which items were added; these have the last rows."""
    ranker = audience.ranker
    tables = {**ranker.tables, **(on_device.tables if artifact.gated else {})}
    ranker = dataclasses.replace(ranker, tables=tables, features=on_device.features)
    log = dataclasses.replace(audience.log, item_ids=artifact.catalogue.ids)
    return dataclasses.replace(audience, ranker=ranker, log=log)


def query_vectors(artifact: Artifact, histories: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The vectors that gates compare with items: [n, E] float32 of each person's text, and the mean of the texts of similar users.

    Args:
      artifact: a gated model.
      histories: of each person, item rows, oldest first.

    Raises:
      UserError: the model has no gates, the gates read a different text vector at each position of a history, or the model has no encoder
        for the text of a user.
    """
    if not artifact.gated:
        raise UserError(
            f"query_vectors: {artifact.method} has no gates; expected a gated method, such as grasp: others need no text of a user"
        )
    check_one_query(artifact)
    kind = artifact.config.model.gate_query
    tables = _query_tables(artifact, kind, histories, _log(artifact, histories))
    return [np.asarray(tables[name], np.float32) for name in QUERY_TABLES]


def check_one_query(artifact: Artifact) -> None:
    """Raises UserError if the gates read a different text vector at each position of a history."""
    kind = artifact.config.model.gate_query
    if kind in QUERIES_BY_INTERACTION:
        raise UserError(
            f"config.model.gate_query: {kind!r} reads a different text at each position of a history; expected user, neighbours or "
            "history, because an exported model takes one pair of text vectors for each person"
        )


def _log(
    artifact: Artifact,
    histories: Sequence[np.ndarray],
    low_rated: Sequence[np.ndarray] | None = None,
) -> InteractionLog:
    """Histories of item rows as the interactions of people 0, 1, ...; arguments as in `audience_of_histories`."""
    offsets = np.cumsum([0, *map(len, histories)])
    flat = np.concatenate([np.empty(0, np.int32), *histories]).astype(np.int32)
    low = None if low_rated is None else _pairs(low_rated)
    people = np.arange(len(histories))
    return InteractionLog("histories", people, artifact.catalogue.ids, flat, offsets, low_rated=low)


def _pairs(rows: Sequence[np.ndarray]) -> np.ndarray:
    """[J, 2] int32 (person, item row) of a list of item rows for each person."""
    people = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    return np.stack([people, np.concatenate([np.empty(0, np.int64), *rows])], axis=1).astype(
        np.int32
    )


def _device_data(
    log: InteractionLog, queries: np.ndarray, tables: Mapping[str, jax.Array]
) -> DeviceData:
    """The flat histories, padded to few different sizes. Only training needs an exclusion index."""
    size = max(SHORTEST, next_power_of_two(len(log.items)))
    items, users, query_of = (
        jnp.asarray(np.pad(array, (0, size - len(array))), jnp.int32)
        for array in (log.items, log.users, queries)
    )
    nothing = jnp.zeros(1, jnp.int32)
    data = DeviceData(items, users, None, nothing, nothing, query_of)
    return (
        data._replace(logits=jnp.asarray(interaction_logits(tables, query_of, items)))
        if tables
        else data
    )


def _query_tables(
    artifact: Artifact, kind: str, histories: Sequence[np.ndarray], log: InteractionLog
) -> Mapping[str, np.ndarray]:
    """The tables "users" and "users_similar" of these people."""
    if kind not in QUERIES_OF_BANK:
        full = Histories(log.offsets[:-1], log.offsets[1:], np.full(log.num_users, -1, np.int32))
        return query_tables(kind, artifact.tables, Split(log, full, full, full))
    if artifact.encoder is None:
        raise UserError(
            f"histories: the gates of {artifact.method} read the text of a user, and the knowledge bank of this model has no saved text "
            "encoder; prepare the bank again with this version, or recommend to users of the data"
        )
    own = artifact.encoder.encode_users(histories, artifact.catalogue.columns)
    similar = artifact.encoder.similar(own, artifact.tables["users"])
    return {"users": own if kind == "user" else similar, "users_similar": similar}


def place(artifact: Artifact) -> OnDevice:
    """Copies the arrays of a saved model to the device, for `audience_of_histories`."""
    dtype = jnp.dtype(artifact.config.model.table_dtype)
    tables = {
        name: jnp.asarray(artifact.tables[name], dtype)
        for name in ("items", "items_similar")
        if name in artifact.tables
    }
    # `jnp.asarray` would compile a program for each shape
    params, features = jax.device_put((dict(artifact.params), artifact.features))
    return OnDevice(params, features, tables)
