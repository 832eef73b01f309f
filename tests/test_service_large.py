"""Catalogues that are scored in blocks are answered as small ones are. The blocks of these tests are small, and so are their catalogues."""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.evaluation import top_k
from grasp_jax.knowledge.neighbours import search_scann
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http import fixed_programs
from grasp_jax.serving.http.approximate import Index
from grasp_jax.serving.http.cli import parser, settings_of
from grasp_jax.serving.http.indexing import with_index
from grasp_jax.serving.http.placing import take_snapshot
from grasp_jax.serving.http.snapshot import ServingSnapshot
from tests.refusal import assert_names, refusal
from tests.running_service import Running, assert_equal, with_settings
from tests.trained import SMALL

ITEMS = 700  # in 1,536 rows, those of new items among them


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[None]:
    """Of a few hundred rows, the last one smaller than the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "BLOCK", 400)
        patch.setattr(fixed_programs, "BLOCK", 400)
        patch.setattr(fixed_programs, "GATED_BLOCK", 304)
        patch.setattr(fixed_programs, "MOST_UNBLOCKED", 512)
        patch.setattr(fixed_programs, "CAPACITY_MULTIPLE", 512)
        yield


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return gj.Dataset.synthetic(num_users=200, num_items=ITEMS)


@pytest.fixture(scope="module")
def model(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> gj.Recommender:
    """Without gates, saved in the folder `saved`."""
    return gj.Recommender(method="plain", backbone="gru4rec", **SMALL).fit(
        shop, tmp_path_factory.mktemp("large") / "run"
    )


@pytest.fixture(scope="module")
def running(
    model: gj.Recommender, small_blocks: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("large") / "saved"
    model.save(folder)
    made = Running(folder, with_settings(batch_sizes=(1, 8), lengths=()))
    yield made
    made.service.stop()


def asked_of(shop: gj.Dataset, count: int, longest: int) -> list[list[Any]]:
    """Histories of ids of the shop."""
    rng, ids = np.random.default_rng(longest), shop.item_ids
    return [ids[rng.integers(0, len(ids), rng.integers(1, longest))].tolist() for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [{}, {"k": 30}, {"exclude_seen": False}, {"candidates": True}, {"exclude": True}],
    ids=str,
)
def test_blocks_answer_as_the_model_does(
    options: dict[str, Any], running: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """A block that is forgotten or counted twice, or a row of it that is named by its place within the block."""
    if "candidates" in options or "exclude" in options:  # of the first and of the last block
        ids = shop.item_ids
        options = {name: [*ids[5:90:7].tolist(), *ids[-40::3].tolist()] for name in options}
    for longest in (20, 100):
        asked = asked_of(shop, 12, longest)
        found = running.post("/recommend", histories=asked, **options)
        assert_equal(found["results"], model.recommend(histories=asked, **options))


def test_blocks_find_the_nearest_items(
    running: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """The item itself, or an item of another block with a shorter vector."""
    ids = shop.item_ids[[0, 399, 400, ITEMS - 1]].tolist()
    found = running.post("/similar", items=ids, k=6)["results"]
    frame = model.similar_items(ids, k=6)
    assert [own["item"] for row in found for own in row["similar"]] == frame["similar"].tolist()


def test_a_removed_item_leaves_its_block(
    running: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """The best item of a group would be recommended although it is removed, or take its group with it."""
    asked = asked_of(shop, 1, 9)
    best = [
        own["item"] for own in running.post("/recommend", histories=asked)["results"][0]["items"]
    ]
    assert running.client.delete(f"/items/{best[0]}").status_code == 200
    found = running.post("/recommend", histories=asked)["results"]
    assert_equal(found, model.recommend(histories=asked, exclude=[best[0]]))
    running.client.put("/items", json={"items": [{"item": best[0], "title": "again"}]})
    again = running.post("/recommend", histories=asked)["results"][0]["items"]
    assert [own["item"] for own in again] == best


def test_blocks_of_a_gated_model(
    shop: gj.Dataset, small_blocks: None, tmp_path: pathlib.Path
) -> None:
    """Gates would be asked with the texts of another block."""
    gj.Recommender(method="grasp", backbone="gru4rec", **SMALL).fit(shop, tmp_path / "run")
    model = gj.Recommender.load(tmp_path / "run")
    made = Running(tmp_path / "run", with_settings(batch_sizes=(8,), lengths=()))
    assert_names(
        refusal(with_index, made.service.served.snapshot, 0.9, []),
        ("--approximate", "grasp", "gates"),
    )
    asked = asked_of(shop, 6, 30)
    for options in ({}, {"candidates": shop.item_ids[::9].tolist()}):
        found = made.post("/recommend", histories=asked, **options)
        assert_equal(found["results"], model.recommend(histories=asked, **options))
    made.service.stop()


@pytest.fixture(scope="module")
def approximate(
    model: gj.Recommender, small_blocks: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service that searches a tree of ScaNN."""
    folder = tmp_path_factory.mktemp("approximate") / "saved"
    model.save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_scann, "TREE_ROWS", 1)
        made = Running(folder, with_settings(batch_sizes=(8,), lengths=(), recall=0.95))
    yield made
    made.service.stop()


def test_approximate_answers_have_exact_scores(
    approximate: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """What was seen or excluded would come back, a row that only fills up be recommended, or a score be rounded."""
    asked, ids = asked_of(shop, 20, 60), shop.item_ids
    for options in ({}, {"k": 30, "exclude": ids[3:60].tolist()}):
        found = approximate.post("/recommend", histories=asked, **options)["results"]
        frame = model.recommend(histories=asked, **options)
        hits = 0
        for result, (_, rows) in zip(found, frame.groupby("user", sort=False), strict=True):
            right = dict(zip(rows["item"].tolist(), rows["score"].tolist(), strict=True))
            assert len(result["items"]) == len(right)
            scores = [own["score"] for own in result["items"]]
            assert scores == sorted(scores, reverse=True)
            for own in result["items"]:
                if own["item"] in right:
                    hits += 1
                    assert own["score"] == pytest.approx(right[own["item"]], abs=1e-5)
        assert hits >= 0.9 * len(frame)
    about = approximate.client.get("/ready").json()
    assert about["search"] == "approximate" and 0.95 <= about["recall"] <= 1.0
    assert f"grasp_serve_recall {about['recall']}" in approximate.client.get("/metrics").text


def test_removed_and_candidate_items_of_an_index(
    approximate: Running, model: gj.Recommender, shop: gj.Dataset
) -> None:
    """The index still holds what was removed; and it cannot search among candidates alone."""
    asked = asked_of(shop, 1, 9)
    best = approximate.post("/recommend", histories=asked)["results"][0]["items"][0]["item"]
    assert approximate.client.delete(f"/items/{best}").status_code == 200
    found = approximate.post("/recommend", histories=asked)["results"][0]["items"]
    assert best not in [own["item"] for own in found] and len(found) == 10
    approximate.client.put("/items", json={"items": [{"item": best, "title": "again"}]})
    few = shop.item_ids[5:300:50].tolist()
    found = approximate.post("/recommend", histories=asked, candidates=few)["results"]
    assert_equal(found, model.recommend(histories=asked, candidates=few))


class Searcher:
    """In place of ScaNN: the same rows for everybody, the last one a filling."""

    def search_batched(self, states: np.ndarray, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = np.broadcast_to(np.array([0, 1, 2, 0], np.uint32), (len(states), 4))
        return rows, np.broadcast_to(np.array([3.0, 2.0, 1.0, np.nan], np.float32), rows.shape)


def test_rows_behind_an_index_are_compared_one_by_one() -> None:
    """An item that came after the index would never be found, or one that nobody wants be shown where too few are left."""
    vectors = np.array([[3.0], [2.0], [1.0], [2.5], [9.0]], np.float32)
    served, index = np.array([True, True, True, True, False]), Index(Searcher(), 3, 1)
    states, nothing = np.ones((2, 1), np.float32), np.empty(0, np.int32)
    found = index.answer(states, vectors, served, [nothing, np.array([0])], 3)
    assert found is not None
    assert [own.items.tolist() for own in found] == [[0, 3, 1], [3, 1, 2]]
    assert [own.scores.tolist() for own in found] == [[3.0, 2.5, 2.0], [2.5, 2.0, 1.0]]
    assert index.answer(states, vectors, served, [nothing, np.array([0])], 4) is None


def with_poor_index(snapshot: ServingSnapshot, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on an index finds the same items for everybody; returns a list of the numbers of leaves that were searched, which grows."""
    rows = len(snapshot.catalogue.ids)
    monkeypatch.setattr(Index, "over", classmethod(lambda cls, *_: cls(None, rows, 1)))
    leaves: list[int] = []

    def poor(self: Index, states: np.ndarray, *_: Any) -> list[Answer]:
        leaves.append(self.leaves)
        return [Answer(np.arange(30, dtype=np.int32), np.zeros(30, np.float32)) for _ in states]

    monkeypatch.setattr(Index, "answer", poor)
    return leaves


def test_a_stop_ends_the_search_for_an_index(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is stopped while it starts would search through the whole catalogue again and again before it ends."""
    snapshot = running.service.served.snapshot
    leaves = with_poor_index(snapshot, monkeypatch)
    told = iter([True, False])
    assert with_index(snapshot, 0.99, [], lambda: next(told)) is None
    assert set(leaves) == {1}, "one search, with the first number of leaves"


def test_a_stop_ends_the_first_calls_of_the_programs(running: Running) -> None:
    """A service that is stopped while it starts would call every program before it ends, for a large catalogue minutes long."""
    old = running.service.served.snapshot
    shapes = old.programs.shapes
    made = take_snapshot(old.artifact, shapes, old)
    assert made is not None and made.programs is old.programs, "there is nothing to compile"
    assert take_snapshot(old.artifact, shapes, old, lambda: False) is None


def test_a_recall_below_the_floor_is_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that miss most of what they should hold would be served, and nobody be told."""
    snapshot = running.service.served.snapshot
    leaves = with_poor_index(snapshot, monkeypatch)
    message = refusal(with_index, snapshot, 0.99, [])
    assert_names(message, ("--recall=0.99", "of the 10 best items at most", "--approximate"))
    assert len(set(leaves)) > 3, "more of the catalogue was looked into before"


def test_what_cannot_be_approximate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package would end in a traceback, a flag without a meaning be taken."""
    monkeypatch.setitem(sys.modules, "scann", None)
    flags = ["model", "--approximate"]
    assert_names(refusal(lambda: settings_of(parser().parse_args(flags))), ("scann", "pip install"))
    for bad in ("0", "1.5", "nan"):
        given = parser().parse_args(["model", f"--recall={bad}"])
        assert_names(refusal(settings_of, given), ("--recall", bad, "up to 1"))
