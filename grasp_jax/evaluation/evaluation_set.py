"""The evaluation set of a split: each user's history, the held-out item and its stored negatives, in blocks that fit a device."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.evaluation.ranker import UserBlock
from grasp_jax.models.batch import Tables
from grasp_jax.models.device_data import interaction_logits
from grasp_jax.parallel.mesh import make_mesh, shard


class EvaluationBlocks(NamedTuple):
    """The arrays of an `EvaluationSet` that are on the device, S blocks of B users."""

    slots: jax.Array
    newest: jax.Array
    candidates: jax.Array
    queries: jax.Array
    candidate_logits: jax.Array | None


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Everything about one split that does not depend on the model; it is computed once.

    Attributes:
      users: [n] evaluated user rows, in the order of every `ranks` array.
      targets: [n] item rows.
      batches: [S, B] user rows, -1 for none.
      order: [S, B] position of each user in `users`, -1 for none.
      slots: [S, R, L] packed histories, on the device.
      newest: [S, B] place of the newest item, or of the mask after it, on the device.
      candidates: [S, B, 1+C] target first, then the stored negatives, on the device.
      queries: [S, B] int32 row of the query tables for each target, on the device.
      candidate_logits: [S, B, 1+C, 2] or None.
    """

    users: np.ndarray
    targets: np.ndarray
    batches: np.ndarray
    order: np.ndarray
    slots: jax.Array
    newest: jax.Array
    candidates: jax.Array
    queries: jax.Array
    candidate_logits: jax.Array | None

    @property
    def blocks(self) -> EvaluationBlocks:
        """All blocks."""
        return EvaluationBlocks(
            self.slots, self.newest, self.candidates, self.queries, self.candidate_logits
        )

    def block(self, step: int) -> tuple[UserBlock, jax.Array]:
        """The users of one block, and [B] int32 the item rows of their targets."""
        block: tuple[UserBlock, jax.Array] = _block_at(self.blocks, jax.device_put(np.int32(step)))
        return block


@jax.jit
def _block_at(blocks: EvaluationBlocks, step: jax.Array) -> tuple[UserBlock, jax.Array]:
    """One of S blocks. It is compiled, because indexing outside jit copies the index to the device implicitly."""
    users = UserBlock(blocks.slots[step], blocks.newest[step], blocks.queries[step])
    return users, blocks.candidates[step, :, 0]


def evaluation_set(
    histories: Histories,
    negatives: np.ndarray,
    gate_tables: Tables,
    user_block: int,
    mask_at: str = "",
    queries: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> EvaluationSet:
    """Packs the histories of the evaluated users and caches the gate logits of their candidates.

    Args:
      histories: validation or test windows.
      negatives: [n, C] stored negatives of `histories.evaluated`, in that order.
      gate_tables: frozen tables from which gate logits are computed; empty for models without gates.
      user_block: B.
      mask_at: `mask_at` of the backbone.
      queries: [N] row of the query tables for each user's target; None: the row of the user.
      mesh: devices that share the users of a block; None: one device.
    """
    mesh, users = mesh or make_mesh(), histories.evaluated
    batches, slots, newest = pack_in_blocks(histories, users, user_block, mask_at, mesh.size)
    order = np.where(batches >= 0, np.searchsorted(users, batches), -1)
    targets = histories.target[users]
    candidates = np.concatenate([targets[:, None], negatives], axis=1)[order]
    rows = np.maximum(batches, 0)
    query_rows = (rows if queries is None else queries[rows]).astype(np.int32)
    query_rows, candidates, slots, newest = shard(
        mesh, (query_rows, candidates, slots, newest), axis=1
    )
    logits = None
    if gate_tables:
        logits = interaction_logits(
            gate_tables, jnp.broadcast_to(query_rows[..., None], candidates.shape), candidates
        )
        logits = shard(mesh, logits, axis=1)
    return EvaluationSet(
        users=users,
        targets=targets,
        batches=batches,
        order=order,
        slots=slots,
        newest=newest,
        candidates=candidates,
        queries=query_rows,
        candidate_logits=logits,
    )


def in_user_order(values: np.ndarray, evaluation: EvaluationSet) -> np.ndarray:
    """[S, B, ...] values of packed blocks -> [n, ...] in the order of `evaluation.users`."""
    ordered = np.empty((len(evaluation.users), *values.shape[2:]), values.dtype)
    filled = evaluation.order >= 0
    ordered[evaluation.order[filled]] = values[filled]
    return ordered
