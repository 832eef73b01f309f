"""States of all users, as self-distillation reads them, and what a checkpoint holds of models that read them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import MASK_SLOT
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.build import build_model
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.snapshot import initial_snapshot, snapshot_like
from grasp_jax.training.states import newest_states, pack_all_users
from tests.random_params import random_params
from tests.test_catalogue_step import made

LENGTH = 8


@pytest.mark.parametrize("backbone", ["gru4rec", "bert4rec"])
def test_states_equal_one_user_at_a_time(small_log: InteractionLog, backbone: str) -> None:
    """A teacher would be another user, another model, or a state after validation and test items."""
    split = leave_one_out(small_log, LENGTH)
    nothing = jnp.zeros(small_log.num_users + 1, jnp.int32)
    data = DeviceData(
        jnp.asarray(small_log.items), jnp.asarray(small_log.users), None, nothing, nothing
    )
    config = ModelConfig().with_fields({"features": 6, "num_layers": 1})
    model = build_model(
        config, "plain", backbone, ModelSizes(small_log.num_items, LENGTH + 2, 0, 4)
    )
    masked = model.backbone.bidirectional
    everyone = pack_all_users(split.train, 4, model.backbone.mask_at)
    gather = jax.jit(gather_batch)
    first = random_params(model, {}, gather(data, everyone.slots[0]))
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), first)
    found = newest_states(model, params, data, {}, everyone, small_log.num_users)
    assert found.shape == (2, small_log.num_users, 6)
    alone = np.full((small_log.num_users, LENGTH + 2), -1, np.int32)  # one user a row
    for user in range(small_log.num_users):
        begin, end = split.train.start[user], split.train.end[user]
        alone[user, : end - begin] = np.arange(begin, end)
        if masked:
            alone[user, end - begin] = MASK_SLOT - user
    newest = np.arange(small_log.num_users) * alone.shape[1] + (alone != -1).sum(axis=1) - 1
    each = gather(data, jnp.asarray(alone))

    @jax.jit
    def states(params: Any) -> jax.Array:
        features = apply(model, params, SequenceModel.item_features, {})
        return apply(model, params, SequenceModel.user_states, features, each, newest)[0]

    for m in range(2):
        one = jax.tree.map(lambda leaf, m=m: leaf[m], params)
        np.testing.assert_allclose(found[m], states(one), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "llm_esr"])
def test_a_snapshot_is_described_as_it_is(
    name: str, small_log: InteractionLog, unit_tables: Any
) -> None:
    """A trained model would be read with other shapes than it was saved with, or onto other devices."""
    own, _ = made(name, small_log, unit_tables, train__seeds=(1, 2))
    given = own.model, own.replicas, own.data
    snapshot, described = initial_snapshot(*given), snapshot_like(*given)
    assert (snapshot.state.states is not None) == (name == "llm_esr")
    assert jax.tree.structure(snapshot) == jax.tree.structure(described)
    for leaf, like in zip(jax.tree.leaves(snapshot), jax.tree.leaves(described), strict=True):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        if isinstance(leaf, jax.Array):
            assert isinstance(like, jax.ShapeDtypeStruct) and leaf.sharding == like.sharding
