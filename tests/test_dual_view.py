"""LLM-ESR: two views of an item, cross-attention and self-distillation, against one user at a time in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.models.auxiliary import BatchStates
from grasp_jax.models.backbones.bert4rec import BERT4Rec
from grasp_jax.models.backbones.dual_view import DualView
from grasp_jax.models.backbones.gru4rec import GRU4Rec
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.batch import StepContext
from grasp_jax.models.encoders.dual_view import DualViewEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.llm_esr import Distillation
from tests.packed_rows import POSITIONS, SEGMENTS, gru_by_hand
from tests.random_params import random_params

FEATURES, WIDTH = 6, 12


def test_vector_is_id_beside_adapted_text(unit_tables: dict[str, jax.Array]) -> None:
    """Multiplying the adapter's two layers first would be another function, or have another gradient, than one after the other."""
    module = DualViewEncoder(41, WIDTH, FEATURES)
    drawn = random_params(module, unit_tables, spread=1.0, method="item_features")
    params, rng = jax.tree.map(jnp.asarray, drawn), np.random.default_rng(0)
    ids = jnp.array([[3, 40], [3, 0]])

    def plain(p: Any) -> jax.Array:
        text = (unit_tables["items"][ids] @ p["down"] + p["down_bias"]) @ p["out"] + p["out_bias"]
        return jnp.concatenate([p["table"][ids], text], axis=-1)

    weights = rng.standard_normal((2, 2, 2 * FEATURES))
    ours = lambda p: module.apply({"params": p}, unit_tables, ids, method="item_features")  # noqa: E731
    np.testing.assert_allclose(ours(params), plain(params), rtol=1e-5, atol=1e-5)
    one, two = (
        jax.jit(jax.grad(lambda p, f=f: (weights * f(p)).sum()))(params) for f in (ours, plain)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert module.vector_width == 2 * FEATURES


@pytest.mark.parametrize(("causal", "with_positions"), [(True, True), (True, False), (False, True)])
def test_cross_attention_equals_one_user_at_a_time(causal: bool, with_positions: bool) -> None:
    """A view would look at another user's items or ahead, at itself instead of the other view, or have a backbone of its own."""
    model = DualView(GRU4Rec(FEATURES), FEATURES, 8, causal, with_positions)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, 2 * FEATURES)))
    params = random_params(model, vectors, SEGMENTS, POSITIONS)
    found = np.asarray(jax.jit(model.apply)({"params": params}, vectors, SEGMENTS, POSITIONS))
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def crossed(weights: Any, queries: np.ndarray, values: np.ndarray) -> np.ndarray:
        q, k, v = (
            queries @ weights["query"]["kernel"],
            values @ weights["key"]["kernel"],
            values @ weights["value"]["kernel"],
        )
        out, half = np.zeros_like(q), FEATURES // 2
        for head in (slice(0, half), slice(half, None)):
            for t in range(len(q)):
                seen = slice(0, t + 1) if causal else slice(None)
                weight = np.exp(q[t, head] @ k[seen, head].T / np.sqrt(half))
                out[t, head] = weight @ v[seen, head] / weight.sum()
        return out @ weights["out"]["kernel"] + weights["out"]["bias"]

    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            ids, text = np.split(vectors[row, own].astype(np.float64), 2, axis=1)
            if with_positions:
                ids, text = (
                    view * np.sqrt(FEATURES) + exact["positions"][: own.sum()]
                    for view in (ids, text)
                )
            first = gru_by_hand(exact["backbone"], crossed(exact["text_to_id"], text, ids), 1)
            second = gru_by_hand(exact["backbone"], crossed(exact["id_to_text"], ids, text), 1)
            np.testing.assert_allclose(
                found[row, own], np.concatenate([first, second], axis=1), rtol=1e-5, atol=1e-5
            )


def norm(weights: Any, x: np.ndarray) -> np.ndarray:
    """LayerNorm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-8)
    return scaled * weights["scale"] + weights["bias"]


def dense(weights: Any, x: np.ndarray) -> np.ndarray:
    return x @ weights["kernel"] + weights.get("bias", 0)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """[T, D] queries, keys and values of a head, and [T, T] what is hidden."""
    scores = np.where(hidden, -1e9, q @ k.T / np.sqrt(q.shape[-1]))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def authors_states(
    weights: Any, history: np.ndarray, length: int, causal: bool, num_layers: int
) -> np.ndarray:
    """`log2feats` of LLM-ESR's DualLLMSASRec and DualLLMBert4Rec and the `forward` of its backbones, for one user, in their order.

    https://github.com/liuqidong07/LLM-ESR, models/DualLLMSRS.py, models/SASRec.py, models/utils.py. Positions count from 1 there, and
    padding, which stands before the history, has the vector of 0; no state of an item reads that one.

    Args:
      weights: parameters of `DualView`.
      history: [n, 2D] ID vectors beside adapted text vectors.
      length: T, to which the history is padded.
      causal: whether attention looks backwards only, as it does not there.
      num_layers: of the backbone.
    """
    padding = length - len(history)
    is_padding = np.arange(length) < padding
    later = np.triu(np.ones((length, length), bool), 1) if causal else np.zeros((length,) * 2, bool)
    seqs = np.concatenate([np.zeros((padding, 2 * FEATURES)), history])
    place = np.concatenate(
        [np.full((padding, FEATURES), 7.0), weights["positions"][: len(history)]]
    )
    id_seqs, llm_seqs = np.split(seqs, 2, axis=1)
    id_seqs = id_seqs * FEATURES**0.5 + place
    llm_seqs = llm_seqs * FEATURES**0.5 + place

    def cross(own: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        q, k, v = dense(own["query"], x), dense(own["key"], y), dense(own["value"], y)
        heads = [slice(0, FEATURES // 2), slice(FEATURES // 2, None)]
        out = [attend(q[:, h], k[:, h], v[:, h], is_padding[None] | later) for h in heads]
        return dense(own["out"], np.concatenate(out, axis=1))

    def backbone(seqs: np.ndarray) -> np.ndarray:
        own = weights["backbone"]
        seqs = seqs * ~is_padding[:, None]
        for layer in range(num_layers):
            heads = own[f"SelfAttention_{layer}"]
            queries = norm(own[f"LayerNorm_{2 * layer}"], seqs)
            q, k, v = dense(heads["query"], queries), *(dense(heads[n], seqs) for n in KEY_VALUE)
            seqs = queries + dense(heads["out"], attend(q, k, v, later))  # padding is not hidden
            seqs = norm(own[f"LayerNorm_{2 * layer + 1}"], seqs)
            hidden = np.maximum(dense(own[f"Dense_{2 * layer}"], seqs), 0)
            seqs = seqs + dense(own[f"Dense_{2 * layer + 1}"], hidden)
            seqs = seqs * ~is_padding[:, None]
        return norm(own[f"LayerNorm_{2 * num_layers}"], seqs)

    id_feats = backbone(cross(weights["text_to_id"], llm_seqs, id_seqs))
    llm_feats = backbone(cross(weights["id_to_text"], id_seqs, llm_seqs))
    return np.concatenate([id_feats, llm_feats], axis=1)[padding:]


KEY_VALUE = ("key", "value")


@pytest.mark.parametrize(
    ("backbone", "causal", "padded"),
    [("sasrec", True, 0), ("sasrec", False, 9), ("bert4rec", False, 0), ("bert4rec", False, 9)],
)
def test_one_pass_equals_the_authors_code(backbone: str, causal: bool, padded: int) -> None:
    """Views would be scaled, get positions or drop out twice, or not at all: once before they meet and again in the backbone."""
    fields = {
        "features": FEATURES,
        "causal": causal,
        "padded_length": padded,
        "backbone": backbone,
    }
    config = ModelConfig().with_fields(fields)
    named = {"sasrec": SASRec, "bert4rec": BERT4Rec}[backbone].from_config(config, 8)
    model = METHODS["llm_esr"].around_backbone(named, config, 8)
    vectors = np.asarray(jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, 2 * FEATURES)))
    params = random_params(model, vectors, SEGMENTS, POSITIONS)
    assert "positions" in params and "positions" not in params["backbone"]
    found = np.asarray(
        jax.jit(model.apply)({"params": params}, vectors, jnp.asarray(SEGMENTS), POSITIONS)
    )
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, segments in enumerate(SEGMENTS):
        for segment in np.unique(segments[segments >= 0]):
            own = segments == segment
            expected = authors_states(
                exact, vectors[row, own].astype(np.float64), padded or own.sum(), causal, 2
            )
            np.testing.assert_allclose(found[row, own], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", [SASRec(FEATURES, 8), BERT4Rec(FEATURES, 8)])
def test_layers_alone_drop_nothing_of_their_input(backbone: SASRec) -> None:
    """Of the views a share of 1 - (1 - p)^2 would be gone, not p, for they drop out before they meet."""
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, FEATURES))
    moved = []
    for model in (backbone, backbone.without_input_stage()):
        # Scales of norms are one and all else is zero: attention and both dense layers add nothing, so that no dropout of theirs is seen.
        silent = {"params": random_params(model, vectors, SEGMENTS, POSITIONS, spread=0.0)}
        random = {"dropout": jax.random.key(2)}
        still, training = (
            jax.jit(model.apply)(silent, vectors, SEGMENTS, POSITIONS, rate, rngs=random)
            for rate in (None, 0.5)
        )
        moved.append(float(jnp.abs(still - training).max()))
    assert moved[0] > 0.1 and moved[1] == 0


@pytest.mark.parametrize(
    "backbone",
    [GRU4Rec(FEATURES), SASRec(FEATURES, 8, input_stage=False)],
    ids=["gru4rec", "sasrec"],
)
def test_states_of_asked_places(backbone: Any) -> None:
    """Ranking would read the text view at another place than the ID view."""
    model = DualView(backbone, FEATURES, 8, True)
    vectors, asked = (
        jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, 2 * FEATURES)),
        jnp.array([1, SEGMENTS.shape[1] + 2]),
    )
    params = {"params": random_params(model, vectors, SEGMENTS, POSITIONS)}
    few, every = (
        jax.jit(model.apply)(params, vectors, jnp.asarray(SEGMENTS), POSITIONS, None, places)
        for places in (asked, None)
    )
    np.testing.assert_allclose(few, every.reshape(-1, 2 * FEATURES)[asked], rtol=1e-5, atol=1e-5)


def test_distillation_by_hand() -> None:
    """A user would be pulled to other users' states than those of its neighbours, at another position, or the teacher be trained."""
    module = Distillation(batch_users=6, weight=0.1)  # two more places than users
    rng = np.random.default_rng(0)
    states, everyone = rng.standard_normal((*SEGMENTS.shape, 4)), rng.standard_normal((10, 4))
    similar = rng.integers(0, 10, (10, 3))
    similar[7] = NONE  # a user without text
    known, nothing = {"similar_users": jnp.asarray(similar)}, jnp.zeros(())

    def loss(states: jax.Array, teachers: jax.Array) -> jax.Array:
        batch = BatchStates(jnp.asarray(SEGMENTS), states, nothing, nothing)
        return module.apply({}, known, batch, StepContext(states=teachers))

    value, gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(
        jnp.asarray(states, jnp.float32), jnp.asarray(everyone, jnp.float32)
    )
    newest = {4: (0, 2), 9: (0, 4), 2: (1, 0), 7: (1, 5), 1: (1, 6)}
    errors = [
        ((states[place] - everyone[similar[user]].mean(axis=0)) ** 2).mean()
        for user, place in newest.items()
        if user != 7
    ]
    np.testing.assert_allclose(value, 0.1 * np.mean(errors), rtol=1e-5)
    touched = {
        tuple(place)
        for place in np.argwhere(np.abs(np.asarray(gradient[0])).max(axis=-1) > 0).tolist()
    }
    assert touched == set(newest.values()) - {newest[7]} and not np.asarray(gradient[1]).any()
    assert (
        module.apply(
            {}, {}, BatchStates(jnp.asarray(SEGMENTS), jnp.asarray(states), nothing, nothing)
        )
        == 0
    )


def test_similar_users_are_the_nearest_by_text(unit_tables: dict[str, jax.Array]) -> None:
    """Teachers would be other users, or the user itself."""
    config = ModelConfig().with_fields({"features": 4, "llm_esr.similar_users": 3})
    bank = {name: np.asarray(table) for name, table in unit_tables.items()}
    declared = {
        table.name: table for table in METHODS["llm_esr"].tables(bank, Facts(config, np.ones(41)))
    }
    found = {name: table.rows for name, table in declared.items()}
    cosines = bank["users"] @ bank["users"].T
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_array_equal(
        np.sort(found["similar_users"]), np.sort(np.argsort(-cosines)[:, :3])
    )
    assert (
        declared["items"].bank_name == "items"
        and found["items"] is bank["items"]
        and found["start"].shape == (41, 4)
    )
