"""The training step: its loss and gradient against padded per-user references, its negatives, its models; and early stopping."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models import gates
from grasp_jax.models.batch import (
    Negatives,
    OwnNegatives,
    PackedBatch,
    PairScores,
    SharedNegatives,
    Targets,
)
from grasp_jax.models.device_data import DeviceData, gather_batch, logits_of
from grasp_jax.models.frozen import asked_with
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training import step_inputs
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.optim import one_vector
from grasp_jax.training.replicas import PerReplica
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.targets import StepShape, draw_targets
from tests.assembly import assembled, sharpened

BATCH, NEGATIVES, LENGTH = 6, 3, 8  # a length shorter than the longest histories
# As users compile, unlike most tests (conftest): without it two programs of the same sums may round the last bit otherwise.
ALIKE = {"xla_cpu_use_fusion_emitters": True}
MODELS = {
    "plain": ("plain", (), "paper"),
    "linear": ("grasp", (), "paper"),
    "hidden": ("grasp", (10,), "learned"),
    "softmax": ("grasp", (), "softmax"),
    "llm_esr": ("llm_esr", (), "paper"),
    "plus": ("grasp_plus", (10,), "none"),
    "gated plus": ("grasp_plus", (10,), "learned"),
    "towers": ("grasp_plus", (10,), "none"),
}


class Setting(NamedTuple):
    """A model on the small log, and one packed batch of it."""

    split: Split
    shape: StepShape
    data: DeviceData
    tables: dict[str, jax.Array]
    model: SequenceModel
    params: Any
    slots: np.ndarray  # [S, R, L], two epochs
    batch: PackedBatch
    targets: Targets


@pytest.fixture(scope="module")
def setting(small_log: InteractionLog, unit_tables: dict[str, jax.Array]) -> Any:
    """Maker of a `Setting` for a name of `MODELS`; each is made once."""

    @functools.cache
    def make(name: str) -> Setting:
        method, mlp, gate = MODELS[name]
        bank = {name: np.asarray(table) for name, table in sharpened(unit_tables, 6).items()}
        split = leave_one_out(small_log, LENGTH)
        fields = {
            "features": 6,
            "num_layers": 1,
            "mlp": mlp,
            "gate": gate,
            "plus.gate": gate,
            "plus.fusion": "late" if name == "towers" else "early",
            "llm_esr.similar_users": 3,
        }
        config = ModelConfig().with_fields(fields)
        declared = [*METHODS[method].tables(bank, Facts(config, split.item_counts, split=split))]
        declared += asked_with("user", bank, split) if METHODS[method].gated(config) else []
        tables = {table.name: jnp.asarray(table.rows) for table in declared}
        train = {"loss": "bce", "batch_size": BATCH, "negatives": NEGATIVES}
        fields["projection"] = "token"
        made = assembled(
            small_log,
            tables,
            method,
            "sasrec",
            {"data.max_length": LENGTH, "model": fields, "train": train},
        )
        slots = np.concatenate(
            [make_epoch(made.data, made.replicas, epoch).slots[0] for epoch in range(2)]
        )
        batch = jax.jit(gather_batch)(made.data.device, jnp.asarray(slots[0]))
        targets = draw_batch(made.data.shape)(jax.random.key(7), 0, made.data.device, batch)
        params = jax.jit(made.model.init)(jax.random.key(0), tables, batch)["params"]
        rng = np.random.default_rng(3)
        params = jax.tree.map(
            lambda leaf: (
                np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
            ),
            params,
        )
        return Setting(
            split,
            made.data.shape,
            made.data.device,
            tables,
            made.model,
            params,
            slots,
            batch,
            targets,
        )

    return make


def draw_batch(shape: StepShape) -> Any:
    """Compiled `draw_targets`."""
    return jax.jit(lambda key, step, data, batch: draw_targets(key, step, data, batch, shape)[1])


def training_scores(model: SequenceModel, params: Any, s: Setting) -> PairScores:
    logits = (
        logits_of(s.tables, s.targets.users[:, None], s.targets.negatives.items)
        if s.model.gated
        else None
    )
    return apply(
        model,
        params,
        SequenceModel.training_scores,
        s.tables,
        s.batch,
        s.targets._replace(negative_logits=logits),
    )


@pytest.fixture(scope="module")
def scores_of(setting: Any) -> Any:
    """Training scores of a `Setting` by name."""

    @functools.cache
    def make(name: str) -> PairScores:
        s = setting(name)
        return jax.tree.map(
            np.asarray, jax.jit(lambda params: training_scores(s.model, params, s))(s.params)
        )

    return make


def test_pairs_are_the_positions_with_a_next_item(setting: Any, scores_of: Any) -> None:
    """The last item of one user would be trained to predict the first item of the next user in the row, or a position be left out."""
    s = setting("plain")
    slots = s.slots[0].ravel()
    users = np.where(slots >= 0, s.split.log.users[np.maximum(slots, 0)], -1)
    expected = [
        place
        for place in np.flatnonzero(slots >= 0)
        if slots[place] + 1 < s.split.train.end[users[place]]
    ]
    mask, places = scores_of("plain").mask, np.asarray(s.targets.places.flat)
    assert places[mask].tolist() == expected and (places[~mask] == slots.size).all()
    np.testing.assert_array_equal(np.asarray(s.targets.users)[mask], users[expected])
    assert len(expected) == (slots >= 0).sum() - len(set(users[users >= 0].tolist()))


def test_last_targets_are_the_last_pair_of_each_history(setting: Any) -> None:
    """LLM-ESR's GRU4Rec would be trained on other positions than the last of each user."""
    s = setting("plain")
    shape = s.shape._replace(num_targets=BATCH, last_only=True)
    places = np.asarray(
        jax.jit(lambda: draw_targets(jax.random.key(0), 0, s.data, s.batch, shape)[1].places.flat)()
    )
    slots = s.slots[0].ravel()
    users = np.where(slots >= 0, s.split.log.users[np.maximum(slots, 0)], -1)
    expected = [
        place
        for place in np.flatnonzero(slots >= 0)
        if slots[place] + 2 == s.split.train.end[users[place]]
    ]
    assert places[places < slots.size].tolist() == expected and len(expected) == len(
        set(users[users >= 0].tolist())
    )


def test_no_batch_has_more_pairs_than_planned(setting: Any) -> None:
    """Pairs beyond the planned number would be dropped in silence."""
    s = setting("plain")
    every = draw_batch(s.shape._replace(num_targets=s.batch.items.size))
    batches = [jax.jit(gather_batch)(s.data, slots) for slots in s.slots]
    counts = [
        (
            np.asarray(every(jax.random.key(0), 0, s.data, batch).places.flat) < batch.items.size
        ).sum()
        for batch in batches
    ]
    assert max(counts) <= len(s.targets.places.flat)


@pytest.mark.parametrize(
    "name", ["plain", "hidden", "softmax", "llm_esr", "plus", "gated plus", "towers"]
)
def test_training_score_is_the_serving_score_after_the_prefix(
    setting: Any, scores_of: Any, name: str
) -> None:
    """Training would fit another score than ranking reads: at position t, the next item's score after the history up to t."""
    s = setting(name)
    batch, scores = jax.tree.map(np.asarray, s.batch), scores_of(name)
    exists = scores.mask
    rows, columns = np.divmod(np.asarray(s.targets.places.flat)[exists], batch.items.shape[1])
    width = batch.items.shape[1]
    prefixes = np.full((len(rows), width), -1, np.int32)  # slots, one prefix a row
    for p, (row, column) in enumerate(zip(rows, columns, strict=True)):
        count = batch.positions[row, column] + 1
        prefixes[p, :count] = s.slots[0][row, column - count + 1 : column + 1]
    newest = (prefixes >= 0).sum(axis=1) - 1 + width * np.arange(len(rows))
    users, targets = batch.segments[rows, columns], batch.items[rows, columns + 1]
    candidates = np.concatenate(
        [targets[:, None], np.asarray(s.targets.negatives.items)[exists]], axis=1
    )

    @jax.jit
    def serve(params: Any) -> jax.Array:
        alone = gather_batch(s.data, jnp.asarray(prefixes))
        states, normaliser = apply(
            s.model, params, SequenceModel.user_states, features(s, params, None), alone, newest
        )
        logits = (
            logits_of(s.tables, jnp.asarray(users)[:, None], jnp.asarray(candidates))
            if s.model.gated
            else None
        )
        return apply(
            s.model,
            params,
            SequenceModel.score_candidates,
            features(s, params, candidates),
            states,
            logits,
            normaliser,
        )

    served = serve(s.params)
    np.testing.assert_allclose(scores.positive[exists], served[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.negative[exists], served[:, 1:], rtol=1e-5, atol=1e-5)


def features(s: Setting, params: Any, ids: jax.Array) -> jax.Array:
    return apply(s.model, params, SequenceModel.item_features, s.tables, ids)


@pytest.mark.parametrize(
    ("name", "projection"),
    [
        ("plain", "token"),
        ("hidden", "token"),
        ("softmax", "table"),
        ("llm_esr", "token"),
        ("gated plus", "table"),
    ],
)
def test_loss_and_gradient_equal_a_padded_loss(setting: Any, name: str, projection: str) -> None:
    """Packing, projecting once and reading one vector twice would train another model than one padded row per user does."""
    s = setting(name)
    segments, items = np.asarray(s.batch.segments), np.asarray(s.batch.items)
    users = np.unique(segments[segments >= 0])
    lengths = s.split.train.lengths[users]
    longest = int(lengths.max())
    valid = np.arange(longest) < lengths[:, None]
    padded_items, padded_negatives = (
        np.zeros(valid.shape, int),
        np.zeros((*valid.shape, NEGATIVES), int),
    )
    for b, user in enumerate(users):
        window = slice(s.split.train.start[user], s.split.train.end[user])
        np.testing.assert_array_equal(items[segments == user], s.split.log.items[window])
        padded_items[b, : lengths[b]] = s.split.log.items[window]
        own = np.asarray(s.targets.users) == user
        own &= np.asarray(s.targets.places.flat) < segments.size
        padded_negatives[b, : lengths[b] - 1] = np.asarray(s.targets.negatives.items)[own]
    padded_segments = jnp.asarray(np.where(valid, users[:, None], -1))
    positions = jnp.broadcast_to(jnp.arange(longest), valid.shape)

    def padded_loss(params: Any) -> jax.Array:
        def vectors(
            ids: np.ndarray, logits: jax.Array | None, normaliser: jax.Array | None
        ) -> jax.Array:
            encoder = s.model.encoder.bind({"params": params["encoder"]})
            return encoder(features(s, params, jnp.asarray(ids)), encoder.gates(logits, normaliser))

        own = other = normaliser = with_candidate = None
        if s.model.gated:
            own = logits_of(s.tables, jnp.asarray(users)[:, None], jnp.asarray(padded_items))
            other = logits_of(
                s.tables, jnp.asarray(users)[:, None, None], jnp.asarray(padded_negatives)
            )
        if name == "softmax":
            normaliser = gates.history_normaliser(own, padded_segments)
            with_candidate = gates.candidate_normaliser(other, normaliser[:, :, None])
        history = vectors(padded_items, own, normaliser)
        states = s.model.backbone.apply(
            {"params": params["backbone"]}, history, padded_segments, positions
        )
        positive = jnp.einsum("btd,btd->bt", states[:, :-1], history[:, 1:])
        negative = jnp.einsum(
            "btd,btgd->btg", states, vectors(padded_negatives, other, with_candidate)
        )[:, :-1]
        losses = -jax.nn.log_sigmoid(positive) - jax.nn.log_sigmoid(-negative).mean(axis=-1)
        return jnp.where(valid[:, 1:], losses, 0).sum() / valid[:, 1:].sum()

    model = s.model.clone(projection=projection)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda params: binary_cross_entropy(training_scores(model, params, s)))
    )(s.params)
    expected, reference = jax.jit(jax.value_and_grad(padded_loss))(s.params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(gradient), jax.tree.leaves(reference), strict=True
    ):
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        )
        idle = "key']['bias" in jax.tree_util.keystr(
            path
        )  # a softmax does not see a constant added to all its logits
        assert idle or np.abs(np.asarray(theirs)).max() > 1e-4, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["plain", "hidden", "plus", "gated plus"])
def test_shared_negatives_score_as_each_targets_own(setting: Any, name: str) -> None:
    """A softmax would be over other scores than ranking's, or a target compete with itself."""
    s = setting(name)
    shape = s.shape._replace(negatives=30, shared=True)
    _, drawn = jax.jit(lambda key: draw_targets(key, 0, s.data, s.batch, shape))(jax.random.key(1))
    again = jax.jit(lambda key: draw_targets(key, 1, s.data, s.batch, shape))(jax.random.key(1))[1]
    ids = drawn.negatives.items
    assert (
        isinstance(drawn.negatives, SharedNegatives)
        and ids.shape == (30,)
        and len(np.unique(ids)) > 15
    )
    assert (ids != again.negatives.items).any()
    np.testing.assert_array_equal(drawn.places.flat, s.targets.places.flat)
    negatives = jnp.broadcast_to(ids, (len(drawn.places.flat), 30))
    logits = logits_of(s.tables, drawn.users[:, None], negatives) if s.model.gated else None

    def scores(params: Any, negatives: Negatives) -> PairScores:
        asked = drawn._replace(negatives=negatives, negative_logits=logits)
        return apply(s.model, params, SequenceModel.training_scores, s.tables, s.batch, asked)

    each = SharedNegatives(ids), OwnNegatives(negatives)
    shared, own = (jax.tree.map(np.asarray, jax.jit(scores)(s.params, kind)) for kind in each)
    wanted = np.asarray(s.batch.items).ravel()[
        np.minimum(np.asarray(drawn.places.flat) + 1, s.batch.items.size - 1)
    ]
    is_target = (wanted[:, None] == np.asarray(negatives)) & own.mask[:, None]
    assert is_target.any() and (shared.negative[is_target] == -np.inf).all()
    usual = own.mask[:, None] & ~is_target
    np.testing.assert_allclose(shared.negative[usual], own.negative[usual], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shared.positive[own.mask], own.positive[own.mask], rtol=1e-5)


class Run(NamedTuple):
    """Three models, four steps, dropout on, each with its own learning rate."""

    steps: Any
    state: TrainState
    arguments: tuple[Any, ...]
    slots: np.ndarray  # [M, S, R, L]
    keys: jax.Array
    dropout: np.ndarray
    learning_rate: np.ndarray


@pytest.fixture(scope="module")
def three_models(setting: Any) -> Run:
    s = setting("linear")
    # Adam's default epsilon turns rounding noise in a gradient that is zero in theory into whole steps.
    made = make_train_steps(s.model, s.shape, binary_cross_entropy, epsilon=1e-2)
    steps = jax.jit(made, compiler_options=ALIKE)
    params = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf, leaf + 0.1]), s.params)
    slots = s.slots[np.array([[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]])]
    keys = jax.vmap(jax.random.key)(jnp.array([42, 43, 44]))
    state = TrainState(params, jax.jit(jax.vmap(optax.scale_by_adam().init))(params))
    return Run(
        steps,
        state,
        (s.data, s.tables),
        slots,
        keys,
        np.float32([0.0, 0.2, 0.5]),
        np.float32([1e-2, 1e-3, 3e-2]),
    )


def train(
    run: Run, state: TrainState, replicas: Any, first: int, count: int
) -> tuple[TrainState, np.ndarray]:
    slots = run.slots[replicas, first : first + count]
    own = PerReplica(run.keys[replicas], run.dropout[replicas], run.learning_rate[replicas])
    return jax.tree.map(np.asarray, run.steps(state, *run.arguments, slots, own, np.int32(first)))


def test_models_together_equal_models_alone(three_models: Run) -> None:
    """A model's result would depend on which it was trained with, or be of another's rates: M=3 on one axis against three runs of M=1."""
    together, losses = train(three_models, three_models.state, slice(None), 0, 2)
    assert losses.shape == (2, 3)
    for m in range(3):
        one = jax.tree.map(lambda leaf, m=m: leaf[m : m + 1], three_models.state)
        alone, its_losses = train(three_models, one, slice(m, m + 1), 0, 2)
        np.testing.assert_allclose(losses[:, m], its_losses[:, 0], rtol=1e-5, atol=1e-5)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[m], b[0], rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
        together.params,
        three_models.state.params,
    )
    assert sorted(jax.tree.leaves(moved))[1] > 1e-3  # all but the key's bias


@pytest.mark.parametrize(
    "name", ["plain", pytest.param("llm_esr", marks=pytest.mark.slow), "gated plus"]
)
def test_deferred_updates_of_the_id_table_equal_dense_ones(setting: Any, name: str) -> None:
    """Large catalogues would be trained otherwise than small ones: of each encoder with an ID table, one model, two dispatches."""
    s, ended = setting(name), []
    for deferred in (True, False):
        shape = s.shape._replace(deferred=deferred)
        steps = jax.jit(make_train_steps(s.model, shape, binary_cross_entropy))
        state = TrainState(
            *jax.tree.map(
                lambda leaf: leaf[None], (s.params, jax.jit(optax.scale_by_adam().init)(s.params))
            )
        )
        run = Run(
            steps,
            state,
            (s.data, s.tables),
            s.slots[None],
            jax.random.key(42)[None],
            np.float32([0.3]),
            np.float32([1e-2]),
        )
        half, losses = train(run, state, slice(None), 0, 2)
        whole, more = train(run, half, slice(None), 2, 2)
        ended.append(
            (
                losses,
                more,
                whole.params["encoder"],
                whole.adam.mu["encoder"],
                whole.adam.nu["encoder"],
            )
        )
    for a, b in zip(*map(jax.tree.leaves, ended), strict=True):
        # A thirtieth of a step: where a gradient is rounding alone, Adam still moves by the rate.
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-4)


def test_two_dispatches_equal_one(three_models: Run) -> None:
    """A run that was killed between dispatches would not end where the whole one does, to the last bit."""
    whole, losses = train(three_models, three_models.state, slice(None), 0, 4)
    half, first_losses = train(three_models, three_models.state, slice(None), 0, 2)
    both, last_losses = train(three_models, half, slice(None), 2, 2)
    np.testing.assert_array_equal(losses, np.concatenate([first_losses, last_losses]))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [pytest.param("plain", marks=pytest.mark.slow), "gated plus"])
def test_inputs_made_at_once_are_those_of_each_step(
    setting: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long dispatch, whose steps draw for themselves, would train other models than a short one."""
    s, ended = setting(name), []
    shape = s.shape._replace(deferred=True)
    state = TrainState(
        *jax.tree.map(
            lambda leaf: leaf[None], (s.params, jax.jit(optax.scale_by_adam().init)(s.params))
        )
    )
    own = PerReplica(jax.random.key(42)[None], np.float32([0.3]), np.float32([1e-2]))
    rest = s.data, s.tables, s.slots[None], own, np.int32(7)
    for at_once in (step_inputs.SLOTS_AT_ONCE, 0):
        monkeypatch.setattr(step_inputs, "SLOTS_AT_ONCE", at_once)
        traced = jax.jit(make_train_steps(s.model, shape, binary_cross_entropy)).trace(state, *rest)
        (loop,) = (
            own
            for own in traced.jaxpr.eqns
            if own.primitive.name == "scan" and own.params["length"] == s.slots.shape[0]
        )
        assert ("= sort[" in str(loop.params["jaxpr"])) == (
            not at_once
        )  # of the ids that a step reads
        ended.append(traced.lower().compile(ALIKE)(state, *rest))
    for a, b in zip(*map(jax.tree.leaves, ended), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("largest", [one_vector.LARGEST, 60])
def test_parameters_in_one_vector_are_trained_alike(
    three_models: Run, setting: Any, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would give a parameter another's gradient; with `largest` of 60 numbers some stay outside of the vector."""
    monkeypatch.setattr(one_vector, "LARGEST", largest)
    s = setting("linear")
    sizes = [leaf.size for leaf in jax.tree.leaves(s.params)]
    assert min(sizes) <= 60 < max(sizes) < one_vector.LARGEST or largest == 60
    steps = jax.jit(
        make_train_steps(s.model, s.shape, binary_cross_entropy, epsilon=1e-2, in_one_vector=True)
    )
    expected, losses = train(three_models, three_models.state, slice(None), 0, 2)
    found, its_losses = train(
        three_models._replace(steps=steps), three_models.state, slice(None), 0, 2
    )
    np.testing.assert_allclose(its_losses, losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "plain"])
def test_fifty_steps_as_on_a_gpu_have_the_same_losses(setting: Any, name: str) -> None:
    """One model, joined parameters and no axis of models, is how a GPU trains: it would end elsewhere than a CPU does."""
    s, losses = setting(name), []
    slots = s.slots[np.arange(50) % len(s.slots)][None]
    start = s.params, jax.jit(optax.scale_by_adam().init)(s.params)
    state = TrainState(*jax.tree.map(lambda leaf: leaf[None], start))
    own = PerReplica(jax.random.key(42)[None], np.float32([0.2]), np.float32([1e-3]))
    for on_gpu in (False, True):
        made = make_train_steps(
            s.model, s.shape, binary_cross_entropy, epsilon=1e-2, in_one_vector=on_gpu
        )
        rest = s.data, s.tables, slots, own, np.int32(0)
        ended, found = jax.jit(made)(state, *rest)
        assert found.shape == (50, 1) and jax.tree.leaves(ended.params)[0].shape[0] == 1
        losses.append(np.asarray(found))
    assert np.ptp(losses[0]) > 1e-3  # it learns
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, atol=1e-5)


def test_negatives_are_a_function_of_seed_and_step(setting: Any) -> None:
    """A diverged batch could not be drawn again, or every step would meet the same negatives."""
    s = setting("plain")
    draw = draw_batch(s.shape)
    first, again, other_seed, other_step = (
        np.asarray(draw(jax.random.key(seed), step, s.data, s.batch).negatives.items)
        for seed, step in ((0, 5), (0, 5), (1, 5), (0, 6))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (len(s.targets.places.flat), NEGATIVES)
    assert (first != other_seed).mean() > 0.8
    assert (first != other_step).mean() > 0.8


def test_negatives_avoid_the_training_history(setting: Any) -> None:
    """A positive would be trained as a negative; the whole training history counts, also what the window has cut off."""
    s = setting("plain")
    log, cut = s.split.log, 0
    drawn = draw_batch(s.shape._replace(negatives=50))(jax.random.key(3), 0, s.data, s.batch)
    for user in np.unique(drawn.users):
        known = set(log.items[log.offsets[user] : s.split.train.end[user]].tolist())
        theirs = np.asarray(drawn.negatives.items)[np.asarray(drawn.users) == user]
        assert not known & set(theirs.ravel().tolist())
        assert theirs.min() >= 0 and theirs.max() < log.num_items
        cut += s.split.train.start[user] > log.offsets[user]
    assert cut  # some window is shorter than its user's training history


def test_negatives_are_uniform(setting: Any) -> None:
    """Some items would be trained against more often than others: chi-square of each user's draws over the rest of the catalogue."""
    s = setting("plain")
    log = s.split.log
    drawn = draw_batch(s.shape._replace(negatives=2000))(jax.random.key(5), 0, s.data, s.batch)
    for user in np.unique(drawn.users):
        known = np.unique(log.items[log.offsets[user] : s.split.train.end[user]])
        counts = np.bincount(
            np.asarray(drawn.negatives.items)[np.asarray(drawn.users) == user].ravel(),
            minlength=log.num_items,
        )
        assert stats.chisquare(np.delete(counts, known)).pvalue > 1e-3
