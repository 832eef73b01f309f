"""BERT4Rec's masks, and what training asks behind them against what ranking asks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import END, MASK_SLOT, pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.batch import PackedBatch, PairScores, Targets
from grasp_jax.models.build import build_model
from grasp_jax.models.device_data import gather_batch, interaction_logits, logits_of
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.targets import StepShape, count_targets, draw_targets, mask_batch
from grasp_jax.training.training_set import TrainingSet
from tests.assembly import assembled, sharpened
from tests.packed_rows import BATCH, FEATURES, LENGTH, asked_at, first_batch, id_data
from tests.random_params import random_params

RATE = 0.4  # of masks


def test_masks(small_log: InteractionLog) -> None:
    """BERT4Rec would have to predict empty places or too few items, or never the last one."""
    split = leave_one_out(small_log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(split.train, users, BATCH)
    slots, _ = pack(
        split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing
    )
    data = id_data(small_log)
    batch = jax.jit(gather_batch)(data, jnp.asarray(slots[0]))
    shape = StepShape(small_log.num_items, 1, 0, 0, RATE)
    mask = jax.jit(lambda key: mask_batch(key, batch, shape))
    masked, asked = mask(jax.random.key(3))
    np.testing.assert_array_equal(asked, masked.masked)
    rows = len(slots[0])
    for name in ("items", "segments", "positions"):
        np.testing.assert_array_equal(
            getattr(masked, name), np.tile(np.asarray(getattr(batch, name)), (2, 1))
        )
    there = np.asarray(batch.segments) >= 0
    somewhere, last = np.asarray(masked.masked[:rows]), np.asarray(masked.masked[rows:])
    assert not (somewhere & ~there).any() and 0 < somewhere.sum() < there.sum()
    ends = {
        user: column
        for r in range(rows)
        for column, user in enumerate(np.asarray(batch.segments)[r])
        if user >= 0
    }
    assert last.sum() == len(ends) and not (last & ~there).any()
    for r, column in zip(*np.nonzero(last), strict=True):
        assert ends[int(batch.segments[r, column])] == column
    many = [np.asarray(mask(jax.random.key(k))[1])[:rows].sum() for k in range(40)]
    assert abs(np.mean(many) / there.sum() - RATE) < 0.05
    assert (
        max(many) + last.sum() <= count_targets(packing, RATE)
        and count_targets(packing, 0.0) == packing.num_pairs
    )


def test_noise_among_the_masks(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array]
) -> None:
    """With BERT's 80/10/10, an item that is replaced by another would be predicted as that other, or be read with its own gate."""
    batch = first_batch(small_log, shortest=2)[0]
    rows, there = len(batch.items), np.asarray(batch.segments) >= 0
    shape = StepShape(small_log.num_items, 1, 0, 0, RATE, mask_noise=0.2)
    counts, mask = np.zeros(3), jax.jit(lambda key: mask_batch(key, batch, shape))
    for k in range(40):
        twice, asked = mask(jax.random.key(k))
        masked, replaced = np.asarray(twice.masked[:rows]), np.asarray(twice.replaced) >= 0
        first = np.asarray(asked[:rows])
        assert (
            not (masked & replaced).any()
            and not ((masked | replaced) & ~first).any()
            and not (first & ~there).any()
        )
        counts += masked.sum(), replaced.sum(), (first & ~masked & ~replaced).sum()
    np.testing.assert_allclose(counts / counts.sum(), [0.6, 0.2, 0.2], atol=0.04)

    # As ranking computes it: the same histories with the other item in its place, asked there for the item that belongs there.
    config = ModelConfig().with_fields(
        {"features": FEATURES, "num_layers": 1, "mlp": (10,), "gate": "learned"}
    )
    model = build_model(
        config,
        "grasp",
        "bert4rec",
        ModelSizes(small_log.num_items, LENGTH + 2, unit_tables["items"].shape[1], BATCH),
    )
    owners, places = jnp.maximum(batch.segments, 0), jnp.flatnonzero(asked)
    shown = jnp.where(twice.replaced >= 0, twice.replaced, batch.items)
    own, other = (interaction_logits(unit_tables, owners, items) for items in (batch.items, shown))
    twice = twice._replace(logits=jnp.concatenate([own, own]), replaced_logits=other)
    params = random_params(model, unit_tables, batch._replace(logits=own))
    ids = jnp.zeros((len(places), 1), jnp.int32)
    logits = logits_of(unit_tables, owners.ravel()[places % there.size][:, None], ids)
    targets = asked_at(places, ids, logits)
    scores = jax.jit(
        lambda p: (
            apply(model, p, SequenceModel.training_scores, unit_tables, twice, targets).positive
        )
    )(params)
    seen = batch._replace(items=shown, logits=other, masked=twice.masked[:rows])
    first = places[places < there.size]

    @jax.jit
    def served(params: Any) -> jax.Array:
        features = apply(model, params, SequenceModel.item_features, unit_tables)
        states, _ = apply(model, params, SequenceModel.user_states, features, seen, first)
        of_first = features[batch.items.ravel()[first]][:, None]
        given = of_first, states, own.reshape(-1, 1, 2)[first], None
        return apply(model, params, SequenceModel.score_candidates, *given)

    expected = served(params)
    np.testing.assert_allclose(scores[: len(first)], expected[:, 0], rtol=1e-4, atol=1e-5)
    assert (np.asarray(twice.replaced).ravel()[first] >= 0).sum() > 0


def test_mask_slots(small_log: InteractionLog) -> None:
    """Ranking would ask at the newest item itself, or the mask would belong to another user or position."""
    split = leave_one_out(small_log, LENGTH)
    users = split.test.evaluated
    packing = plan_packing(split.test, users, BATCH, mask_at=END)
    batches = stratified_batches(split.test.lengths, users, BATCH, None)
    slots, newest = pack(split.test, batches, packing, mask_at=END)
    data = id_data(small_log)
    for s in range(len(slots)):
        batch = jax.tree.map(np.asarray, jax.jit(gather_batch)(data, jnp.asarray(slots[s])))
        for user, place in zip(batches[s], newest[s], strict=True):
            if user < 0:
                continue
            row, column = divmod(int(place), packing.row_length)
            length = split.test.lengths[user]
            assert slots[s, row, column] == MASK_SLOT - user and batch.masked[row, column]
            own = slice(column - length, column + 1)
            assert (batch.segments[row, own] == user).all() and batch.positions[
                row, own
            ].tolist() == list(range(length + 1))
            np.testing.assert_array_equal(
                batch.items[row, own][:-1],
                small_log.items[split.test.start[user] : split.test.end[user]],
            )
        assert batch.masked.sum() == (batches[s] >= 0).sum()


class Masked(NamedTuple):
    """BERT4Rec with gates, and one masked batch of it."""

    made: TrainingSet
    params: Any
    packed: PackedBatch
    batch: PackedBatch
    targets: Targets

    def scores(self, params: Any, batch: PackedBatch) -> PairScores:
        tables, targets = self.made.data.tables, self.targets
        logits = logits_of(tables, targets.users[:, None], targets.negatives.items)
        return apply(
            self.made.model,
            params,
            SequenceModel.training_scores,
            tables,
            batch,
            targets._replace(negative_logits=logits),
        )

    def of_first_copy(self) -> np.ndarray:
        """[P] bool: targets of the copy with masks here and there; the others are of the one that hides the last items."""
        return np.asarray(self.targets.places.flat) < self.packed.items.size


@pytest.fixture(scope="module", params=["learned", "softmax"])
def masked(
    request: pytest.FixtureRequest, small_log: InteractionLog, unit_tables: dict[str, jax.Array]
) -> Masked:
    model = {
        "features": FEATURES,
        "num_layers": 1,
        "mlp": 10,
        "gate": request.param,
        "mask_rate": RATE,
        "projection": "token",
    }
    fields = {
        "data.max_length": LENGTH,
        "model": model,
        "train": {"batch_size": BATCH, "negatives": 3},
    }
    made = assembled(small_log, sharpened(unit_tables, 6), "grasp", "bert4rec", fields)
    data = made.data
    slots = make_epoch(data, made.replicas, 0).slots[0, 0]
    packed = jax.jit(gather_batch)(data.device, jnp.asarray(slots))
    batch, targets = jax.jit(
        lambda batch: draw_targets(jax.random.key(2), 0, data.device, batch, data.shape)
    )(packed)
    params = random_params(made.model, data.tables, packed)
    return Masked(made, params, packed, batch, targets)


def test_last_mask_in_training_is_the_question_of_ranking(
    masked: Masked, small_log: InteractionLog
) -> None:
    """BERT4Rec would be trained on another question than ranking asks: what hides behind a mask after the history?"""
    data, model, train = masked.made.data, masked.made.model, masked.made.data.histories
    scores = jax.tree.map(np.asarray, jax.jit(masked.scores)(masked.params, masked.batch))
    asked_last = scores.mask & ~masked.of_first_copy()

    # The same users as ranking sees them: the history without its last item, and a mask.
    everyone = np.asarray(masked.targets.users)[asked_last]
    shorter = np.full((len(everyone), data.packing.row_length), -1, np.int32)
    newest = np.zeros(len(everyone), np.int32)
    for row, user in enumerate(everyone):
        count = train.lengths[user] - 1
        shorter[row, :count] = np.arange(train.start[user], train.end[user] - 1)
        shorter[row, count] = MASK_SLOT - user
        newest[row] = row * data.packing.row_length + count
    last_items = small_log.items[train.end[everyone] - 1]
    candidates = np.concatenate(
        [last_items[:, None], np.asarray(masked.targets.negatives.items)[asked_last]], axis=1
    )

    def serve(params: Any) -> jax.Array:
        features, alone = (
            apply(model, params, SequenceModel.item_features, data.tables),
            gather_batch(data.device, jnp.asarray(shorter)),
        )
        states, normaliser = apply(
            model, params, SequenceModel.user_states, features, alone, newest
        )
        logits = logits_of(data.tables, jnp.asarray(everyone)[:, None], jnp.asarray(candidates))
        return apply(
            model,
            params,
            SequenceModel.score_candidates,
            features[candidates],
            states,
            logits,
            normaliser,
        )

    served, segments = jax.jit(serve)(masked.params), np.asarray(masked.packed.segments)
    assert len(everyone) == len(set(segments[segments >= 0].tolist()))
    np.testing.assert_allclose(scores.positive[asked_last], served[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.negative[asked_last], served[:, 1:], rtol=1e-5, atol=1e-5)


def test_masked_training_moves_every_parameter(masked: Masked) -> None:
    """A part of the model would stay as it was initialised."""
    loss = jax.jit(
        jax.grad(lambda params: binary_cross_entropy(masked.scores(params, masked.batch)))
    )
    for path, leaf in jax.tree.leaves_with_path(loss(masked.params)):
        idle = "key']['bias" in jax.tree_util.keystr(
            path
        )  # a softmax does not see a constant added to all its logits
        assert idle or np.abs(np.asarray(leaf)).max() > 1e-5, jax.tree_util.keystr(path)


def test_masked_item_is_seen_by_no_state(masked: Masked, small_log: InteractionLog) -> None:
    """A state would read the item that it has to predict: nothing else notices which item is behind a mask."""
    batch, rows = masked.batch, len(masked.packed.items)
    swapped = batch._replace(
        items=jnp.where(batch.masked, (batch.items + 1) % small_log.num_items, batch.items)
    )
    before, after = (
        jax.tree.map(np.asarray, jax.jit(masked.scores)(masked.params, shown))
        for shown in (batch, swapped)
    )
    asked = before.mask & masked.of_first_copy()
    assert (batch.items[:rows] != swapped.items[:rows]).any() and asked.any()
    np.testing.assert_allclose(after.negative[asked], before.negative[asked], rtol=1e-5, atol=1e-5)
