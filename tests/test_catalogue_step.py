"""The training step with cross-entropy over the whole catalogue, against scores that ranking gives and all of them at once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.batch import PackedBatch, SeparateNegatives, Targets, WholeCatalogue
from grasp_jax.models.device_data import all_pair_logits, gather_batch
from grasp_jax.models.frozen import frozen_query_tables
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.replicas import PerReplica
from grasp_jax.training.step import TrainState, make_train_steps, with_gate_logits
from grasp_jax.training.targets import draw_targets
from grasp_jax.training.training_set import TrainingSet
from tests.assembly import assembled, sharpened
from tests.random_params import random_params

LENGTH = 8
MODELS = {
    "plain": ("plain", "sasrec", (), "none"),
    "llm_esr": ("llm_esr", "gru4rec", (), "none"),
    "rlmrec_con": ("rlmrec_con", "sasrec", (), "none"),
    "plus": ("grasp_plus", "sasrec", (10,), "none"),
    "bert4rec": ("grasp_plus", "bert4rec", (10,), "none"),
    "text": ("grasp", "sasrec", (10,), "none"),
    "gated": ("grasp", "sasrec", (10,), "learned"),
    "softmax": ("grasp", "sasrec", (), "softmax"),
    "gated plus": ("grasp_plus", "bert4rec", (10,), "learned"),
    "towers": ("grasp_plus", "sasrec", (10,), "none"),
}


def made(
    name: str, log: InteractionLog, unit_tables: Any, **changes: Any
) -> tuple[TrainingSet, dict[str, jax.Array]]:
    """A training of `MODELS` and its tables; `changes`: fields, with __ for a dot."""
    method, backbone, mlp, gate = MODELS[name]
    bank = {name: np.asarray(table) for name, table in sharpened(unit_tables, 6).items()}
    model = {
        "features": 6,
        "num_layers": 1,
        "mlp": mlp,
        "gate": gate,
        "plus.gate": gate,
        "plus.fusion": "late" if name == "towers" else "early",
        "plus.id_dropout": 0.0,
        "llm_esr.similar_users": 3,
        "mask_noise": 0.2,
    }
    config = ModelConfig().with_fields(model)
    split = leave_one_out(log, LENGTH)
    declared = [*METHODS[method].tables(bank, Facts(config, split.item_counts, split=split))]
    declared += frozen_query_tables("user", bank, split) if METHODS[method].gated(config) else []
    tables = {table.name: jnp.asarray(table.rows) for table in declared}
    train = {"loss": "ce", "batch_size": 6, "label_smoothing": 0.1}
    fields = {"data.max_length": LENGTH, "model": model, "train": train}
    fields |= {key.replace("__", "."): value for key, value in changes.items()}
    return assembled(log, tables, method, backbone, fields), tables


def inputs_of(own: TrainingSet, tables: Any, key: int = 7) -> Any:
    """Batch and targets of the first step, and parameters."""
    data = own.data
    slots = jnp.asarray(make_epoch(data, own.replicas, 0).slots[0][0])
    plain = jax.jit(gather_batch)(data.device, slots)

    @jax.jit
    def drawn(batch: PackedBatch) -> tuple[PackedBatch, Targets]:
        given = draw_targets(jax.random.key(key), 0, data.device, batch, data.shape)
        return with_gate_logits(own.model, tables, *given)

    batch, targets = drawn(plain)
    return batch, targets, jax.device_put(random_params(own.model, tables, plain))


def scores_of(own: TrainingSet, tables: Any, batch: Any, targets: Any, params: Any) -> Any:
    method = SequenceModel.training_scores
    return apply(own.model, params, method, tables, batch, targets)


# Of what "gated plus" computes; "plain", of what "rlmrec_con" does; and "llm_esr", of what test_step_scores.py sees.
PARTS = ("plus", "bert4rec", "text", "gated", "plain", "llm_esr")
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in PARTS else []) for name in MODELS]


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_those_of_all_scores(
    name: str, small_log: InteractionLog, unit_tables: Any
) -> None:
    """Vectors made once and read twice, or scores of a block, would train another model than a softmax over every item's score does.

    The reference asks every target about every item, as negatives of its own.
    """
    own, tables = made(name, small_log, unit_tables)
    batch, targets, params = inputs_of(own, tables)
    assert isinstance(targets.negatives, WholeCatalogue)
    num_items = small_log.num_items
    count = len(targets.users)
    everyone = jnp.broadcast_to(jnp.arange(num_items), (count, num_items))
    logits = None
    if own.model.gated:
        logits = jax.jit(all_pair_logits)(tables, targets.queries, jnp.arange(num_items))
    asked = targets._replace(negatives=SeparateNegatives(everyone), negative_logits=logits)
    wanted = targets.places.take(jnp.roll(batch.items, -own.model.ahead, axis=1))

    def reference(params: Any) -> jax.Array:
        pairs = scores_of(own, tables, batch, asked, params)
        mask = pairs.mask
        log_softmax = jax.nn.log_softmax(pairs.negative, axis=1)
        hit = jax.nn.one_hot(wanted, num_items)
        goal = 0.9 * hit + 0.1 / (num_items - 1) * (1 - hit)
        auxiliary = pairs.auxiliary
        if (
            name == "rlmrec_con"
        ):  # whose contrast reads drawn negatives: item 0 above, none in `ce` without dropout
            auxiliary = scores_of(own, tables, batch, targets, params).auxiliary
        return (mask * -(goal * log_softmax).sum(axis=1)).sum() / mask.sum() + auxiliary

    def loss(params: Any) -> jax.Array:
        scores = scores_of(own, tables, batch, targets, params)
        if name == "towers":  # each has a loss of its own: test_shared_negatives.py
            scores = scores._replace(towers=())
        return own.data.loss(scores)

    (value, gradient), (expected, theirs) = (
        jax.jit(jax.value_and_grad(f))(params) for f in (loss, reference)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(gradient), jax.tree.leaves(theirs), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) > 1e-2


LATER = ("plain", "plus", "bert4rec", "towers")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in LATER]


@pytest.mark.parametrize("name", ["gated plus", *SLOW])
def test_steps_of_several_models(name: str, small_log: InteractionLog, unit_tables: Any) -> None:
    """Steps would not run, or a model's loss not fall, or be another model's; also if only each user's last target is trained.

    The same program trains the second model beside itself: a step of one model alone would have to be compiled too (test_step.py).
    """
    changes = {"model__plus__id_dropout": 0.3, "model__dropout": (0.1,)}
    own, tables = made(
        name, small_log, unit_tables, train__seeds=(1, 2), train__targets="last", **changes
    )
    data = own.data
    assert data.shape.catalogue and not data.shape.deferred and data.shape.negatives == 0
    _, _, params = inputs_of(own, tables)
    two = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * np.asarray(leaf)]), params)
    state = TrainState(two, jax.jit(jax.vmap(optax.scale_by_adam().init))(two))
    slots = np.stack([make_epoch(data, own.replicas, epoch).slots for epoch in range(8)], 1)
    slots = slots.reshape(2, -1, *slots.shape[3:])
    rates = PerReplica(
        jax.vmap(jax.random.key)(jnp.array([1, 2])), np.float32([0.1] * 2), np.float32([1e-2] * 2)
    )
    steps = jax.jit(make_train_steps(own.model, data.shape, data.loss))
    ended, losses = steps(state, data.device, tables, slots, rates, np.int32(0))
    assert losses.shape == (slots.shape[1], 2) and np.isfinite(losses).all()
    first, last = np.asarray(losses[:4]).mean(axis=0), np.asarray(losses[-4:]).mean(axis=0)
    assert (last < first).all() and not np.allclose(losses[:, 0], losses[:, 1])
    twice = np.array([1, 1])
    state, rates = jax.jit(functools.partial(jax.tree.map, lambda leaf: leaf[twice]))(
        (state, rates)
    )
    alone, its_losses = steps(state, data.device, tables, slots[twice], rates, np.int32(0))
    np.testing.assert_allclose(losses[:, 1], its_losses[:, 0], rtol=1e-3)
    np.testing.assert_allclose(losses[:, 1], its_losses[:, 1], rtol=1e-3)
    assert jax.tree.structure(alone.params) == jax.tree.structure(ended.params)


def test_an_item_keeps_its_id_or_not_in_all_that_a_step_reads(
    small_log: InteractionLog, unit_tables: Any
) -> None:
    """An item would be itself in a history and its text alone as a target, or IDs be left out of rankings."""
    own, tables = made("plus", small_log, unit_tables, model__plus__id_dropout=0.5)
    batch, targets, params = inputs_of(own, tables)

    @jax.jit
    def vectors(params: Any, random: dict[str, jax.Array]) -> jax.Array:
        given = tables, batch, targets
        return own.model.apply(
            {"params": params}, *given, method="training_scores", rngs=random
        ).items

    drawn, whole = (
        np.asarray(vectors(params, random)) for random in ({"dropout": jax.random.key(1)}, {})
    )
    changed = np.abs(drawn - whole).max(axis=1) > 1e-6
    assert 0.2 < changed.mean() < 0.8
    table, trust = params["encoder"]["table"], np.asarray(tables["trust"])[:, None]
    np.testing.assert_allclose(
        (whole - drawn)[changed],
        (trust * table)[changed],
        rtol=1e-4,
        atol=1e-5,
    )
