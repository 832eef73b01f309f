"""Raw Amazon dumps through the TFDS builder and back."""

import gzip
import json
import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
from grasp_jax.data.amazon import AmazonFilter, k_core, read_amazon, read_reviews
from grasp_jax.errors import UserError


def write_dump(folder: pathlib.Path, reviews: list[tuple[str, str, int, float]], titles: dict[str, str], literal: bool = True) -> None:
    with gzip.open(folder / "reviews_Toys.json.gz", "wt") as file:
        for user, item, time, rating in reviews:
            file.write(json.dumps({"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating}) + "\n")
    with gzip.open(folder / "meta_Toys.json.gz", "wt") as file:
        for item, title in titles.items():
            record = {"asin": item, "title": title, "brand": "Acme", "categories": [["Toys", "Kites"]], "price": 3.5}
            file.write((repr(record) if literal else json.dumps(record)) + "\n")


REVIEWS = [(f"U{u}", f"A{i}", 100 - i // 2, 5.0) for u in range(3) for i in range(4)] + [("U9", "A0", 1, 5.0), ("U0", "A3", 99, 5.0)]
TITLES = {"A0": "It's red", "A1": "Blue", "A2": "Green", "A3": ""}
OPTIONS = AmazonFilter("Toys", min_user_interactions=2, min_item_interactions=2)


@pytest.mark.parametrize("literal", [True, False])
def test_round_trip(tmp_path: pathlib.Path, literal: bool) -> None:
    """Would break if examples came back out of order, ids were lost, or one of the two metadata dialects were not read."""
    write_dump(tmp_path, REVIEWS, TITLES, literal)
    log, items = read_amazon(str(tmp_path), str(tmp_path / "tfds"), OPTIONS)
    assert log.user_ids.tolist() == ["U0", "U1", "U2"]  # U9 has one review
    assert log.item_ids.tolist() == ["A0", "A1", "A2"]  # A3 has no title
    assert log.items.tolist() == [2, 0, 1] * 3  # by time, ties in file order
    assert items.fields(0) == {
        "title": "It's red", "brand": "Acme", "price": "3.5", "description": None, "attributes": ["Acme", "Toys", "Kites"], "features": [],
    }  # fmt: skip


def test_prepared_data_is_reused(tmp_path: pathlib.Path) -> None:
    """Would break if every run read the dumps again: the reviews are emptied in between."""
    write_dump(tmp_path, REVIEWS, TITLES)
    first, _ = read_amazon(str(tmp_path), str(tmp_path / "tfds"), OPTIONS)
    (tmp_path / "reviews_Toys.json.gz").write_bytes(b"")
    second, _ = read_amazon(str(tmp_path), str(tmp_path / "tfds"), OPTIONS)
    assert first.fingerprint() == second.fingerprint()


def test_k_core_once_and_until_stable() -> None:
    """Would break if `iterative` made no difference: dropping a rare item leaves user b short."""
    users, items = np.array(list("aabbcc")), np.array(list("xyxzxy"))
    assert k_core(users, items, 2, 2, iterative=False).tolist() == [True, True, True, False, True, True]
    assert k_core(users, items, 2, 2, iterative=True).tolist() == [True, True, False, False, True, True]


def test_faults_are_one_line(tmp_path: pathlib.Path) -> None:
    """Would break if a missing, damaged or unfit dump raised anything but a line that names it."""
    with pytest.raises(UserError, match=r"lacks reviews_Toys.json.gz or Toys.json.gz"):
        read_reviews(tmp_path, OPTIONS)
    write_dump(tmp_path, REVIEWS, TITLES)
    with pytest.raises(UserError, match=r"no review is left"):
        read_reviews(tmp_path, AmazonFilter("Toys", min_user_interactions=50))
    whole = (tmp_path / "reviews_Toys.json.gz").read_bytes()
    (tmp_path / "reviews_Toys.json.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"reviews_Toys.json.gz: damaged after line"):
        read_reviews(tmp_path, OPTIONS)
    with gzip.open(tmp_path / "reviews_Toys.json.gz", "wt") as file:
        file.write('{"asin": "A0"}\n')
    with pytest.raises(UserError, match=r"reviews_Toys.json.gz:1: not a review"):
        read_reviews(tmp_path, OPTIONS)
