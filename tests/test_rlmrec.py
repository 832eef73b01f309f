"""RLMRec's losses against its public code, written out in NumPy (https://github.com/HKUDS/RLMRec, encoder/models)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.models.auxiliary import BatchStates, drawn_negatives
from grasp_jax.models.batch import (
    NO_CONTEXT,
    EveryPlace,
    GatheredPlaces,
    SeparateNegatives,
    SharedNegatives,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.device_data import gather_batch
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.methods.rlmrec import Alignment, info_nce, is_first
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.targets import draw_targets
from tests.assembly import assembled
from tests.random_params import random_params

WIDTH, FEATURES, USERS, ITEMS = 12, 5, 10, 16
SEGMENTS = np.array([[4, 4, 4, 9, -1], [2, 7, 7, 7, 7]])
HISTORY = np.array([[1, 2, 3, 2, 0], [5, 1, 6, 7, 8]])  # two items occur twice, one place is empty
DRAWN = np.array([9, 3, 11, 9, 15, 0])
DRAWN_EXIST = np.array([True] * 5 + [False])
NEWEST = [(0, 2), (0, 3), (1, 0), (1, 4)]
ASKED_USERS = [4, 9, 2, 7]


def cal_infonce_loss(
    embeds1: np.ndarray, embeds2: np.ndarray, all_embeds2: np.ndarray, temp: float
) -> float:
    """loss_utils.cal_infonce_loss: a sum over rows."""

    def normed(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(1e-8 + (x**2).sum(-1, keepdims=True))

    nume_term = -(normed(embeds1) * normed(embeds2) / temp).sum(-1)
    deno_term = np.log(np.exp(normed(embeds1) @ normed(all_embeds2).T / temp).sum(-1))
    return float((nume_term + deno_term).sum())


def ssl_con_loss(x: np.ndarray, y: np.ndarray, temp: float) -> float:
    """loss_utils.ssl_con_loss: a mean over rows."""
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    mole = np.exp((x * y).sum(1) / temp)
    deno = np.exp(x @ y.T / temp).sum(1)
    return float(-np.log(mole / (deno + 1e-8) + 1e-8).mean())


def mlp(params: Any, x: np.ndarray) -> np.ndarray:
    """LightGCN_plus.mlp and LightGCN_gene.mlp: Linear, LeakyReLU, Linear."""
    first, second = (
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[f"layers_{number}"])
        for number in (0, 2)
    )
    hidden = x @ first["kernel"] + first["bias"]
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
    return hidden @ second["kernel"] + second["bias"]


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


STATES, VECTORS = drawn(1, 2, 5, FEATURES), drawn(2, 2, 5, FEATURES)
NEGATIVES = drawn(3, len(DRAWN), FEATURES)
TEXT = {"user_text": drawn(4, USERS, WIDTH), "item_text": drawn(5, ITEMS, WIDTH)}


def alignment(kind: str, **fields: Any) -> Alignment:
    return Alignment(
        kind, FEATURES, WIDTH, 6, 0.3, 0.5, **fields
    )  # two more places than there are users


def batch_of(states: Any = STATES, vectors: Any = VECTORS, negatives: Any = NEGATIVES) -> Any:
    targets = Targets(
        GatheredPlaces(jnp.where(jnp.asarray(DRAWN_EXIST), 0, SEGMENTS.size)),
        *[jnp.zeros(len(DRAWN), jnp.int32)] * 2,
        SeparateNegatives(jnp.asarray(DRAWN)[:, None]),
    )
    items = drawn_negatives(targets, negatives, SEGMENTS.size)
    return BatchStates(jnp.asarray(SEGMENTS), states, jnp.asarray(HISTORY), vectors, items)


def parameters(module: Alignment) -> Any:
    return random_params(module, TEXT, batch_of())


@pytest.mark.parametrize("all_users", [False, True])
def test_contrastive_is_the_public_kd_loss(all_users: bool) -> None:
    """Users and items would have projections of their own, negatives no part, or a text be told from others than there."""
    module = alignment("con", among_all_users=all_users)
    params = parameters(module)
    assert list(params) == ["mlp"], "one projection, shared by users and items"
    there = SEGMENTS >= 0
    # LightGCN_plus.cal_loss, for the users and items of the batch
    usrprf, itmprf = (mlp(params["mlp"], TEXT[name]) for name in ("user_text", "item_text"))
    ancprf, posprf, negprf = (
        usrprf[ASKED_USERS],
        itmprf[HISTORY[there]],
        itmprf[DRAWN[DRAWN_EXIST]],
    )
    anc, pos, neg = (
        np.stack([STATES[place] for place in NEWEST]),
        VECTORS[there],
        NEGATIVES[DRAWN_EXIST],
    )
    expected = (
        cal_infonce_loss(anc, ancprf, usrprf if all_users else ancprf, 0.3) / len(anc)
        + cal_infonce_loss(pos, posprf, posprf, 0.3) / len(pos)
        + cal_infonce_loss(neg, negprf, negprf, 0.3) / len(neg)
    )
    found = jax.jit(module.apply)({"params": params}, TEXT, batch_of())
    np.testing.assert_allclose(found, 0.5 * expected, rtol=1e-4)


def test_generative_is_the_public_reconstruction() -> None:
    """Users would be contrasted only with users and items with items, or an item that is bought twice with itself."""
    module = alignment("gen")
    params = parameters(module)
    assert list(params) == ["mlp"]
    once = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (1, 3), (1, 4)]  # of 1 and 2 the first place
    embeds = np.stack([STATES[place] for place in NEWEST] + [VECTORS[place] for place in once])
    # LightGCN_gene._reconstruction, whose seeds are the nodes of the batch
    prf = np.concatenate(
        [TEXT["user_text"][ASKED_USERS], TEXT["item_text"][[HISTORY[place] for place in once]]]
    )
    expected = ssl_con_loss(mlp(params["mlp"], embeds), prf, 0.3)
    found = jax.jit(module.apply)({"params": params}, TEXT, batch_of())
    np.testing.assert_allclose(found, 0.5 * expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["con", "gen"])
def test_alignment_reaches_newest_states_and_items(kind: str) -> None:
    """RLMRec would align another state than the one that ranks, skip users, items or the projection, or move empty places."""
    module = alignment(kind)

    def loss(params: Any, tables: Tables, *arrays: jax.Array) -> jax.Array:
        return module.apply({"params": params}, tables, batch_of(*arrays))

    params, *gradient = jax.jit(jax.grad(loss, argnums=(0, 2, 3, 4)))(
        parameters(module), TEXT, STATES, VECTORS, NEGATIVES
    )
    touched = [np.abs(np.asarray(leaf)).max(axis=-1) > 0 for leaf in gradient]
    assert {tuple(place) for place in np.argwhere(touched[0]).tolist()} == set(NEWEST)
    asked = SEGMENTS >= 0
    if kind == "gen":  # each item once
        asked = asked.copy()
        asked[0, 3] = asked[1, 1] = False
    np.testing.assert_array_equal(touched[1], asked)
    np.testing.assert_array_equal(touched[2], DRAWN_EXIST & (kind == "con"))
    assert all(np.abs(np.asarray(leaf)).max() > 0 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("kind", ["con", "gen"])
def test_gradients_are_numbers_without_text_or_users(kind: str) -> None:
    """One item whose text is missing, a row of zeros, or a batch that is all padding would turn every parameter into NaN."""
    module = alignment(kind)
    # Without biases, with which a row of zeros stays one.
    params = jax.tree.map(lambda leaf: leaf * (leaf.ndim > 1), parameters(module))
    nothing = {name: np.zeros_like(rows) for name, rows in TEXT.items()}
    empty = batch_of()._replace(segments=jnp.full(SEGMENTS.shape, -1))
    of_loss = jax.jit(jax.grad(lambda params, *given: module.apply({"params": params}, *given)))
    for tables, batch in ((nothing, batch_of()), (TEXT, empty)):
        gradient = of_loss(params, tables, batch)
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(gradient))


def test_alone_there_is_nothing_to_tell_apart() -> None:
    row = jnp.asarray(drawn(0, 1, 3))
    found = info_nce(row, 2 * row, 2 * row, jnp.array([True]), 0.2)
    np.testing.assert_allclose(found, [0.0], atol=1e-6)


def test_first_occurrences() -> None:
    found = is_first(jnp.array([3, 5, 3, 7, 5]), jnp.array([False, True, True, True, True]))
    np.testing.assert_array_equal(found, [False, True, True, True, False])


def test_drawn_items_are_one_for_each_place() -> None:
    """With many negatives, or thousands that all targets share, the contrast would be of their square."""
    vectors = jnp.asarray(drawn(0, 12, 3))
    rows = jnp.zeros(4, jnp.int32)
    own = Targets(
        EveryPlace(jnp.array([[True, False], [True, True]])),
        rows,
        rows,
        SeparateNegatives(jnp.arange(12).reshape(4, 3)),
    )
    found = drawn_negatives(own, vectors, 4)
    np.testing.assert_array_equal(found.items, [0, 3, 6, 9])
    np.testing.assert_array_equal(found.vectors, vectors[::3])
    np.testing.assert_array_equal(found.exist, [True, False, True, True])
    shared = own._replace(negatives=SharedNegatives(jnp.arange(12) + 20))
    found = drawn_negatives(shared, vectors, 4)
    np.testing.assert_array_equal(found.items, [20, 21, 22, 23])
    np.testing.assert_array_equal(found.vectors, vectors[:4])
    assert found.exist.all()


def test_fields_reach_the_loss() -> None:
    """A temperature, a weight or the choice of negatives would be another's."""
    config = ModelConfig().with_fields(
        {
            "rlmrec.temperature": 0.3,
            "rlmrec.gen_temperature": 0.4,
            "rlmrec.con_weight": 1.0,
            "rlmrec.gen_weight": 2.0,
            "rlmrec.user_negatives": "all",
        }
    )
    sizes = ModelSizes(ITEMS, 4, WIDTH, 6)
    con, gen = (METHODS[f"rlmrec_{kind}"].auxiliary(config, sizes) for kind in ("con", "gen"))
    assert isinstance(con, Alignment) and isinstance(gen, Alignment)
    assert (con.temperature, con.weight, con.among_all_users) == (0.3, 1.0, True)
    assert (gen.temperature, gen.weight) == (0.4, 2.0)
    by_default = ModelConfig().rlmrec
    assert (by_default.temperature, by_default.gen_temperature) == (0.2, 0.5)


@pytest.mark.parametrize("loss", ["bce", "softmax"])
@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_a_step_aligns_the_negatives_that_it_draws(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array], loss: str, backbone: str
) -> None:
    """The third contrast would be of other items than those that targets are to outscore, or of other vectors than theirs."""
    seen: list[BatchStates] = []

    class Spy(Alignment):
        def __call__(
            self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
        ) -> jax.Array:
            seen.append(batch)
            return super().__call__(tables, batch, context)

    tables = unit_tables | {"user_text": unit_tables["users"], "item_text": unit_tables["items"]}
    fields = {
        "model.features": FEATURES,
        "model.num_layers": 1,
        "train.loss": loss,
        "train.batch_size": 6,
        "train.shared_negatives": 7,
    }
    made = assembled(small_log, tables, "rlmrec_con", backbone, fields)
    model = made.model.clone(auxiliary=Spy("con", FEATURES, WIDTH, 6, 0.3, 0.5))
    slots = make_epoch(made.data, made.replicas, 0).slots[0][0]
    batch = jax.jit(gather_batch)(made.data.device, jnp.asarray(slots))
    params = jax.device_put(random_params(made.model, tables, batch))
    masked, targets = jax.jit(
        lambda key: draw_targets(key, 0, made.data.device, batch, made.data.shape)
    )(jax.random.key(7))

    def aligned() -> Any:
        score = SequenceModel.training_scores
        model.apply({"params": params}, tables, masked, targets, method=score)
        (own,) = [batch.negatives for batch in seen]
        return own

    found = jax.jit(aligned)()
    assert found is not None
    items = np.asarray(targets.negatives.items)
    if loss == "bce":
        exist = np.asarray(targets.places.exist(masked.items.size))
        assert exist.sum() > 0 and len(exist) == len(items)
        items = items[:, 0]
    else:
        exist = np.ones(7, bool)
    np.testing.assert_array_equal(found.exist, exist)
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_allclose(found.vectors, params["encoder"]["table"][items], rtol=1e-6)
