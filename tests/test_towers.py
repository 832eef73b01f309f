"""Late fusion: independent towers, and a score that is the sum of theirs."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config import Config
from grasp_jax.config.model import COMPANY_PART, MATCH_PART, TEXT_PART
from grasp_jax.core.errors import UserError
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.backbones.towers import Towers
from grasp_jax.models.encoders.towers import TowerEncoder
from grasp_jax.models.methods import METHODS, grasp_plus
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.llminit import (
    components_to_start_from,
    fitted_components,
    principal_components,
    start_of_new,
)
from grasp_jax.models.new_items import NewTexts
from grasp_jax.models.text_match import match_weights
from grasp_jax.models.whitening import transformed, whitening_matrix
from tests.packed_rows import POSITIONS, SEGMENTS
from tests.random_params import random_params
from tests.trained import SMALL, small_shop, trained

ITEMS, WIDTH, FEATURES, HIDDEN = 41, 12, 6, 5


@pytest.mark.parametrize("towers", [(1, 1, 1), (2, 0, 0), (0, 2, 0), (2, 1, 2)])
def test_vector_is_ids_beside_texts(towers: tuple[int, int, int]) -> None:
    """A vector would hold another item's ID, or a text tower another's layers."""
    text, company = np.random.default_rng(1).standard_normal((2, ITEMS, WIDTH))
    module = TowerEncoder(ITEMS, WIDTH, FEATURES, *towers, HIDDEN)
    tables = {TEXT_PART: jnp.float32(text), COMPANY_PART: jnp.float32(company)}
    params = random_params(module, tables, method="item_features")
    ids = np.array([[3, 40], [3, 0]])
    vectors = jax.jit(functools.partial(module.apply, method="item_features"))
    found = vectors({"params": params}, tables, jnp.asarray(ids))
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = [exact["table"][ids]] if towers[0] else []
    both = np.concatenate([text, company], axis=1)
    read = [(f"text{k}", text) for k in range(towers[1])]
    for name, rows in (*read, *((f"company{k}", both) for k in range(towers[2]))):
        x = rows[ids] @ exact[f"{name}_first"] + exact[f"{name}_bias"]
        act = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        expected.append(act @ exact[f"{name}_last"])
    np.testing.assert_allclose(found, np.concatenate(expected, axis=-1), rtol=1e-4, atol=1e-4)
    whole = vectors({"params": params}, tables)
    np.testing.assert_allclose(whole[ids], found, rtol=1e-5, atol=1e-5)
    assert module.vector_width == sum(module.towers) == found.shape[-1]


def test_states_of_towers_are_those_of_backbones_alone() -> None:
    """A tower would see the other's vectors, share its parameters, or read dropout of the other's rate."""
    model = Towers(SASRec(FEATURES, 8, 1), FEATURES, (None, 0.0))
    shape = (*SEGMENTS.shape, 2 * FEATURES)
    vectors = np.array(jax.random.normal(jax.random.key(1), shape))
    params = random_params(model, vectors, SEGMENTS, POSITIONS)
    assert set(params) == {"tower0", "tower1"}

    def states(vectors: Any, dropout: Any = None) -> Any:
        random = {"dropout": jax.random.key(2)}
        given = vectors, SEGMENTS, POSITIONS, dropout
        return jax.jit(model.apply)({"params": params}, *given, rngs=random)

    both = states(vectors)
    for k, view in enumerate(np.split(vectors, 2, axis=-1)):
        alone = jax.jit(SASRec(FEATURES, 8, 1).apply)(
            {"params": params[f"tower{k}"]}, view, SEGMENTS, POSITIONS
        )
        np.testing.assert_array_equal(both[..., k * FEATURES : (k + 1) * FEATURES], alone)
    dropped = states(vectors, jnp.float32(0.5))
    np.testing.assert_allclose(dropped[..., FEATURES:], both[..., FEATURES:], rtol=1e-6)
    assert np.abs(dropped[..., :FEATURES] - both[..., :FEATURES]).max() > 0.1


def test_match_is_a_weighed_cosine_with_the_history() -> None:
    """Rare items would not be helped, a wrong text count in full, or an item of another history be read."""
    rng = np.random.default_rng(3)
    counts, trust = np.array([0, 1, 3, 9, 1000]), rng.uniform(size=(5, 1))
    weights = match_weights(counts, 2.0, 4.0)
    np.testing.assert_allclose(weights[:, 0], [10, 8, 6, 4, 2], rtol=0.02)
    text, rows = rng.standard_normal((5, WIDTH)), np.array([[0, 1, 2, 3], [4, 4, 1, 0]])
    module = TowerEncoder(5, WIDTH, FEATURES, 1, 0, 0, HIDDEN, matches=True)
    tables = {TEXT_PART: jnp.float32(text), MATCH_PART: jnp.float32(weights * trust)}
    params = random_params(module, tables, method="item_features")
    assert set(params) == {"table"} and module.towers == (FEATURES,)
    features = functools.partial(module.apply, method="item_features")
    vectors = np.asarray(jax.jit(features)({"params": params}, tables))
    assert vectors.shape[-1] == module.vector_width == FEATURES + WIDTH
    own = weights * trust * text / np.linalg.norm(text, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, FEATURES:], own, rtol=1e-4, atol=1e-5)

    segments, positions = np.array([[7, 7, 7, 9], [2, 2, -1, -1]]), np.array([[0, 1, 2, 0]] * 2)
    model = Towers(SASRec(FEATURES, 8, 1), FEATURES, (None,), match_decay=0.5)
    held = {"params": random_params(model, vectors[rows], segments, positions)}
    states = jax.jit(model.apply)(held, vectors[rows], segments, positions)[..., FEATURES:]
    expected = 0.25 * own[0] + 0.5 * own[1] + own[2]
    np.testing.assert_allclose(
        states[0, 2], expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(states[0, 3], own[3] / np.linalg.norm(own[3]), rtol=1e-4, atol=1e-5)
    asked = vectors[rows], segments, positions, None, jnp.int32([2, 5])
    places = jax.jit(model.apply)(held, *asked)
    np.testing.assert_allclose(
        places[:, FEATURES:], np.stack([states[0, 2], states[1, 1]]), rtol=1e-5
    )


@pytest.mark.parametrize(
    "backbone",
    # test_match_is_a_weighed_cosine_with_the_history reads the state of SASRec, at a smaller price.
    ["bert4rec", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sasrec", "gru4rec"))],
)
def test_state_of_the_match_is_that_of_the_history(
    backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """BERT4Rec's mask would be a text that points somewhere, and be added to every history's."""
    if backbone == "bert4rec":
        model = gj.Recommender.load(trained(tmp_path_factory, backbone))
    else:
        model = gj.Recommender(method="grasp_plus", backbone=backbone, **SMALL).fit(small_shop())
    items = model.item_vectors()
    text = {item: vector[24:] for item, vector in zip(items["item"], items["vector"], strict=True)}
    history = list(items["item"][:3])
    state = model.user_vectors(histories=[history])["vector"][0]
    pooled = 0.64 * text[history[0]] + 0.8 * text[history[1]] + text[history[2]]
    np.testing.assert_allclose(state[24:], pooled / np.linalg.norm(pooled), rtol=1e-4, atol=1e-5)
    best = model.recommend(histories=[history], k=1, exclude_seen=False)
    row = list(items["item"]).index(best["item"][0])
    assert best["score"][0] == pytest.approx(float(state @ items["vector"][row]), rel=1e-4)


def test_whitening_in_part_equals_its_definition() -> None:
    """Rows would be divided by the wrong power, or an item without text would get one."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((200, 5)) * [5.0, 3.0, 1.0, 0.5, 0.1]).astype(np.float32)
    rows[7] = 0.0
    there = np.arange(200) != 7
    for exponent in (0.0, 0.5, 1.0):
        found = transformed(rows, whitening_matrix(rows, exponent, 4.0)).astype(np.float64)
        assert not found[7].any()
        np.testing.assert_allclose(np.mean((found[there] ** 2).sum(axis=1)), 16.0, rtol=1e-5)
        _, sd, turn = np.linalg.svd(rows[there].astype(np.float64), full_matrices=False)
        expected = rows @ turn.T / sd**exponent
        expected *= 4.0 / np.sqrt((expected[there] ** 2).sum(axis=1).mean())
        np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-4)
    alone = transformed(rows, whitening_matrix(rows, 0.0, 1.0))
    cosines = [
        a[3:6] @ a[9:12].T / np.outer(*(np.linalg.norm(x, axis=1) for x in (a[3:6], a[9:12])))
        for a in (alone, rows)
    ]
    np.testing.assert_allclose(*cosines, rtol=1e-4, atol=1e-5)


def test_towers_that_are_switched_off_are_not_there() -> None:
    """The controls, one tower or two of a kind, would read text all the same, or be trained by another loss."""
    method, config = METHODS["grasp_plus"], Config()
    bank = {name: np.eye(4, 3, dtype=np.float32) for name in ("items", "items_similar")}
    two = InteractionLog("x", np.arange(1), np.arange(4), np.arange(4), np.array([0, 4]))
    split = leave_one_out(two, 4)

    def tables(**fields: Any) -> list[str]:
        changed = config.with_fields(
            {f"model.plus.{name}": value for name, value in fields.items()}
        )
        given = method.tables(bank, Facts(changed.model, np.arange(4), split=split))
        return [f"{table.name} {table.rows.shape[1:]}" for table in given]

    text, match, company = f"{TEXT_PART} (3,)", f"{MATCH_PART} (1,)", f"{COMPANY_PART} (3,)"
    start = f"start ({config.model.features},)"
    assert tables() == [text, match, company, start]
    assert tables(match_weight=0.0) == [text, company, start]
    assert tables(id_towers=0) == [text, match, company]
    only_ids = {"text_towers": 0, "company_towers": 0, "id_towers": 2, "id_start": "random"}
    assert tables(**only_ids) == [text, match]
    assert tables(**only_ids, match_weight=0.0) == []
    learned = {"company_towers": 0, "text_width": 2, "text_trust": "learned", "id_towers": 0}
    assert tables(**learned, match_weight=0.0) == [f"{TEXT_PART} (2,)"]
    assert tables(fusion="early") == ["items (3,)", "items_similar (3,)", "trust ()"]
    assert method.loss_of(config) == "ce"
    assert method.loss_of(config.with_fields({"model.plus.fusion": "early"})) == "softmax"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {f"model.plus.{kind}_towers": 0 for kind in ("id", "text", "company")},
            "one tower at least",
        ),
        ({"model.mlp": ()}, "config.model.mlp: ()"),
    ],
)
def test_refuses_what_late_fusion_cannot_be(fields: dict[str, Any], expected: str) -> None:
    """A model without towers, or without the hidden layer, would fail in the middle of the first step."""
    with pytest.raises(UserError, match=expected.replace("(", r"\(").replace(")", r"\)")):
        METHODS["grasp_plus"].check(Config().with_fields(fields))


def test_id_vectors_start_from_text_where_it_is_wanted() -> None:
    """The ID towers would start at random all the same, or in other directions than llminit's; or a new item in none."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((30, 12)).astype(np.float32)
    bank = {"items": items, "items_similar": items}
    given = {"model.plus.id_start": "text", "model.plus.id_towers": 2, "model.features": 4}
    model = Config().with_fields({**given, "model.plus.company_towers": 0}).model
    method, facts = METHODS["grasp_plus"], Facts(model, np.ones(30, np.int64))
    tables = {table.name: jnp.asarray(table.rows) for table in method.tables(bank, facts)}
    fresh = {"encoder": {"table": jnp.zeros((30, 8)), "text0_bias": jnp.ones(3)}}
    started = method.start(fresh, tables)
    expected, _ = principal_components(items, 4)
    np.testing.assert_array_equal(started["encoder"]["table"], np.tile(expected, 2))
    assert started["encoder"]["text0_bias"] is fresh["encoder"]["text0_bias"]
    fitted = method.fitted(bank, facts)
    read = method.of_new_items(NewTexts(items[:5], None, items[:5], fitted, model))
    np.testing.assert_allclose(read.ids, np.tile(expected[:5], 2), atol=1e-5)

    random = dataclasses.replace(model, plus=dataclasses.replace(model.plus, id_start="random"))
    facts = Facts(random, np.ones(30, np.int64))
    tables = {table.name: table.rows for table in method.tables(bank, facts)}
    assert "start" not in tables and method.start(fresh, tables) is fresh
    assert "start_mean" not in method.fitted(bank, facts)


def test_id_vectors_may_be_longer_than_texts() -> None:
    """The default method would be refused for a small shop, or for short text vectors; llminit, whose paper says D components, is."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((30, 12)).astype(np.float32)
    model = Config().with_fields({"model.features": 16}).model
    facts, bank = Facts(model, np.ones(30, np.int64)), {"items": items, "items_similar": items}
    table = components_to_start_from(bank, facts, padded=True).rows
    np.testing.assert_array_equal(table[:, :12], principal_components(items, 12)[0])
    np.testing.assert_array_equal(table[:, 12:], 0.0)
    fitted = fitted_components(bank, facts, padded=True)
    texts = NewTexts(items[:5], None, items[:5], fitted, model)
    np.testing.assert_allclose(start_of_new(texts), table[:5], atol=1e-5)
    random = {"encoder": {"table": jnp.asarray(rng.standard_normal((30, 16)), jnp.float32)}}
    started = METHODS["grasp_plus"].start(random, {"start": jnp.asarray(table)})
    np.testing.assert_array_equal(started["encoder"]["table"][:, :12], table[:, :12])
    np.testing.assert_array_equal(
        started["encoder"]["table"][:, 12:], random["encoder"]["table"][:, 12:]
    )
    with pytest.raises(UserError, match="features: 16; expected at most 12"):
        principal_components(items, 16)


def test_texts_that_are_all_alike_are_left_unread(caplog: pytest.LogCaptureFixture) -> None:
    """Division by their variance, which is 0, would end training with NaN, and rounding would be blown up to a text."""
    noise = 1e-8 * np.random.default_rng(0).standard_normal((ITEMS, WIDTH)).astype(np.float32)
    for rows in (np.zeros((ITEMS, WIDTH), np.float32), noise):
        assert not whitening_matrix(rows, 0.5, 16.0).any()
    assert "the texts of all items are alike" in caplog.text


def test_a_shop_whose_texts_are_all_alike_trains_on_ids(tmp_path: pathlib.Path) -> None:
    """A shop that gives every item the same title would end with "a loss is not finite" in its first step."""
    log = small_shop().log
    frame = {"user": log.users, "item": log.items, "timestamp": log.timestamps}
    titles = {"item": np.arange(log.num_items), "title": ["Soap"] * log.num_items}
    shop = gj.Dataset.from_frames(frame, titles)
    model = gj.Recommender(method="grasp_plus", backbone="gru4rec", dropout=0.2, **SMALL)
    model.fit(shop, workdir=tmp_path)
    assert np.isfinite(np.stack(list(model.item_vectors()["vector"]))).all()


def test_what_tables_and_a_saved_model_share_is_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Saving a model of a million items would take the minutes again in which its tables were made."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((30, 12)).astype(np.float32)
    histories = rng.integers(0, 30, (40, 6))
    bank = {"items": items, "items_similar": items}
    given = {"model.plus.id_start": "text", "model.features": 4, "model.plus.text_trust": "learned"}
    model = Config().with_fields(given).model
    flat, offsets = np.concatenate(histories).astype(np.int32), np.arange(0, 241, 6)
    split = leave_one_out(InteractionLog("t", np.arange(40), np.arange(30), flat, offsets), 6)
    facts = Facts(model, np.ones(30, np.int64), split=split)
    calls: list[str] = []
    for name in ("whitening_matrix", "text_trust", "companions"):
        whole = getattr(grasp_plus, name)

        def counted(*given: Any, whole: Any = whole, name: str = name) -> Any:
            calls.append(name)
            return whole(*given)

        monkeypatch.setattr(grasp_plus, name, counted)
    METHODS["grasp_plus"].tables(bank, facts)
    once = METHODS["grasp_plus"].fitted(bank, facts)
    assert sorted(calls) == ["companions", "text_trust", "whitening_matrix"]
    alone = METHODS["grasp_plus"].fitted(bank, dataclasses.replace(facts, learned={}))
    assert once.keys() == alone.keys() and "start_mean" in once and "text_trust" in once
    for name in once:
        np.testing.assert_array_equal(once[name], alone[name])
