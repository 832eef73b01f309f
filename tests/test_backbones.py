"""GRU4Rec and BERT4Rec on packed rows against one user at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import default_config
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import END, MASK_SLOT, START, pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.device_data import DeviceData, gather_batch, interaction_logits, logits_of
from grasp_jax.models.gru4rec import GRU4Rec
from grasp_jax.models.recommender import PackedBatch, apply, build_recommender
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.targets import StepShape, count_targets, draw_targets, mask_batch

FEATURES, LENGTH, BATCH, RATE = 6, 8, 6, 0.4
SEGMENTS = np.array([[4, 4, 4, 9, 9, -1, -1], [2, 7, 7, 7, 7, 7, 1]])
POSITIONS = np.array([[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 2, 3, 4, 0]])


def gru_by_hand(params: dict[str, Any], history: np.ndarray, num_layers: int) -> np.ndarray:
    """One user's [T, D] inputs -> [T, D] states in float64, position by position."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = history.astype(np.float64)
    for layer in range(num_layers):
        weights = np.asarray(params[f"input_{layer}"]["kernel"], np.float64), np.asarray(params[f"recurrent_{layer}"], np.float64)
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
            np.testing.assert_allclose(states[row, own], gru_by_hand(params, vectors[row, own], num_layers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start_token", [False, True])
def test_gru_runs_over_its_padding_first(start_token: bool) -> None:
    """LLM-ESR's protocol would start from zero after all, or the vector of its padding be trained."""
    model = GRU4Rec(FEATURES, 2, start_token=start_token, padded_length=20)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES)))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)["params"]
    params = jax.tree.map(lambda leaf: 1.5 * np.asarray(leaf), params) | {"padding": np.linspace(-1, 1, FEATURES, dtype=np.float32)}
    states, pull = jax.vjp(lambda params: model.apply({"params": params}, vectors, SEGMENTS, POSITIONS), params)
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            history = vectors[row, own].copy()
            if start_token:
                history[0] = params["padding"]
            padded = np.concatenate([np.tile(params["padding"], (20, 1)), history])
            np.testing.assert_allclose(states[row, own], gru_by_hand(params, padded, 2)[20:], rtol=1e-5, atol=1e-5)
    gradient = pull(jnp.ones_like(states))[0]
    assert not gradient["padding"].any() and np.abs(gradient["recurrent_0"]).max() > 0.01


def test_gru_gradient_stays_within_a_history() -> None:
    """Training would move a user's items by the errors of its neighbour in the row, or by those of the past."""
    model = GRU4Rec(FEATURES)
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)
    gradient = jax.jit(jax.grad(lambda x: (model.apply(params, x, SEGMENTS, POSITIONS)[1, 3] ** 2).sum()))(vectors)
    touched = np.abs(np.asarray(gradient)).max(axis=-1) > 1e-6
    assert touched.tolist() == [[False] * 7, [False, True, True, True, False, False, False]]


def test_gru_dropout_is_off_outside_training() -> None:
    """Rankings would change from call to call, or training have no dropout."""
    model = GRU4Rec(FEATURES)
    vectors = jnp.ones((*SEGMENTS.shape, FEATURES))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)
    call = jax.jit(lambda rate: model.apply(params, vectors, SEGMENTS, POSITIONS, rate, rngs={"dropout": jax.random.key(5)}))
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
    slots, newest = pack(split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing)
    return gather_batch(id_data(log), jnp.asarray(slots[0])), newest[0], packing.row_length


def test_masks(small_log: InteractionLog) -> None:
    """BERT4Rec would be asked for empty places, for too few items, or never for the last one."""
    split = leave_one_out(small_log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(split.train, users, BATCH)
    slots, _ = pack(split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing)
    data = id_data(small_log)
    batch = gather_batch(data, jnp.asarray(slots[0]))
    shape = StepShape(small_log.num_items, 1, 0, 0, RATE)
    masked, asked = jax.jit(lambda key: mask_batch(key, batch, shape))(jax.random.key(3))
    np.testing.assert_array_equal(asked, masked.masked)
    rows = len(slots[0])
    for name in ("items", "segments", "positions"):
        np.testing.assert_array_equal(getattr(masked, name), np.tile(np.asarray(getattr(batch, name)), (2, 1)))
    there = np.asarray(batch.segments) >= 0
    somewhere, last = np.asarray(masked.masked[:rows]), np.asarray(masked.masked[rows:])
    assert not (somewhere & ~there).any() and 0 < somewhere.sum() < there.sum()
    ends = {user: column for r in range(rows) for column, user in enumerate(np.asarray(batch.segments)[r]) if user >= 0}
    assert last.sum() == len(ends) and not (last & ~there).any()
    for r, column in zip(*np.nonzero(last), strict=True):
        assert ends[int(batch.segments[r, column])] == column
    many = [np.asarray(mask_batch(jax.random.key(k), batch, shape)[1][:rows]).sum() for k in range(40)]
    assert abs(np.mean(many) / there.sum() - RATE) < 0.05
    assert max(many) + last.sum() <= count_targets(packing, RATE) and count_targets(packing, 0.0) == packing.num_pairs


def test_noise_among_the_masks(small_log: InteractionLog, unit_tables: dict[str, jax.Array]) -> None:
    """Of BERT's 80/10/10, an item shown as another would be asked for as that other, or have the gate of its own."""
    batch = first_batch(small_log, shortest=2)[0]
    rows, there = len(batch.items), np.asarray(batch.segments) >= 0
    shape = StepShape(small_log.num_items, 1, 0, 0, RATE, mask_noise=0.2)
    counts = np.zeros(3)
    for k in range(40):
        twice, asked = jax.jit(lambda key: mask_batch(key, batch, shape))(jax.random.key(k))
        masked, replaced = np.asarray(twice.masked[:rows]), np.asarray(twice.replaced) >= 0
        first = np.asarray(asked[:rows])
        assert not (masked & replaced).any() and not ((masked | replaced) & ~first).any() and not (first & ~there).any()
        counts += masked.sum(), replaced.sum(), (first & ~masked & ~replaced).sum()
    np.testing.assert_allclose(counts / counts.sum(), [0.6, 0.2, 0.2], atol=0.04)

    # As ranking computes it: the same histories with the other item in its place, asked there for the item that belongs there.
    config = default_config().model
    config.features, config.num_layers, config.mlp, config.gate = FEATURES, 1, (10,), "learned"
    model = build_recommender(config, "grasp", "bert4rec", small_log.num_items, LENGTH + 2, unit_tables["items"].shape[1], "token", BATCH)
    owners, places = jnp.maximum(batch.segments, 0), jnp.flatnonzero(asked)
    shown = jnp.where(twice.replaced >= 0, twice.replaced, batch.items)
    own, other = (interaction_logits(unit_tables, owners, items) for items in (batch.items, shown))
    twice = twice._replace(logits=jnp.concatenate([own, own]), replaced_logits=other)
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, batch._replace(logits=own))["params"]
    ids = jnp.zeros((len(places), 1), jnp.int32)
    logits = logits_of(unit_tables, owners.ravel()[places % there.size][:, None], ids)
    scores = jax.jit(lambda p: apply(model, p, "training_scores", unit_tables, twice, places, ids, logits, None).positive)(params)
    seen = batch._replace(items=shown, logits=other, masked=twice.masked[:rows])
    features = apply(model, params, "item_features", unit_tables)
    first = places[places < there.size]
    states, _ = apply(model, params, "user_states", features, seen, first)
    expected = apply(
        model, params, "score_candidates", features[batch.items.ravel()[first]][:, None], states, own.reshape(-1, 1, 2)[first], None
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
            assert (batch.segments[row, own] == user).all() and batch.positions[row, own].tolist() == list(range(length + 1))
            np.testing.assert_array_equal(batch.items[row, own][:-1], small_log.items[split.test.start[user] : split.test.end[user]])
        assert batch.masked.sum() == (batches[s] >= 0).sum()


@pytest.mark.parametrize("gate", ["learned", "softmax"])
def test_last_mask_in_training_is_the_question_of_ranking(small_log: InteractionLog, unit_tables: dict[str, jax.Array], gate: str) -> None:
    """BERT4Rec would be trained on another question than ranking asks: what hides behind a mask after the history?"""
    split = leave_one_out(small_log, LENGTH)
    index = exclusion_index(small_log, small_log.offsets[:-1], split.train.end)
    items, owners = jnp.asarray(small_log.items), jnp.asarray(small_log.users)
    logits = 6 * interaction_logits(unit_tables, owners, items)
    data = DeviceData(items, owners, logits, jnp.asarray(index.shifted), jnp.asarray(index.offsets))
    users = np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(split.train, users, BATCH)
    slots, _ = pack(split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing)
    shape = StepShape(small_log.num_items, index.search_steps, count_targets(packing, RATE), 3, RATE)
    packed = gather_batch(data, jnp.asarray(slots[0]))
    batch, targets = jax.jit(lambda batch: draw_targets(jax.random.key(2), 0, data, batch, shape))(packed)
    config = default_config().model
    config.features, config.num_layers, config.mlp, config.gate = FEATURES, 1, (10,), gate
    model = build_recommender(config, "grasp", "bert4rec", small_log.num_items, LENGTH + 2, unit_tables["items"].shape[1], "token", BATCH)
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, packed)["params"]
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32), params)

    def training(params: Any, batch: Any) -> Any:
        negative_logits = 6 * logits_of(unit_tables, targets.users[:, None], targets.negatives)
        return apply(model, params, "training_scores", unit_tables, batch, targets.places, targets.negatives, negative_logits, None)

    scores = jax.tree.map(np.asarray, jax.jit(training)(params, batch))
    places, rows = np.asarray(targets.places), len(slots[0])
    asked_last = scores.mask & (places >= rows * packing.row_length)

    # The same users as ranking sees them: the history without its last item, and a mask.
    everyone = np.asarray(targets.users)[asked_last]
    shorter = np.full((len(everyone), packing.row_length), -1, np.int32)
    newest = np.zeros(len(everyone), np.int32)
    for row, user in enumerate(everyone):
        count = split.train.lengths[user] - 1
        shorter[row, :count] = np.arange(split.train.start[user], split.train.end[user] - 1)
        shorter[row, count] = MASK_SLOT - user
        newest[row] = row * packing.row_length + count
    last_items = np.array([small_log.items[split.train.end[user] - 1] for user in everyone])
    candidates = np.concatenate([last_items[:, None], np.asarray(targets.negatives)[asked_last]], axis=1)

    def serve(params: Any) -> jax.Array:
        features = apply(model, params, "item_features", unit_tables)
        states, normaliser = apply(model, params, "user_states", features, gather_batch(data, jnp.asarray(shorter)), newest)
        candidate_logits = 6 * logits_of(unit_tables, jnp.asarray(everyone)[:, None], jnp.asarray(candidates))
        return apply(model, params, "score_candidates", features[candidates], states, candidate_logits, normaliser)

    served = jax.jit(serve)(params)
    assert len(everyone) == len(set(np.asarray(packed.segments)[np.asarray(packed.segments) >= 0].tolist()))
    np.testing.assert_allclose(scores.positive[asked_last], served[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.negative[asked_last], served[:, 1:], rtol=1e-5, atol=1e-5)

    # Every parameter learns, and a masked item can be another one without any state noticing.
    gradient = jax.jit(jax.grad(lambda params: binary_cross_entropy(training(params, batch))))(params)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        idle = "key']['bias" in jax.tree_util.keystr(path)  # a softmax does not see a constant added to all its logits
        assert idle or np.abs(np.asarray(leaf)).max() > 1e-5, jax.tree_util.keystr(path)
    hidden = np.asarray(batch.masked)
    swapped = batch._replace(items=jnp.where(hidden, (batch.items + 1) % small_log.num_items, batch.items))
    shown = jax.jit(lambda params, batch: training(params, batch).negative)
    first_copy_only = scores.mask & (places < rows * packing.row_length)
    other = batch.items[:rows] != swapped.items[:rows]
    assert other.any() and first_copy_only.any()
    np.testing.assert_allclose(shown(params, swapped)[first_copy_only], scores.negative[first_copy_only], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last_only", [False, True])
def test_start_token_asks_for_the_first_item(small_log: InteractionLog, last_only: bool) -> None:
    """A start token would stand in another place, be an item, or leave users of one item without a question."""
    split = leave_one_out(small_log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 0)
    packing = plan_packing(split.train, users, BATCH, START)
    batches = stratified_batches(split.train.lengths, users, BATCH, None)
    slots, newest = pack(split.train, batches, packing, START)
    index = exclusion_index(small_log, small_log.offsets[:-1], split.train.end)
    data = DeviceData(
        jnp.asarray(small_log.items), jnp.asarray(small_log.users), None, jnp.asarray(index.shifted), jnp.asarray(index.offsets)
    )
    config = default_config().model
    config.features, config.start_token = FEATURES, True
    model = build_recommender(config, "plain", "gru4rec", small_log.num_items, LENGTH + 2, 0, "token", BATCH)
    assert (model.backbone.mask_at, model.backbone.bidirectional) == (START, False)
    packed = gather_batch(data, jnp.asarray(slots[0]))
    params = jax.jit(model.init)(jax.random.key(0), {}, packed)["params"]
    count = count_targets(packing, 0.0, last_only)
    shape = StepShape(small_log.num_items, index.search_steps, count, 2, last_only=last_only)
    batch, targets = jax.jit(lambda b: draw_targets(jax.random.key(2), 0, data, b, shape))(packed)
    scores = jax.jit(lambda p: apply(model, p, "training_scores", {}, batch, targets.places, targets.negatives, None, None))(params)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = {}
    for user, place in zip(batches[0], newest[0], strict=True):
        if user < 0:
            continue
        history = small_log.items[split.train.start[user] : split.train.end[user]]
        inputs = np.concatenate([exact["mask_vector"][None], exact["encoder"]["table"][history]])
        states = gru_by_hand(exact["backbone"], inputs, 1)
        first = int(place) - len(history)
        for t in range(len(history) - 1 if last_only else 0, len(history)):
            expected[first + t] = states[t] @ exact["encoder"]["table"][history[t]]
    found = dict(zip(np.asarray(targets.places)[scores.mask].tolist(), np.asarray(scores.positive)[scores.mask], strict=True))
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
    config = default_config().model
    config.features, config.num_layers, config.causal = FEATURES, 1, False
    model = build_recommender(config, method, backbone, small_log.num_items, LENGTH + 2, unit_tables["items"].shape[1], "token", BATCH)
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, batch)["params"]
    places = jnp.asarray(newest - 1)  # of the last but one of each history
    last, earlier = (np.divmod(newest - back, length) for back in (0, 1))

    @jax.jit
    def negative(items: jax.Array) -> jax.Array:
        ids = jnp.full((BATCH, 1), 7)
        return apply(model, params, "training_scores", unit_tables, batch._replace(items=items), places, ids, None, None).negative

    scores = negative(batch.items)
    np.testing.assert_array_equal(scores, negative(batch.items.at[last].add(1)))
    assert np.abs(np.asarray(scores - negative(batch.items.at[earlier].add(1)))).max() > 1e-4


def test_first_item_has_one_gate_as_target_and_as_negative(small_log: InteractionLog, unit_tables: dict[str, jax.Array]) -> None:
    """Behind a start token the softmax gate would normalise a negative over a list with nobody's item in it."""
    split = leave_one_out(small_log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 0)
    packing = plan_packing(split.train, users, BATCH, START)
    slots, _ = pack(split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing, START)
    nothing = jnp.zeros(small_log.num_users + 1, jnp.int32)
    items, owners = jnp.asarray(small_log.items), jnp.asarray(small_log.users)
    data = DeviceData(items, owners, 6 * interaction_logits(unit_tables, owners, items), nothing, nothing)
    batch = gather_batch(data, jnp.asarray(slots[0]))
    config = default_config().model
    config.features, config.start_token, config.mlp = FEATURES, True, ()
    model = build_recommender(config, "grasp_softmax", "gru4rec", small_log.num_items, LENGTH + 2, 12, "token", BATCH)
    params = jax.jit(model.init)(jax.random.key(0), unit_tables, batch)["params"]
    segments = np.asarray(batch.segments)
    places = np.flatnonzero(((segments >= 0) & (segments == np.roll(segments, -1, axis=1))).ravel())
    same = jnp.asarray(np.asarray(batch.items).ravel()[places + 1][:, None])
    logits = 6 * logits_of(unit_tables, jnp.asarray(segments.ravel()[places][:, None]), same)
    scores = jax.jit(lambda p: apply(model, p, "training_scores", unit_tables, batch, jnp.asarray(places), same, logits, None))(params)
    assert (np.asarray(batch.positions).ravel()[places] == 0).sum() > 3
    np.testing.assert_allclose(scores.positive, scores.negative[:, 0], rtol=1e-4, atol=1e-6)
