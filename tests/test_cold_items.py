"""The benchmark of new items: training reads nothing about them, and the metrics are right."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from benchmarks import cold_parts, cold_study
from benchmarks.cold_case import Case, make_case, measures_of
from benchmarks.cold_items import among_new, beside, config_of, measured_of
from benchmarks.cold_models import in_catalogue, shown, variants, vector_files
from grasp_jax.data.split import make_split
from grasp_jax.serving.new_items import add_items
from tests.refusal import assert_names, refusal

DAY = 86_400
START = 1_400_000_000
WORDS = ("red", "blue", "mild", "strong", "soap", "cream", "oil", "brush", "comb", "fine")
SMALL = {"num_negatives": 20, "knowledge__width": 8, "num_neighbours": 3, "max_length": 9}


@pytest.fixture(scope="module")
def case() -> Case:
    """Forty users buy for a hundred days; from the last twenty days on, two of the sixty items."""
    rng = np.random.default_rng(0)
    users, days = np.repeat(np.arange(40), 10), np.sort(rng.integers(0, 100, (40, 10)), axis=1)
    items = rng.integers(0, 58, 400)
    late = (days.ravel() >= 90) & (rng.random(400) < 0.5)
    items[late] = rng.integers(58, 60, late.sum())
    titles = [" ".join(rng.choice(WORDS, 4)) for _ in range(60)]
    shop = gj.Dataset.from_frames(
        {"user": users, "item": items + 1, "timestamp": START + DAY * days.ravel()},
        {"item": np.arange(1, 61), "title": titles},
    )
    return make_case(shop)


def test_training_sees_nothing_of_new_items(case: Case) -> None:
    """Their texts would enter the encoder and the neighbours, their rows the negatives, and later purchases the counts."""
    new = set(case.new["item"])
    assert {59, 60} <= new and case.num_new == len(new)
    known, whole = case.known, case.whole
    assert not new & set(known.item_ids.tolist())
    assert known.texts.items is not None and len(known.texts.items.columns["title"]) == 60 - len(
        new
    )
    split = make_split(known.data, known.log)
    for user, (begin, end) in enumerate(zip(known.log.offsets, split.train.end, strict=False)):
        times = known.log.timestamps[begin:end]
        assert (times < split.bounds[0]).all(), user
    assert set(known.item_ids[split.item_counts == 0].tolist()) == set()
    assert make_split(whole.data, whole.log).bounds == split.bounds
    everything = whole.item_ids[case.rows].tolist()
    assert everything == [*known.item_ids.tolist(), *case.new["item"]]


def test_people_are_asked_for_what_came_next(case: Case) -> None:
    """A history would contain the item to be predicted, or a purchase would be tested twice or not at all."""
    log, purchases = case.whole.log, case.purchases
    _, end = make_split(case.whole.data, log).bounds
    asked = 0
    for place in range(log.num_interactions):
        owner = log.users[place]
        if log.timestamps[place] < end or place == log.offsets[owner]:
            continue
        history = log.item_ids[log.items[log.offsets[owner] : place]]
        np.testing.assert_array_equal(purchases.histories[asked], history)
        target = log.item_ids[log.items[place]]
        assert purchases.targets[asked] == str(target) and purchases.people[asked] == owner
        assert purchases.cold[asked] == (target in case.new["item"])
        asked += 1
    assert asked == len(purchases.targets) and purchases.cold.any() and not purchases.cold.all()
    earlier = (log.items == case.rows[0]) & (log.timestamps < end)
    assert case.counts[0] == earlier.sum()


def test_measures_by_hand(case: Case) -> None:
    """The first place counts 1 and the third 1/2, and a list without the target counts nothing; each group has its own mean."""
    purchases = case.purchases
    lists = [np.array(["none"] * 10, object) for _ in purchases.targets]
    first, third = np.flatnonzero(purchases.cold)[0], np.flatnonzero(~purchases.cold)[0]
    lists[first][0], lists[third][2] = purchases.targets[first], purchases.targets[third]
    found = measures_of(purchases, lists, {str(item) for item in case.new["item"]})
    new, known = purchases.cold.sum(), (~purchases.cold).sum()
    assert found["new"]["Recall@10"] == pytest.approx(1 / new)
    assert found["new"]["NDCG@10"] == pytest.approx(1 / new)
    assert found["known"]["Recall@10"] == pytest.approx(1 / known)
    assert found["known"]["NDCG@10"] == pytest.approx(0.5 / known)
    assert found["all"]["NDCG@10"] == pytest.approx(1.5 / (new + known))
    assert found["share_new"] == pytest.approx(1 / (10 * (new + known)))
    without = [own if place != first else own[1:] for place, own in enumerate(lists)]
    less = measures_of(purchases, without, set(), lists)
    assert less["new"]["NDCG@10 less"] == pytest.approx(-1 / new)
    assert less["known"]["NDCG@10 less"] == less["known"]["NDCG@10 less error"] == 0.0
    # One user alone differs, so all of the error is that user's: the deviation of one of n from the mean.
    apart = np.bincount(purchases.people[purchases.cold])
    owner = purchases.people[first]
    deviations = apart / new - (np.arange(len(apart)) == owner)
    assert less["new"]["NDCG@10 less error"] == pytest.approx(np.sqrt((deviations**2).sum()) / new)


def test_new_items_come_by_add_items(case: Case, tmp_path: pathlib.Path) -> None:
    """The table would measure another way than the one that people use."""
    config = config_of("semantic_neighbours", 1, 0, {})
    model = gj.Recommender(config, **SMALL).fit(case.known)
    added = add_items(model.artifact, case.new)
    text = np.asarray(added.features)
    lines = variants("semantic_neighbours", model.artifact, case, text, None)
    told = shown(lines["semantic_neighbours"], case.purchases)
    assert model.add_items(case.new) == case.num_new
    answers = model.recommend(histories=case.purchases.histories[:5], k=10)
    for person in range(5):
        own = answers[answers["user"] == person]["item"].astype(str).tolist()
        assert own == told[person].tolist()
    assert any(item in {"59", "60"} for own in told for item in own)
    alone = among_new(lines["semantic_neighbours"], case)
    ids, rows = added.catalogue.ids[-case.num_new :].astype(str), text[-case.num_new :]
    gains = []
    for person in np.flatnonzero(case.purchases.cold):
        history, target = case.purchases.histories[person], case.purchases.targets[person]
        state = model.user_vectors(histories=[history.tolist()])["vector"][0]
        had = np.isin(ids, history.astype(str))
        order = ids[np.argsort(-np.where(had, -np.inf, rows @ state), kind="stable")]
        rank = order.tolist().index(target)
        gains.append(
            1 / np.log2(rank + 2) if rank < 10 and target not in history.astype(str) else 0
        )
    assert alone is not None and alone["NDCG@10"] == pytest.approx(np.mean(gains))
    assert among_new(model.artifact, dataclasses.replace(case, new={"item": ["never"]})) is None
    kept = measures_of(case.purchases, told, {str(item) for item in case.new["item"]})
    run = {"name": "hair-lsa", "epochs": 1, "new_items": 2, "items": 60}
    (table,) = cold_study.tables(
        {"runs": [run | {"measured": [{"line": "grasp_plus, a", **kept}]}]}
    )
    assert table.rows[0][0] == "`grasp_plus`, former defaults, a" and "Hair Care" in table.title
    assert len(table.rows[0]) == len(table.header)
    assert cold_study.AMONG not in table.header, "a column that is empty in each row"


def test_other_ways_change_new_items_alone(case: Case) -> None:
    """A variant that moved an item of training would be compared with another model."""
    config = config_of("popularity", 1, 0, {})
    model = gj.Recommender(config, **SMALL).fit(case.known).artifact
    lines = variants("popularity", model, case, np.empty(0), None)
    counted = lines["popularity until the test"]
    assert counted.features[:, 0].tolist() == case.counts.tolist()
    assert counted.catalogue.ids[-case.num_new :].tolist() == case.new["item"]
    whole = gj.Recommender(config, **SMALL).fit(case.whole).artifact
    as_it_is, without = in_catalogue("popularity", whole, case).values()
    changed = (as_it_is.features != without.features).any(axis=1)
    names = set(whole.catalogue.ids[changed].tolist())
    assert names <= set(case.new["item"])


def test_parts_add_up_to_the_score(case: Case) -> None:
    """A line would name another part than the one whose columns it keeps, or lose a part."""
    config = config_of("grasp_plus", 1, 0, {}).with_fields({"model.plus.id_start": "random"})
    small: dict[str, Any] = {**SMALL, "mlp": (8,), "features": 8, "backbone": "gru4rec"}
    model = gj.Recommender(config, **small, num_layers=1).fit(case.known).artifact
    added = add_items(model, case.new)
    lines, whole = cold_parts.lines_of(added), np.asarray(added.features)
    assert lines["grasp_plus"] is added
    ids = np.asarray(model.params["encoder"]["table"])
    only = cold_parts.with_parts(added, ["id"]).features
    np.testing.assert_array_equal(only[: len(ids), :8], ids)
    for part in ("text", "company", "match"):
        alone, left = lines[f"{part} alone"].features, lines[f"without {part}"].features
        assert np.abs(alone).max() > 0
        np.testing.assert_array_equal(alone + left, whole)
    np.testing.assert_array_equal(whole - lines["without id"].features, only)
    lengths = [
        np.linalg.norm(whole[:, own], axis=1) for own in cold_parts.columns_of(added).values()
    ]
    id_length, _, _, match_length = lengths
    assert (id_length[-case.num_new :] == 0).all()
    plus = config.model.plus
    of_new = plus.match_weight * (1 + plus.match_rare)  # nobody has bought them
    np.testing.assert_allclose(match_length[-case.num_new :], of_new, rtol=1e-5)
    assert measured_of({"grasp_plus": added}, case)[0]["new"]["NDCG@10 less"] == 0.0


def test_a_table_of_parts_says_which_weight_to_take() -> None:
    """It would name a weight with which known items rank lower than with the cosine, or a smaller one than is possible."""

    def line(name: str, new: float, known: float) -> dict[str, Any]:
        kept = {"new": new, "known": known, "all": known, "among_new": new}
        groups = {group: {"NDCG@10": value, "NDCG@10 error": 0.01} for group, value in kept.items()}
        return {"line": name, "share_new": 0.1, **groups}

    first = [line("semantic_neighbours", 0.2, 0.1), line("match alone", 0.5, 0.1)]
    own = [
        line("grasp_plus", 0.15, 0.3),
        line("match_new=2", 0.3, 0.12),
        line("match_new=3", 0.4, 0.09),
    ]
    run = {"name": "hair-lsa", "epochs": 1, "measured": [*first, *own]}
    (table,) = cold_study.parts_tables({"runs": [run]})
    assert [row[0] for row in table.rows][:3] == [
        "`semantic_neighbours`",
        "match alone",
        "`grasp_plus`, former defaults",
    ]
    assert all(len(row) == len(table.header) for row in table.rows)
    said = table.note or ""
    assert (
        "`match_new=2`, new items have 30.0 and known items 12.0" in said
        and "match_new=3" not in said
    )
    worse = run | {"measured": [*first, line("grasp_plus", 0.15, 0.05), *own[2:]]}
    assert "match_new" not in (cold_study.parts_tables({"runs": [worse]})[0].note or "")


def test_users_of_given_vectors_are_told_nothing_of_later(
    case: Case, tmp_path: pathlib.Path
) -> None:
    """A user's vector that is made from the whole history would contain the item to be predicted."""
    vectors = np.random.default_rng(0).normal(size=(len(case.known.item_ids), 4))
    fields = vector_files(case.known, vectors, tmp_path / "vectors")
    users, log = np.load(fields["knowledge.user_file"]), case.known.log
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    end = make_split(case.known.data, log).train.end[3]
    expected = unit[log.items[log.offsets[3] : end]].mean(axis=0)
    np.testing.assert_allclose(users[3], expected, atol=1e-6)


def test_a_shop_that_cannot_be_asked(tmp_path: pathlib.Path) -> None:
    """Without times nothing is later; and a run that is kept again replaces itself."""
    interactions = {"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 1, 2, 3]}
    shop = gj.Dataset.from_frames(interactions, {"item": [1, 2, 3], "title": ["a", "b", "c"]})
    assert_names(refusal(make_case, shop), ("times", "expected"))
    path = tmp_path / "kept.json"
    path.write_text('{"runs": [{"name": "a", "seed": 1}, {"name": "b", "seed": 1}]}')
    again = beside(path, {"name": "a", "seed": 2})
    assert again == [{"name": "b", "seed": 1}, {"name": "a", "seed": 2}]
