"""The newest state of every user, for losses that compare users (LLM-ESR's self-distillation); computed once an epoch."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.parallel.mesh import make_mesh, shard


class AllUsers(NamedTuple):
    """Training histories of all users, packed: [S, R, L] slots, [S, B] places of the newest item (or mask) and user rows, -1 for none."""

    slots: jax.Array
    newest: jax.Array
    users: jax.Array


def pack_all_users(
    histories: Histories, block: int, mask_at: str, mesh: Mesh | None = None
) -> AllUsers:
    """Blocks of `block` users, packed as the backbone's `mask_at` requires, and split over the mesh; None: one device."""
    mesh = mesh or make_mesh()
    users = np.flatnonzero(histories.lengths > 0)
    batches, slots, newest = pack_in_blocks(histories, users, block, mask_at, mesh.size)
    return AllUsers(*shard(mesh, (slots, newest, batches.astype(np.int32)), axis=1))


@functools.partial(jax.jit, static_argnames=("model", "num_users"))
def newest_states(
    model: SequenceModel,
    params: Params,
    data: DeviceData,
    tables: Tables,
    all_users: AllUsers,
    num_users: int,
) -> jax.Array:
    """[M, N, D] states of M models after each user's training history."""

    def of_one_model(params: Params) -> jax.Array:
        features = apply(model, params, SequenceModel.item_features, tables)

        def block(part: tuple[jax.Array, jax.Array]) -> jax.Array:
            states: jax.Array = apply(
                model,
                params,
                SequenceModel.user_states,
                features,
                gather_batch(data, part[0]),
                part[1],
            )[0]
            return states

        states = jax.lax.map(block, (all_users.slots, all_users.newest))
        rows = jnp.where(all_users.users >= 0, all_users.users, num_users).ravel()
        return (
            jnp.zeros((num_users, states.shape[-1]))
            .at[rows]
            .set(states.reshape(-1, states.shape[-1]), mode="drop")
        )

    states: jax.Array = jax.lax.map(of_one_model, params)
    return states
