"""Baselines that a reviewer expects next to a method, compared with NumPy formulas and run through the public interface."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config import Config, ModelConfig
from grasp_jax.config_checks import check_config
from grasp_jax.data.log import InteractionLog
from grasp_jax.models.backbones.fixed import PooledHistory
from grasp_jax.models.batch import CatalogueScores
from grasp_jax.models.encoders.fixed import UnitTextEncoder
from grasp_jax.models.encoders.id_text import IdTextEncoder
from grasp_jax.models.encoders.mixture import MixtureEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.unit import unit
from tests.assembly import assembled
from tests.refusal import assert_names, refusal
from tests.test_catalogue_step import inputs_of, scores_of

ITEMS, WIDTH, FEATURES, EXPERTS = 19, 12, 5, 3
IDS = np.array([[4, 0, 4], [18, 2, 7]])
SMALL: dict[str, Any] = {
    "features": 8,
    "num_layers": 1,
    "knowledge__width": 8,
    "num_neighbours": 3,
    "batch_size": 64,
    "num_negatives": 20,
    "max_epochs": 3,
}


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return gj.Dataset.synthetic(num_users=120, num_items=110)


def text(seed: int = 0, rows: int = ITEMS) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, WIDTH))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def one_long(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def of_encoder(encoder: Any, items: np.ndarray) -> tuple[dict[str, np.ndarray], Any]:
    """Drawn parameters as NumPy has them, and a function of ids that gives the encoder's vectors."""
    tables = {"items": jnp.asarray(items, jnp.float32)}
    shapes = jax.eval_shape(
        lambda: encoder.init(jax.random.key(0), tables, None, method="item_features")
    )
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), shapes).get("params", {})

    def vectors(ids: Any = None) -> np.ndarray:
        found = jax.jit(
            lambda params, ids: encoder.apply(
                {"params": params}, tables, ids, method="item_features"
            )
        )(params, ids)
        return np.asarray(found)

    return params, vectors


def test_popularity_counts_training(shop: gj.Dataset) -> None:
    """A test target would count for itself, ties be won, or backbones differ where none is read."""
    log = shop.log
    histories = [log.items[a:b] for a, b in zip(log.offsets[:-1], log.offsets[1:], strict=True)]
    counts = np.bincount(np.concatenate([own[:-2] for own in histories]), minlength=log.num_items)
    ranks = np.array([(counts >= counts[own[-1]]).sum() - 1 for own in histories])
    expected = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()
    scores = {}
    for backbone in ("sasrec", "bert4rec"):
        model = gj.Recommender(method="popularity", backbone=backbone, **SMALL).fit(shop)
        rows = model.evaluate()
        (row,) = rows[(rows["protocol"] == "full") & (rows["group"] == "all")].to_dict("records")
        assert row["best_epoch"] == 0 and row["n"] == len(histories)
        np.testing.assert_allclose(row["NDCG@10"], expected, rtol=1e-6)
        np.testing.assert_array_equal(np.stack(model.item_vectors()["vector"])[:, 0], counts)
        scores[backbone] = model.recommend(users=shop.user_ids[:4], k=7)["score"].tolist()
    assert scores["sasrec"] == scores["bert4rec"] and max(scores["sasrec"]) == counts.max()


@pytest.mark.parametrize("method", ["popularity", "semantic_neighbours"])
def test_nothing_is_trained(method: str, shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """Epochs would be run, a second call start over, rates make models of their own, or a refit stay with yesterday's items."""
    told: list[Any] = []
    many = SMALL | {"dropout": (0.1, 0.2), "learning_rate": (1e-3, 1e-2), "seeds": (1, 2)}
    model = gj.Recommender(method=method, **many)
    model.fit(shop, tmp_path / "run", refit=True, callbacks=[told.append])
    assert not told
    again = gj.Recommender(method=method, **many).fit(shop, tmp_path / "run", refit=True)
    opened = gj.Recommender.load(tmp_path / "run", dataset=shop)
    answers = [own.recommend(users=shop.user_ids[:5], k=6) for own in (model, again, opened)]
    for other in answers[1:]:
        assert other.equals(answers[0])
    rows = model.evaluate()
    of_all = rows[(rows["protocol"] == "full") & (rows["group"] == "all")]
    assert of_all["seed"].tolist() == [1, 2] and of_all["NDCG@10"].nunique() == 1
    if method == "popularity":
        everything = np.bincount(shop.log.items, minlength=shop.log.num_items)
        np.testing.assert_array_equal(np.stack(model.item_vectors()["vector"])[:, 0], everything)


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_pooled_history_by_formula(decay: float) -> None:
    """Histories of one row would mix, the oldest item weigh most, or a score be no cosine."""
    segments = np.array([[4, 4, 4, 9, -1], [2, 7, 7, 7, 7]])
    items = np.array([[1, 2, 3, 2, 0], [5, 1, 6, 7, 8]])
    vectors = one_long(text(1)[items])
    module = PooledHistory(decay)
    given = jnp.asarray(vectors, jnp.float32), jnp.asarray(segments), jnp.zeros_like(segments)
    found = np.asarray(jax.jit(module.apply)({}, *given))
    for row, place in np.argwhere(segments >= 0):
        earlier = [k for k in range(place + 1) if segments[row, k] == segments[row, place]]
        summed = sum(float(decay) ** (place - k) * vectors[row, k] for k in earlier)
        np.testing.assert_allclose(found[row, place], one_long(summed), rtol=1e-5, atol=1e-6)
    places = jnp.asarray([2, 9])
    some = jax.jit(lambda *x: module.apply({}, *x, None, places))(*given)
    np.testing.assert_array_equal(some, found.reshape(10, -1)[np.asarray(places)])


def test_unit_text() -> None:
    """Long rows would win, and an item without text break the catalogue."""
    items = 3.0 * text()
    items[4] = 0.0
    _, vectors = of_encoder(UnitTextEncoder(WIDTH), items)
    expected = text()
    expected[4] = 0.0
    np.testing.assert_allclose(vectors(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(vectors(IDS), expected[IDS], rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: unit(x).sum())(jnp.zeros(3))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("concatenates", [False, True])
def test_id_and_text_by_formula(concatenates: bool) -> None:
    """A sum would be of other matrices, or the ID meet the text's half of the matrix that joins them."""
    encoder = IdTextEncoder(ITEMS, WIDTH, FEATURES, 2.0, concatenates)
    params, vectors = of_encoder(encoder, text())
    mapped = 2.0 * text() @ params["kernel"] + params["bias"]
    expected = params["table"] + mapped
    if concatenates:
        side_by_side = np.concatenate([params["table"], mapped], axis=1)
        expected = side_by_side @ params["join"] + params["join_bias"]
    np.testing.assert_allclose(vectors(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(vectors(IDS), expected[IDS], rtol=1e-4, atol=1e-4)
    built = METHODS["id_text_concat" if concatenates else "id_text_sum"].encoder(
        ModelConfig().with_fields({"features": FEATURES, "row_norm": 2.0}),
        ModelSizes(ITEMS, 4, WIDTH),
    )
    assert built == encoder


def whitened(params: dict[str, np.ndarray], items: np.ndarray) -> np.ndarray:
    """[V, K, D] outputs of the experts, (x - b_k) W_k."""
    each = [
        (items - centre) @ kernel
        for centre, kernel in zip(params["centre"], params["whitening"], strict=True)
    ]
    return np.stack(each, axis=1)


@pytest.mark.parametrize("with_ids", [False, True])
def test_unisrec_by_formula(with_ids: bool) -> None:
    """Experts would be mixed by another's gate, or the ID be added to what is one long already."""
    encoder = MixtureEncoder(ITEMS, WIDTH, FEATURES, EXPERTS, with_ids=with_ids)
    params, vectors = of_encoder(encoder, text())
    logits = text() @ params["gate"]
    gates = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    summed = (gates[..., None] * whitened(params, text())).sum(axis=1)
    expected = one_long(summed + params["table"] if with_ids else summed)
    np.testing.assert_allclose(vectors(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vectors(IDS), expected[IDS], rtol=1e-4, atol=1e-5)
    assert ("table" in params) == with_ids


def test_unisrec_noise_and_dropout() -> None:
    """Gates would be as sure in training as afterwards, noise be as wide for all, or nothing be left out."""
    rows, width = 4000, 4
    encoder = MixtureEncoder(rows, width, width, width, dropout=0.0)
    items = np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (rows, 1))
    noise_logit = np.array([-3.0, -3.0, 1.0, 1.0])
    start = {
        "whitening": np.stack([np.eye(width)[[k] * width] for k in range(width)]),
        "centre": np.zeros((width, width)),
        "gate": np.zeros((width, width)),
        "noise": np.tile(noise_logit, (width, 1)),
    }  # the vector of an item is the direction of its gates
    tables = {"items": jnp.asarray(items, jnp.float32)}

    def trained(encoder: MixtureEncoder, params: Any, key: int) -> np.ndarray:
        rngs = {"dropout": jax.random.key(key)}
        given = {"params": params}, tables
        vectors = functools.partial(encoder.apply, method="item_features", rngs=rngs)
        return np.asarray(jax.jit(vectors)(*given))

    logs = np.log(trained(encoder, start, 0))
    spread = np.logaddexp(0.0, noise_logit) + 0.01
    for first, second in ((0, 1), (2, 3), (0, 2)):
        expected = np.hypot(spread[first], spread[second])
        np.testing.assert_allclose((logs[:, first] - logs[:, second]).std(), expected, rtol=0.05)

    tables = {"items": jnp.ones((rows, width))}
    dropping = MixtureEncoder(rows, width, width, 1, dropout=0.2)
    alone = {
        "whitening": np.eye(width)[None],
        "centre": np.zeros((1, width)),
        "gate": np.zeros((width, 1)),
        "noise": np.zeros((width, 1)),
    }
    assert abs((trained(dropping, alone, 1) == 0).mean() - 0.2) < 0.02


@pytest.mark.parametrize(
    ("method", "backbone"),
    [  # by default each method, and each backbone
        ("unisrec", "sasrec"),
        ("unisrec_id", "bert4rec"),
        pytest.param("unisrec", "bert4rec", marks=pytest.mark.slow),
        pytest.param("unisrec_id", "sasrec", marks=pytest.mark.slow),
    ],
)
def test_unisrec_trains_on_cosines(
    method: str, backbone: str, small_log: InteractionLog, unit_tables: Any
) -> None:
    """Cross-entropy would be of products of any length, or of another temperature."""
    model = {"features": 6, "num_layers": 1, "unisrec.cosine_temperature": 0.05}
    fields = {"model": model, "train": {"batch_size": 6}, "data.max_length": 8}
    tables = {"items": unit_tables["items"]}
    own = assembled(small_log, tables, method, backbone, fields)
    batch, targets, params = inputs_of(own, tables)
    params = jax.tree.map(jnp.asarray, params)
    scores = jax.jit(lambda params: scores_of(own, tables, batch, targets, params))(params)
    assert isinstance(scores, CatalogueScores), "the loss is cross-entropy over the catalogue"
    there = np.asarray(scores.mask)
    lengths = np.linalg.norm(np.asarray(scores.states)[there], axis=1)
    np.testing.assert_allclose(lengths, 1 / 0.05, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(scores.items, axis=1), 1.0, rtol=1e-5)


def test_losses_of_the_plain_backbone(small_log: InteractionLog) -> None:
    """A row of a table would be called gSASRec, or by cross-entropy, and be trained as SASRec was in 2018."""
    fields = {"train": {"batch_size": 6, "shared_negatives": 20}, "data.max_length": 8}
    by_method = {
        method: assembled(small_log, {}, method, "sasrec", fields).data
        for method in ("plain", "sasrec_ce", "gsasrec")
    }
    assert [data.shape.catalogue for data in by_method.values()] == [False, True, False]
    assert [data.shape.shared for data in by_method.values()] == [False, False, True]
    assert by_method["gsasrec"].shape.negatives == 20
    otherwise = {"train": {"batch_size": 6, "loss": "bce"}, "data.max_length": 8}
    asked = assembled(small_log, {}, "gsasrec", "sasrec", otherwise).data
    assert not asked.shape.shared, "train.loss says otherwise"


def test_adaptor_dropout_of_sharded_rows_is_refused() -> None:
    """Training would fail at its first step, on a table whose rows lie on other devices."""
    config = Config().with_fields({"model.method": "unisrec_id", "mesh.table": 2})
    assert_names(
        refusal(check_config, config),
        ("config.model.unisrec.adaptor_dropout: 0.2", "mesh.table=2", "expected 0"),
    )
    check_config(config.with_fields({"model.unisrec.adaptor_dropout": 0.0}))
