"""GRU4Rec and BERT4Rec on packed rows against one user at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import END, MASK_SLOT, START, pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.backbones.gru4rec import GRU4Rec
from grasp_jax.models.batch import GatheredPlaces, OwnNegatives, PackedBatch, PairScores, Targets
from grasp_jax.models.build import build_model
from grasp_jax.models.device_data import DeviceData, gather_batch, interaction_logits, logits_of
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.targets import StepShape, count_targets, draw_targets, mask_batch
from grasp_jax.training.training_set import TrainingSet
from tests.assembly import assembled, sharpened

FEATURES, LENGTH, BATCH, RATE = 6, 8, 6, 0.4
SEGMENTS = np.array([[4, 4, 4, 9, 9, -1, -1], [2, 7, 7, 7, 7, 7, 1]])
POSITIONS = np.array([[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 2, 3, 4, 0]])


def asked_at(places: jax.Array, negatives: jax.Array, logits: jax.Array | None) -> Targets:
    """Targets at [P] places with [P, G] negatives, for a model that needs no users."""
    return Targets(GatheredPlaces(places), places, places, OwnNegatives(negatives), logits)


def gru_by_hand(params: dict[str, Any], history: np.ndarray, num_layers: int) -> np.ndarray:
    """One user's [T, D] inputs -> [T, D] states in float64, position by position."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = history.astype(np.float64)
    for layer in range(num_layers):
        weights = (
            np.asarray(params[f"input_{layer}"]["kernel"], np.float64),
            np.asarray(params[f"recurrent_{layer}"], np.float64),
        )
        (wr, wz, wn), (ur, uz, un) = (np.split(weight, 3, axis=1) for weight in weights)
        state, states = np.zeros(FEATURES), []
        for row in x:
            r, z = sigmoid(row @ wr + state @ ur), sigmoid(row @ wz + state @ uz)
            n = np.tanh(row @ wn + r * (state @ un))
            state = (1 - z) * n + z * state
            states.append(state)
        x = np.stack(states)
    return x


@pytest.mark.parametrize("num_layers", [1, 2])
def test_gru_equals_one_user_at_a_time(num_layers: int) -> None:
    """A user's state would leak into the next history of its row, or a gate be another than PyTorch's."""
    model = GRU4Rec(FEATURES, num_layers)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES)))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)["params"]
    params = jax.tree.map(lambda leaf: 1.5 * np.asarray(leaf), params)
    states = np.asarray(jax.jit(model.apply)({"params": params}, vectors, SEGMENTS, POSITIONS))
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            np.testing.assert_allclose(
                states[row, own],
                gru_by_hand(params, vectors[row, own], num_layers),
                rtol=1e-5,
                atol=1e-5,
            )


@pytest.mark.parametrize("start_token", [False, True])
def test_gru_runs_over_its_padding_first(start_token: bool) -> None:
    """LLM-ESR's protocol would start from zero after all, or the vector of its padding be trained."""
    model = GRU4Rec(FEATURES, 2, start_token=start_token, padded_length=20)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES)))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)["params"]
    params = jax.tree.map(lambda leaf: 1.5 * np.asarray(leaf), params) | {
        "padding": np.linspace(-1, 1, FEATURES, dtype=np.float32)
    }
    states, pull = jax.vjp(
        lambda params: model.apply({"params": params}, vectors, SEGMENTS, POSITIONS), params
    )
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            history = vectors[row, own].copy()
            if start_token:
                history[0] = params["padding"]
            padded = np.concatenate([np.tile(params["padding"], (20, 1)), history])
            np.testing.assert_allclose(
                states[row, own], gru_by_hand(params, padded, 2)[20:], rtol=1e-5, atol=1e-5
            )
    gradient = pull(jnp.ones_like(states))[0]
    assert not gradient["padding"].any() and np.abs(gradient["recurrent_0"]).max() > 0.01


def test_gru_gradient_stays_within_a_history() -> None:
    """Training would move a user's items by the errors of its neighbour in the row, or by those of the past."""
    model = GRU4Rec(FEATURES)
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)
    gradient = jax.jit(
        jax.grad(lambda x: (model.apply(params, x, SEGMENTS, POSITIONS)[1, 3] ** 2).sum())
    )(vectors)
    touched = np.abs(np.asarray(gradient)).max(axis=-1) > 1e-6
    assert touched.tolist() == [[False] * 7, [False, True, True, True, False, False, False]]


def test_gru_dropout_is_off_outside_training() -> None:
    """Rankings would change from call to call, or training have no dropout."""
    model = GRU4Rec(FEATURES)
    vectors = jnp.ones((*SEGMENTS.shape, FEATURES))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)
    call = jax.jit(
        lambda rate: model.apply(
            params, vectors, SEGMENTS, POSITIONS, rate, rngs={"dropout": jax.random.key(5)}
        )
    )
    still = model.apply(params, vectors, SEGMENTS, POSITIONS)
    np.testing.assert_allclose(call(jnp.float32(0.0)), still, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(call(jnp.float32(0.5))) - np.asarray(still)).max() > 0.01


def id_data(log: InteractionLog) -> DeviceData:
    """Device arrays of a log without knowledge and without exclusions."""
    nothing = jnp.zeros(log.num_users + 1, jnp.int32)
    return DeviceData(jnp.asarray(log.items), jnp.asarray(log.users), None, nothing, nothing)


def first_batch(log: InteractionLog, shortest: int) -> tuple[PackedBatch, np.ndarray, int]:
    """The first packed batch of users with so many training items, the places of their newest items, and L."""
    split = leave_one_out(log, LENGTH)
    users = np.flatnonzero(split.train.lengths >= shortest)
    packing = plan_packing(split.train, users, BATCH)
    slots, newest = pack(
        split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing
    )
    return gather_batch(id_data(log), jnp.asarray(slots[0])), newest[0], packing.row_length


def test_masks(small_log: InteractionLog) -> None:
    """BERT4Rec would have to predict empty places or too few items, or never the last one."""
    split = leave_one_out(small_log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(split.train, users, BATCH)
    slots, _ = pack(
        split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing
    )
    data = id_data(small_log)
    batch = gather_batch(data, jnp.asarray(slots[0]))
    shape = StepShape(small_log.num_items, 1, 0, 0, RATE)
    masked, asked = jax.jit(lambda key: mask_batch(key, batch, shape))(jax.random.key(3))
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
    many = [
        np.asarray(mask_batch(jax.random.key(k), batch, shape)[1][:rows]).sum() for k in range(40)
    ]
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
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, batch._replace(logits=own))[
        "params"
    ]
    ids = jnp.zeros((len(places), 1), jnp.int32)
    logits = logits_of(unit_tables, owners.ravel()[places % there.size][:, None], ids)
    targets = asked_at(places, ids, logits)
    scores = jax.jit(
        lambda p: (
            apply(model, p, SequenceModel.training_scores, unit_tables, twice, targets).positive
        )
    )(params)
    seen = batch._replace(items=shown, logits=other, masked=twice.masked[:rows])
    features = apply(model, params, SequenceModel.item_features, unit_tables)
    first = places[places < there.size]
    states, _ = apply(model, params, SequenceModel.user_states, features, seen, first)
    of_first = features[batch.items.ravel()[first]][:, None]
    expected = apply(
        model,
        params,
        SequenceModel.score_candidates,
        of_first,
        states,
        own.reshape(-1, 1, 2)[first],
        None,
    )
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
        batch = jax.tree.map(np.asarray, gather_batch(data, jnp.asarray(slots[s])))
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
    packed = gather_batch(data.device, jnp.asarray(make_epoch(data, made.replicas, 0).slots[0, 0]))
    batch, targets = jax.jit(
        lambda batch: draw_targets(jax.random.key(2), 0, data.device, batch, data.shape)
    )(packed)
    params = jax.jit(made.model.init)(jax.random.key(0), data.tables, packed)["params"]
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32),
        params,
    )
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
    params = jax.jit(model.init)(jax.random.key(0), {}, packed)["params"]
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
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, batch)["params"]
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
    params = jax.jit(made.model.init)(jax.random.key(0), tables, batch)["params"]
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
