"""What backbones are asked at the first and at the last item of a history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import START, pack, stratified_batches
from grasp_jax.models.build import build_model
from grasp_jax.models.device_data import gather_batch, logits_of
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.targets import draw_targets
from tests.assembly import assembled, sharpened
from tests.packed_rows import BATCH, FEATURES, LENGTH, asked_at, first_batch, gru_by_hand
from tests.random_params import random_params


@pytest.mark.parametrize("last_only", [False, True])
def test_start_token_asks_for_the_first_item(small_log: InteractionLog, last_only: bool) -> None:
    """A start token would stand in another place, be an item, or leave users of one item without a question."""
    fields = {
        "data.max_length": LENGTH,
        "model": {"features": FEATURES, "start_token": True, "projection": "token"},
        "train": {
            "batch_size": BATCH,
            "negatives": 2,
            "targets": "last" if last_only else "every",
            "one_item_users": True,
        },
    }
    made = assembled(small_log, {}, "plain", "gru4rec", fields)
    model, data, train = made.model, made.data, made.data.histories
    assert (model.backbone.mask_at, model.backbone.bidirectional) == (START, False)
    batches = stratified_batches(train.lengths, data.users, BATCH, None)
    slots, newest = pack(train, batches, data.packing, START)
    packed = gather_batch(data.device, jnp.asarray(slots[0]))
    params = random_params(model, {}, packed)
    batch, targets = jax.jit(
        lambda b: draw_targets(jax.random.key(2), 0, data.device, b, data.shape)
    )(packed)
    scores = jax.jit(lambda p: apply(model, p, SequenceModel.training_scores, {}, batch, targets))(
        params
    )
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = {}
    for user, place in zip(batches[0], newest[0], strict=True):
        if user < 0:
            continue
        history = small_log.items[train.start[user] : train.end[user]]
        inputs = np.concatenate([exact["mask_vector"][None], exact["encoder"]["table"][history]])
        states = gru_by_hand(exact["backbone"], inputs, 1)
        first = int(place) - len(history)
        for t in range(len(history) - 1 if last_only else 0, len(history)):
            expected[first + t] = states[t] @ exact["encoder"]["table"][history[t]]
    found = dict(
        zip(
            np.asarray(targets.places.flat)[scores.mask].tolist(),
            np.asarray(scores.positive)[scores.mask],
            strict=True,
        )
    )
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        np.testing.assert_allclose(found[place], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["plain", "llm_esr"])
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
def test_the_last_item_is_asked_for_and_not_shown(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array], method: str, backbone: str
) -> None:
    """Without the causal mask a state would read its own answer; LLM-ESR feeds a history without its last item."""
    batch, newest, length = first_batch(small_log, shortest=3)
    config = ModelConfig().with_fields({"features": FEATURES, "num_layers": 1, "causal": False})
    model = build_model(
        config,
        method,
        backbone,
        ModelSizes(small_log.num_items, LENGTH + 2, unit_tables["items"].shape[1], BATCH),
    )
    params = jax.tree.map(jnp.asarray, random_params(model, unit_tables, batch))
    places = jnp.asarray(newest - 1)  # of the last but one of each history
    last, earlier = (np.divmod(newest - back, length) for back in (0, 1))

    @jax.jit
    def negative(items: jax.Array) -> jax.Array:
        targets = asked_at(places, jnp.full((BATCH, 1), 7), None)
        return apply(
            model,
            params,
            SequenceModel.training_scores,
            unit_tables,
            batch._replace(items=items),
            targets,
        ).negative

    scores = negative(batch.items)
    np.testing.assert_array_equal(scores, negative(batch.items.at[last].add(1)))
    assert np.abs(np.asarray(scores - negative(batch.items.at[earlier].add(1)))).max() > 1e-4


def test_first_item_has_one_gate_as_target_and_as_negative(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array]
) -> None:
    """Behind a start token the softmax gate would normalise a negative over a list with nobody's item in it."""
    tables = sharpened(unit_tables, 6)
    model = {"features": FEATURES, "start_token": True, "mlp": (), "projection": "token"}
    fields = {
        "data.max_length": LENGTH,
        "model": model,
        "train": {"batch_size": BATCH, "one_item_users": True},
    }
    made = assembled(small_log, tables, "grasp_softmax", "gru4rec", fields)
    batch = gather_batch(
        made.data.device, jnp.asarray(make_epoch(made.data, made.replicas, 0).slots[0, 0])
    )
    params = random_params(made.model, tables, batch)
    segments = np.asarray(batch.segments)
    places = np.flatnonzero(((segments >= 0) & (segments == np.roll(segments, -1, axis=1))).ravel())
    same = jnp.asarray(np.asarray(batch.items).ravel()[places + 1][:, None])
    logits = logits_of(tables, jnp.asarray(segments.ravel()[places][:, None]), same)
    targets = asked_at(jnp.asarray(places), same, logits)
    scores = jax.jit(
        lambda p: apply(made.model, p, SequenceModel.training_scores, tables, batch, targets)
    )(params)
    assert (np.asarray(batch.positions).ravel()[places] == 0).sum() > 3
    np.testing.assert_allclose(scores.positive, scores.negative[:, 0], rtol=1e-4, atol=1e-6)
