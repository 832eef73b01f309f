"""Items added after training: each gets the values of an item that was in the catalogue and that nobody had bought."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

import grasp_jax as gj
from benchmarks import cold_parts
from grasp_jax.config import Config
from grasp_jax.config.fields import Affects, fields_of
from grasp_jax.config.model import PARTS
from grasp_jax.evaluation.ranker import item_features
from grasp_jax.models.backbones.towers import PART_WEIGHTS
from grasp_jax.models.methods import METHODS
from grasp_jax.models.new_items import NewTexts
from grasp_jax.serving.artifact import Artifact, load_artifact, save_artifact
from grasp_jax.serving.export import read_export
from grasp_jax.serving.new_item_columns import checked_vectors
from grasp_jax.serving.new_items import ADDED, FEWEST, add_items
from grasp_jax.trials.chosen import artifact_of, of_trial
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import make_trial
from tests.random_params import random_snapshot
from tests.refusal import assert_names, refusal

NUM_USERS, NUM_ITEMS = 30, 50
NEVER = (7, 31, 49)  # rows of items that nobody bought
WORDS = ("red", "blue", "mild", "strong", "soap", "cream", "oil", "brush", "comb", "fine")
SMALL: dict[str, Any] = {
    "features": 8,
    "mlp": (8,),
    "num_layers": 1,
    "knowledge__width": 9,
    "num_neighbours": 3,
    "similar_users": 3,
    "max_epochs": 1,
    "batch_size": 16,
    "shared_negatives": 16,
    "num_negatives": 20,
    "max_length": 9,
    "adaptor_dropout": 0.0,
}
EARLY = {"plus__fusion": "early", "plus__gate": "none"}
LEARNED = {"text_trust": "learned", "plus__text_width": 6}
RAW = {"start_components": "raw"}
WITHOUT_IDS = [
    ("semantic_neighbours", {}),
    ("grasp", {"exclude_copies": True}),
    ("grasp_plus", EARLY),
    ("grasp_plus", {"id_towers": 0, **LEARNED}),
]
RANDOM_IDS = {"id_start": "random"}
ZERO_IDS = [("id_text_concat", {}), ("grasp_plus", RANDOM_IDS)]
FROM_TEXT = [("llminit", RAW), ("llm_esr", {})]
# The same in other methods and settings.
LATER: dict[str, list[Any]] = {
    "without": [
        ("unisrec", {}),
        ("grasp", {"group_column": "brand", "knowledge__pooling": "similarity"}),
        ("grasp_wo_attention", {"knowledge__dtype": "float16"}),
    ],
    "zero": [("id_text_sum", {}), ("unisrec_id", {})],
    "from text": [("llminit", {})],
}
SLOW = {
    kind: [pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]
    for kind, pairs in LATER.items()
}


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    """Thirty users, fifty items with texts, three of which nobody bought."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(NUM_USERS), rng.integers(4, 9, NUM_USERS))
    bought = np.setdiff1d(np.arange(NUM_ITEMS), NEVER)
    items = {
        "item": [f"i{row}" for row in range(NUM_ITEMS)],
        "title": [" ".join(rng.choice(WORDS, 4)) for _ in range(NUM_ITEMS)],
        "brand": [None if row % 7 == 3 else f"Brand {row % 3}" for row in range(NUM_ITEMS)],
    }
    interactions = {
        "user": users.tolist(),
        "item": [f"i{row}" for row in rng.choice(bought, len(users))],
    }
    return gj.Dataset.from_frames(interactions, items)


Make = Callable[[str, dict[str, Any]], Artifact]


@pytest.fixture(scope="module")
def made(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A model of a method with random parameters: what new items become does not depend on how good they are."""
    found: dict[str, Artifact] = {}

    def make(method: str, options: dict[str, Any]) -> Artifact:
        key = f"{method} {options}"
        if key not in found:
            fields = gj.Recommender(method=method, **SMALL, **options).config
            config = dataclasses.replace(fields, data=shop.data)
            found[key] = _untrained(config, shop, tmp_path_factory.mktemp("run"))
        return found[key]

    return make


def _untrained(config: Config, shop: gj.Dataset, workdir: pathlib.Path) -> Artifact:
    trial = make_trial(
        prepare(open_run(config, workdir, shop)), config.model.method, config.model.backbone
    )
    return artifact_of(of_trial(trial, random_snapshot(trial.model, trial.replicas, trial.data)))


def columns_of(shop: gj.Dataset, rows: Any) -> dict[str, Any]:
    """What the items table says of some items."""
    assert shop.texts.items is not None
    columns = {name: [own[row] for row in rows] for name, own in shop.texts.items.columns.items()}
    return {"item": [str(shop.item_ids[row]) for row in rows], **columns}


def without(artifact: Artifact, rows: Any) -> Artifact:
    """The model as if it had never had some items."""
    catalogue, kept = artifact.catalogue, np.delete(np.arange(NUM_ITEMS), rows)
    items = dataclasses.replace(
        catalogue,
        ids=catalogue.ids[kept],
        titles=catalogue.titles[kept],
        counts=catalogue.counts[kept],
        columns={name: own[kept] for name, own in catalogue.columns.items()},
    )
    params = dict(artifact.params)
    if "table" in params.get("encoder", {}):
        table = params["encoder"]["table"][kept]
        params["encoder"] = {**params["encoder"], "table": table}
    return dataclasses.replace(
        artifact,
        sizes=dataclasses.replace(artifact.sizes, num_items=len(kept)),
        params=params,
        features=artifact.features[kept],
        catalogue=items,
        tables={
            name: table if name.startswith("users") else table[kept]
            for name, table in artifact.tables.items()
        },
        fitted={
            name: own[kept] if name in ("neighbours", "groups", "text_trust") else own
            for name, own in artifact.fitted.items()
        },
    )


def added_again(artifact: Artifact, shop: gj.Dataset) -> Artifact:
    """The model without the items that nobody bought, and with them again."""
    rows = list(NEVER)
    return add_items(without(artifact, rows), columns_of(shop, rows))


@pytest.mark.parametrize(("method", "options"), [*WITHOUT_IDS, *SLOW["without"]])
def test_items_become_what_they_were(
    made: Make, shop: gj.Dataset, method: str, options: dict[str, Any]
) -> None:
    """A text encoded, turned, weighed, or compared with neighbours in another way than in training would show here."""
    artifact = made(method, options)
    # Of each item alone, for the other two may be among its neighbours: they were trained with, and are no new items then.
    for row in NEVER:
        again = add_items(without(artifact, [row]), columns_of(shop, [row]))
        np.testing.assert_allclose(again.features[-1], artifact.features[row], atol=1e-6)
        for name in ("items", "items_similar"):
            if name in artifact.tables:
                expected = np.asarray(artifact.tables[name][row], np.float32)
                np.testing.assert_allclose(again.tables[name][-1], expected, atol=1e-6)
        before, after = (
            METHODS[method].trust(own.config.model, own.catalogue.counts, own.fitted)
            for own in (artifact, again)
        )
        assert {name: own[row] for name, own in before.items()} == pytest.approx(
            {name: own[-1] for name, own in after.items()}
        )


@pytest.mark.parametrize(("method", "options"), [*ZERO_IDS, *SLOW["zero"]])
def test_what_training_alone_gives_is_zero(
    made: Make, shop: gj.Dataset, method: str, options: dict[str, Any]
) -> None:
    """An untrained ID vector would add noise to the text of a new item."""
    artifact = made(method, options)
    again, table = added_again(artifact, shop), np.array(artifact.params["encoder"]["table"])
    assert np.abs(artifact.features[list(NEVER)] - again.features[-3:]).max() > 1e-3  # it was noise
    table[list(NEVER)] = 0.0
    params = {**artifact.params, "encoder": {**artifact.params["encoder"], "table": table}}
    expected = item_features(artifact.model, params, _tables(made, method, options))
    np.testing.assert_allclose(again.features[-3:], expected[list(NEVER), ...], atol=1e-6)
    np.testing.assert_array_equal(again.params["encoder"]["table"][-3:], 0.0)


def test_new_items_are_weighted_on_their_own(made: Make, shop: gj.Dataset) -> None:
    """`match_new` would change the other parts of the score, or items that training has seen; or another value would need a training."""
    artifact, rows = made("grasp_plus", {}), list(NEVER)
    known, columns = without(artifact, rows), columns_of(shop, rows)
    config = known.config.with_fields({"model.plus.match_new": 2.5})
    plain = np.asarray(add_items(known, columns).features)
    more = np.asarray(add_items(dataclasses.replace(known, config=config), columns).features)
    expected, match = plain.copy(), cold_parts.columns_of(artifact)["match"]
    expected[-3:, match] *= 2.5
    assert np.abs(plain[-3:, match]).max() > 0.1
    np.testing.assert_allclose(more, expected, rtol=1e-6)
    again = cold_parts.with_match(add_items(known, columns), 2.5)
    np.testing.assert_allclose(again.features, expected, rtol=1e-6)
    names = {name for name, about in fields_of(Config) if about.affects is Affects.NOTHING}
    assert "model.plus.match_new" in names


def _tables(made: Make, method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The frozen tables of the whole catalogue, as training has them: all that `of_new_items` makes, of items that are all new."""
    artifact = made("grasp", {"exclude_copies": True})
    fitted, config = made(method, options).fitted, made(method, options).config.model
    texts = NewTexts(np.asarray(artifact.tables["items"]), None, np.empty(0), fitted, config)
    return {
        name: jnp.asarray(rows) for name, rows in METHODS[method].of_new_items(texts).tables.items()
    }


@pytest.mark.parametrize(("method", "options"), [*FROM_TEXT, *SLOW["from text"]])
def test_ids_that_start_from_text_start_there(
    made: Make, shop: gj.Dataset, method: str, options: dict[str, Any]
) -> None:
    """Where untrained ID vectors are components of the text, those of new items are too, in the same directions and signs."""
    artifact = made(method, options)
    again = added_again(artifact, shop)
    np.testing.assert_allclose(again.features[-3:], artifact.features[list(NEVER)], atol=2e-6)


def test_order_and_number_do_not_matter(made: Make, shop: gj.Dataset) -> None:
    """A service adds items as they come, and blocks are filled up: neighbours are items of training alone."""
    artifact = made("grasp", {"exclude_copies": True})
    many = {"item": [f"n{row}" for row in range(FEWEST + 3)]}
    many |= {"title": [f"{WORDS[row % 10]} {WORDS[row % 7]}" for row in range(FEWEST + 3)]}
    at_once, one = add_items(artifact, many), artifact
    for row in (3, 0, 18):
        one = add_items(one, {name: values[row : row + 1] for name, values in many.items()})
    for place, row in enumerate((3, 0, 18)):
        for found, expected in (
            (one.features, at_once.features),
            (one.tables["items_similar"], at_once.tables["items_similar"]),
        ):
            np.testing.assert_allclose(
                found[NUM_ITEMS + place], expected[NUM_ITEMS + row], atol=1e-6
            )
    assert one.made_from[ADDED] == 3
    assert artifact.features.shape[0] == NUM_ITEMS  # the given model is not changed


@pytest.fixture(scope="module")
def gated(made: Make, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A saved model with gates."""
    folder = tmp_path_factory.mktemp("gated")
    save_artifact(made("grasp", {"exclude_copies": True}), folder)
    return folder


def test_front_door(gated: pathlib.Path, shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """A twin of an item that nobody bought has its scores; what is added is recommended, saved and loaded."""
    model = gj.Recommender.load(gated)
    twin = columns_of(shop, [NEVER[0]]) | {"item": ["twin"], "price": [3.5]}
    assert model.add_items(pa.table(twin)) == 1
    histories = [["i0", "i1", "i2"], ["twin", "i5"]]
    for one in (model, _saved(model, tmp_path / "saved")):
        told = one.recommend(histories=histories, k=NUM_ITEMS + 1, exclude_seen=False)
        for person in (0, 1):
            own = told[told["user"] == person].set_index("item")["score"]
            assert len(own) == NUM_ITEMS + 1
            assert own["twin"] == pytest.approx(own[f"i{NEVER[0]}"], abs=1e-6)
        assert one.similar_items(["twin"], k=1)["similar"].tolist() == [f"i{NEVER[0]}"]
        assert len(one.item_vectors()) == NUM_ITEMS + 1


def test_columns_that_the_model_does_not_read_are_logged(
    gated: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelt column would be left out of the new texts, and nobody hear of it."""
    model = gj.Recommender.load(gated)
    good = {"item": ["n1"], "title": ["red soap"], "brand": ["Acme"]}
    model.add_items(good)
    assert "ignored" not in caplog.text
    model.add_items({**good, "item": ["n2"], "colour": ["red"], "brnad": ["Acme"]})
    said = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert len(said) == 1 and "'brnad', 'colour'" in said[0]


def test_the_names_of_the_training_are_told(gated: pathlib.Path) -> None:
    """Whoever has another name for titles would be sent to `Dataset.from_frames`, which is not what adds items."""
    model = gj.Recommender.load(gated)
    for frame, wanted in (
        ({"item": ["n1"], "name": ["red soap"]}, "'title' among item, name"),
        ({"sku": ["n1"], "title": ["red soap"]}, "'item' among sku, title"),
    ):
        message = refusal(model.add_items, frame)
        assert_names(
            message, (f"add_items: no column {wanted}", "the model was trained with this name")
        )
        assert "from_frames" not in message


def _saved(model: gj.Recommender, folder: pathlib.Path) -> gj.Recommender:
    model.save(folder)
    return gj.Recommender.load(folder)


def test_users_of_the_data_are_shown_new_items(shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """A fitted model answers over its own data: there too the new item is ranked, and not the last one of training; and it is exported."""
    model = gj.Recommender(method="semantic_neighbours", **SMALL).fit(shop)
    assert (
        model.add_items({"item": ["new"], "title": ["soap soap soap soap"], "brand": [None]}) == 1
    )
    told = model.recommend(k=NUM_ITEMS + 1, exclude_seen=False)
    assert (told.groupby("user").size() == NUM_ITEMS + 1).all()
    person = shop.user_ids[0]
    bought = [shop.item_ids[row] for row in shop.log.items[: shop.log.offsets[1]]]
    direct = model.recommend(histories=[bought], k=NUM_ITEMS + 1, exclude_seen=False)
    own = told[told["user"] == person]
    assert dict(zip(own["item"], own["score"], strict=True)) == pytest.approx(
        dict(zip(direct["item"], direct["score"], strict=True)), abs=1e-5
    )
    model.export(tmp_path / "exported", k=5)
    exported = read_export(tmp_path / "exported")
    assert exported.manifest["sizes"]["items"] == NUM_ITEMS + 1
    assert exported.manifest["made_from"][ADDED] == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1e200, "holds 1e+200, which is too large for float32; scale the vectors down"),
        (float("inf"), "holds a value that is not finite; encode that item again"),
    ],
)
def test_a_number_that_float32_lacks(value: float, said: str) -> None:
    """Who gives a number of float64 would look for a value that is not finite, and find none."""
    vectors = [[1.0, 2.0], [3.0, value]]
    for given in (vectors, np.array(vectors), np.array(vectors, object)):
        assert_names(refusal(checked_vectors, given, 2, 2), ("row 2 of vectors", said))


def test_a_whole_number_beyond_float64() -> None:
    """It was called no number."""
    message = refusal(checked_vectors, [[1, 10**400]], 1, 2)
    assert_names(message, ("a number which is too large for float32; scale the vectors down",))


def test_given_vectors(shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """Where vectors came from files no text can be encoded, and the vector of a new item goes the way that theirs went."""
    rng = np.random.default_rng(1)
    vectors = {"item": rng.normal(size=(NUM_ITEMS, 6)), "user": rng.normal(size=(NUM_USERS, 6))}
    files = {}
    for kind, rows in vectors.items():
        path = tmp_path / f"{kind}.npy"
        np.save(path, rows.astype(np.float32))
        files[f"{kind}_file"] = str(path)
    options = {**SMALL, "knowledge__encoder": "file", **files}
    options.pop("knowledge__width")
    model = gj.Recommender(method="semantic_neighbours", **options).fit(shop)
    message = refusal(model.add_items, {"item": ["new"], "title": ["red soap"]})
    assert_names(message, ("vectors=", "file"))
    for wrong in (vectors["item"][:2], vectors["item"][:1, :3], vectors["item"][:1] * np.nan):
        refusal(model.add_items, {"item": ["new"]}, wrong)
    assert model.add_items({"item": ["new"]}, vectors["item"][5:6]) == 1
    found = model.artifact
    np.testing.assert_allclose(found.features[-1], found.features[5], atol=1e-6)
    assert found.catalogue.titles[-1] == "new"


def test_refusals(made: Make, shop: gj.Dataset) -> None:
    """Each names the row or the column and how to mend it; nothing is added."""
    artifact = made("semantic_neighbours", {})
    good = {"item": ["n1", "n2"], "title": ["red soap", "blue oil"]}
    for wrong, parts in (
        ({"title": ["red soap", "blue oil"]}, ["'item'", "expected"]),
        ({"item": ["n1", "n2"]}, ["'title'", "brand"]),
        ({**good, "title": ["red soap"]}, ["'title'", "1 values", "2"]),
        ({**good, "item": ["n1", "n1"]}, ["row 2", "'n1'", "row 1"]),
        ({**good, "item": ["n1", "i3"]}, ["row 2", "'i3'", "already"]),
        ({**good, "item": ["n1", None]}, ["row 2", "None"]),
        ({**good, "item": ["n1", "i3\0"]}, ["row 2", "expected an id"]),  # NumPy would make it i3
        ({**good, "item": ["n1", "n2\nn3"]}, ["row 2", "expected an id"]),
        ({**good, "title": ["red soap", float("nan")]}, ["row 2", "'n2'", "title"]),
        ({**good, "title": "red soap"}, ["'title'", "list"]),
    ):
        assert_names(refusal(add_items, artifact, wrong), tuple(parts))
    assert add_items(artifact, {"item": [], "title": []}) is artifact
    for method, parts in (("plain", ["reads no text"]), ("rlmrec_con", ["only in training"])):
        assert_names(refusal(add_items, made(method, {}), good), (method, *parts))
    older = dataclasses.replace(made("llminit", {}), fitted={})
    assert_names(refusal(add_items, older, good), ("start_mean", "save it again"))
    bare = dataclasses.replace(artifact, encoder=None)
    assert_names(refusal(add_items, bare, good), ("no saved text encoder", "prepare"))
    numbers = dataclasses.replace(artifact.catalogue, ids=np.arange(NUM_ITEMS))
    numbered = dataclasses.replace(artifact, catalogue=numbers)
    assert_names(refusal(add_items, numbered, good), ("'n1'", "whole number"))
    assert add_items(numbered, {**good, "item": [100, "101"]}).catalogue.ids[-2:].tolist() == [
        100,
        101,
    ]


def with_parts(artifact: Artifact, **weights: float) -> Artifact:
    """The model with these weights of its parts, and 0 for all others."""
    backbone = dict(artifact.params["backbone"])
    backbone[PART_WEIGHTS] = np.array([weights.get(part, 0.0) for part in PARTS], np.float32)
    return dataclasses.replace(artifact, params={**artifact.params, "backbone": backbone})


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        (RANDOM_IDS, {"id": 1.0}),
        (RANDOM_IDS | {"plus__parts": "id"}, {"id": 1.0}),  # as in a refit
        (RANDOM_IDS | {"plus__match_new": 0.0}, {"id": 1.0, "match": 1.0}),
    ],
)
def test_parts_without_a_score_for_new_items(
    made: Make, options: dict[str, Any], weights: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New items would be added, after their texts were sent to an encoder, and never be recommended."""
    artifact = with_parts(made("grasp_plus", options), **weights)
    monkeypatch.setattr(type(artifact.encoder), "item_vectors", None)  # nothing is encoded
    refused = refusal(add_items, artifact, {"item": ["n1"], "title": ["red soap"]})
    assert_names(refused, ("add_items", *weights, "0 for a new item", "parts=all"))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, {"id": 1.0, "match": 0.25}),
        ({}, {"company": 1.0}),
        ({}, {"id": 1.0}),
    ],
)
def test_parts_with_a_score_for_new_items(
    made: Make, options: dict[str, Any], weights: dict[str, float]
) -> None:
    """New items would be refused although a part of the score knows them."""
    artifact = with_parts(made("grasp_plus", options), **weights)
    added = add_items(artifact, {"item": ["n1"], "title": ["red soap"]})
    state = np.repeat([weights.get(part, 0.0) for part in PARTS], [8, 8, 8, 9])
    assert np.abs(added.features[-1] * state).max() > 0


def test_saved_models_of_earlier_versions_load(made: Make, tmp_path: pathlib.Path) -> None:
    """They lack the folder by which new items are read, and answer as before."""
    save_artifact(dataclasses.replace(made("llminit", {}), fitted={}), tmp_path / "model")
    assert load_artifact(tmp_path / "model").fitted == {}
