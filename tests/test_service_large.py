"""Catalogues that are scored in blocks are answered as small ones are. The blocks of these tests are small, and so are their catalogues."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.evaluation import top_k
from grasp_jax.serving.http import fixed_programs
from tests.test_export import SMALL
from tests.test_service import Running, _with, assert_equal

ITEMS = 700  # in 1,536 rows, those of new items among them


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[None]:
    """Of a few hundred rows, the last one smaller than the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "BLOCK", 400)
        patch.setattr(fixed_programs, "BLOCK", 400)
        patch.setattr(fixed_programs, "GATED_BLOCK", 304)
        patch.setattr(fixed_programs, "WHOLE", 512)
        patch.setattr(fixed_programs, "ROUND", 512)
        yield


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return gj.Dataset.synthetic(num_users=200, num_items=ITEMS)


@pytest.fixture(scope="module")
def model(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> gj.Recommender:
    """Without gates, saved in the folder `saved`."""
    return gj.Recommender(method="plain", **SMALL).fit(
        shop, tmp_path_factory.mktemp("large") / "run"
    )


@pytest.fixture(scope="module")
def running(
    model: gj.Recommender, small_blocks: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("large") / "saved"
    model.save(folder)
    made = Running(folder, _with(batch_sizes=(1, 8), lengths=()))
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
    made = Running(tmp_path / "run", _with(batch_sizes=(8,), lengths=()))
    asked = asked_of(shop, 6, 30)
    for options in ({}, {"candidates": shop.item_ids[::9].tolist()}):
        found = made.post("/recommend", histories=asked, **options)
        assert_equal(found["results"], model.recommend(histories=asked, **options))
    made.service.stop()
