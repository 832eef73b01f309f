"""Raw Amazon dumps through the TFDS builder and back."""

import dataclasses
import gc
import gzip
import json
import pathlib
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
from grasp_jax.core.errors import UserError
from grasp_jax.data import amazon
from grasp_jax.data.amazon import (
    AmazonBuilderConfig,
    AmazonFilter,
    AmazonReviews,
    Reviews,
    k_core,
    read_amazon,
    read_reviews,
)
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.log import InteractionLog, build_log
from tests.refusal import assert_names


def write_dump(
    folder: pathlib.Path,
    reviews: list[tuple[str, str, int, float]],
    titles: dict[str, str],
    literal: bool = True,
) -> None:
    with gzip.open(folder / "reviews_Toys.json.gz", "wt") as file:
        for user, item, time, rating in reviews:
            file.write(
                json.dumps(
                    {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating}
                )
                + "\n"
            )
    with gzip.open(folder / "meta_Toys.json.gz", "wt") as file:
        for item, title in titles.items():
            record = {
                "asin": item,
                "title": title,
                "brand": "Acme",
                "categories": [["Toys", "Kites"]],
                "price": 3.5,
            }
            file.write((repr(record) if literal else json.dumps(record)) + "\n")


def review(user: object, item: object, time: float = 1, rating: float = 5.0) -> str:
    return json.dumps({"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating})


def write_lines(path: pathlib.Path, *lines: str) -> None:
    with gzip.open(path, "wt") as file:
        file.write("".join(line + "\n" for line in lines))


EVERYTHING = AmazonFilter(
    "Toys", min_user_interactions=1, min_item_interactions=1, require_title=False
)
REVIEWS = [(f"U{u}", f"A{i}", 100 - i // 2, 5.0) for u in range(3) for i in range(4)] + [
    ("U9", "A0", 1, 5.0),
    ("U0", "A3", 99, 5.0),
]
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
        "title": "It's red",
        "brand": "Acme",
        "price": "3.5",
        "description": None,
        "attributes": ["Acme", "Toys", "Kites"],
        "features": [],
    }


def test_prepared_data_is_of_these_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run would parse the dumps again, twice; or a newer download not be read, and nobody told."""
    parsed: list[pathlib.Path] = []

    def read(folder: pathlib.Path, options: AmazonFilter) -> Reviews:
        parsed.append(folder)
        return read_reviews(folder, options)

    monkeypatch.setattr("grasp_jax.data.amazon.read_reviews", read)

    def prepared() -> tuple[InteractionLog, AttributeTable]:
        return read_amazon(str(tmp_path), str(tmp_path / "tfds"), OPTIONS)

    write_dump(tmp_path, REVIEWS, TITLES)
    first, _ = prepared()
    second, _ = prepared()
    assert first.fingerprint == second.fingerprint and len(parsed) == 1
    write_dump(tmp_path, REVIEWS[:-6], TITLES)
    assert prepared()[0].num_users == 2 and len(parsed) == 2
    write_dump(tmp_path, REVIEWS[:-6], TITLES | {"A1": "Azure"})
    assert prepared()[1].fields(1)["title"] == "Azure"


def test_k_core_once_and_until_stable() -> None:
    """Would break if `iterative` made no difference: dropping a rare item leaves user b short."""
    users, items = np.array(list("aabbcc")), np.array(list("xyxzxy"))
    assert k_core(users, items, 2, 2, iterative=False).tolist() == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    assert k_core(users, items, 2, 2, iterative=True).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]


def test_filters_by_hand(tmp_path: pathlib.Path) -> None:
    """Would break if the rating bound were exclusive, a repeat stayed, or items without a title went before the core filter."""
    rows = [("U1", "A0", 3, 5.0), ("U1", "A3", 2, 3.0), ("U1", "A0", 3, 4.0)]
    rows += [("U2", "A0", 1, 2.0), ("U2", "A1", 2, 4.0), ("U2", "A3", 2, 4.0)]
    write_dump(tmp_path, rows, {**TITLES, "A3": "  "})

    def kept(**options: Any) -> list[tuple[str, str, int, float]]:
        reviews = read_reviews(tmp_path, dataclasses.replace(EVERYTHING, **options))
        columns = (reviews.users, reviews.items, reviews.times, reviews.ratings)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    unique = [
        ("U1", "A3", 2, 3.0),
        ("U1", "A0", 3, 5.0),
        ("U2", "A0", 1, 2.0),
        ("U2", "A1", 2, 4.0),
        ("U2", "A3", 2, 4.0),
    ]
    assert kept() == unique
    assert kept(deduplicate=False) == unique[:2] + [("U1", "A0", 3, 4.0)] + unique[2:]
    assert kept(min_rating=3.0) == unique[:2] + unique[3:]
    # U1 has two reviews when the core is taken, and one once A3, which has no title, is gone.
    assert kept(min_user_interactions=2, min_item_interactions=2, require_title=True) == [
        unique[1],
        unique[2],
    ]


def test_low_ratings_are_seen_and_not_trained_on(tmp_path: pathlib.Path) -> None:
    """Would break recommendations: a toy that a user rated low would be recommended to them, by prepared data as by fresh ones."""
    rows = [("U1", "A0", 1, 5.0), ("U1", "A1", 2, 1.0), ("U1", "A1", 3, 2.0), ("U1", "A2", 3, 1.0)]
    rows += [("U2", "A1", 1, 4.0), ("U3", "A0", 1, 1.0)]
    write_dump(tmp_path, rows, TITLES)
    for _ in range(2):
        log, _ = read_amazon(
            str(tmp_path), str(tmp_path / "tfds"), dataclasses.replace(EVERYTHING, min_rating=3.0)
        )
        assert log.user_ids.tolist() == ["U1", "U2"] and log.item_ids.tolist() == ["A0", "A1"]
        assert log.low_rated is not None and log.low_rated.tolist() == [[0, 1]], (
            "of users and items that are left, once"
        )
    assert read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)[0].low_rated is None


def test_ids_that_collide_when_joined_are_no_repeats(tmp_path: pathlib.Path) -> None:
    """Would break if repeats were found by joining user, item and time: the three rows below are then one text."""
    write_dump(
        tmp_path, [("U1", "1A", 11, 5.0), ("U11", "A", 11, 5.0), ("U1", "1A1", 1, 5.0)], TITLES
    )
    assert len(read_reviews(tmp_path, EVERYTHING).users) == 3


def test_examples_equal_a_direct_parse(tmp_path: pathlib.Path) -> None:
    """Would break if a value changed on its way through array_record, or item rows did not point into the items part."""
    write_dump(tmp_path, REVIEWS, TITLES)
    reviews = read_reviews(tmp_path, EVERYTHING)
    read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)
    parts = {}
    for part in ("items", "interactions"):
        builder = AmazonReviews(
            data_dir=str(tmp_path / "tfds"),
            config=AmazonBuilderConfig(
                EVERYTHING, part, EVERYTHING.identity(tmp_path), lambda: reviews
            ),
            file_format="array_record",
        )
        parts[part] = list(builder.as_data_source(split="train"))
    catalogue = np.unique(reviews.items)
    assert sorted(example["item"].decode() for example in parts["items"]) == catalogue.tolist()
    assert (
        sorted(example["user"].decode() for example in parts["interactions"])
        == np.unique(reviews.users).tolist()
    )
    for example in parts["interactions"]:
        own = reviews.users == example["user"].decode()
        assert catalogue[example["items"]].tolist() == reviews.items[own].tolist()
        assert example["timestamps"].tolist() == reviews.times[own].tolist()
        assert example["ratings"].tolist() == reviews.ratings[own].tolist()
        assert (example["items"].dtype, example["timestamps"].dtype, example["ratings"].dtype) == (
            np.int64,
            np.int64,
            np.float32,
        )


def test_a_dump_is_parsed_once_and_forgotten(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A dump would be parsed once for each part, or stay in memory while the log is built; or minutes would pass without a word."""
    parsed: list[weakref.ref[Reviews]] = []
    alive: list[bool] = []

    def parse(folder: pathlib.Path, options: AmazonFilter) -> Reviews:
        assert not parsed, "parsed twice"
        reviews = read_reviews(folder, options)
        parsed.append(weakref.ref(reviews))
        return reviews

    def build(*given: Any) -> InteractionLog:
        gc.collect()
        alive.extend(ref() is not None for ref in parsed)
        return build_log(*given)

    monkeypatch.setattr(amazon, "read_reviews", parse)
    monkeypatch.setattr(amazon, "build_log", build)
    write_dump(tmp_path, REVIEWS, TITLES)
    with caplog.at_level("INFO", logger="grasp_jax"):
        read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)
    assert alive == [False]
    assert_names(
        "\n".join(caplog.messages), ("hashing reviews_Toys.json.gz and meta_Toys.json.gz",)
    )


def test_names_of_2018_and_unknown_metadata(tmp_path: pathlib.Path) -> None:
    """Would break if `CATEGORY.json.gz` were not found, or an unknown value became text instead of None or an empty list."""
    write_lines(tmp_path / "Toys.json.gz", review("U1", "A0"), review("U1", "A1", 2))
    record = {
        "asin": "A1",
        "category": "Kites",
        "feature": ["f", "g\ud800"],
        "description": ["a", "b"],
    }
    write_lines(tmp_path / "meta_Toys.json.gz", json.dumps(record))
    log, items = read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)
    assert log.item_ids.tolist() == ["A0", "A1"]
    unknown: dict[str, Any] = {
        "title": None,
        "brand": None,
        "price": None,
        "description": None,
        "attributes": [],
        "features": [],
    }
    assert items.fields(0) == unknown
    assert items.fields(1) == {
        **unknown,
        "description": "a b",
        "attributes": ["Kites"],
        "features": ["f", "g?"],
    }


def test_other_options_are_prepared_apart(tmp_path: pathlib.Path) -> None:
    """Would break if the name of prepared data lacked an option: the second call would get the first one's interactions."""
    write_dump(tmp_path, REVIEWS, TITLES)
    first, _ = read_amazon(str(tmp_path), str(tmp_path / "tfds"), OPTIONS)
    second, _ = read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)
    assert (first.num_items, second.num_items) == (3, 4)


@pytest.mark.parametrize(
    "line",
    [
        *(review(None, "A0"), review("U1", 7), review("", "A0"), review("\ud800", "A0")),
        *(review("U1", "A0", float("inf")), review("U1", "A0", 1, float("nan")), "[]", "garbage"),
    ],
)
def test_bad_line_is_named_through_the_builder(tmp_path: pathlib.Path, line: str) -> None:
    """Would break if an unfit value became an id such as "None", or TFDS turned the error into another or added lines to it."""
    write_dump(tmp_path, REVIEWS, TITLES)
    write_lines(tmp_path / "reviews_Toys.json.gz", review("U1", "A0"), line)
    with pytest.raises(UserError, match=r"reviews_Toys.json.gz:2: .*expected") as error:
        read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["reviews_Toys.json.gz", "meta_Toys.json.gz"])
@pytest.mark.parametrize("content", [b"", b"not a gzip file"])
def test_damaged_file_is_named_through_the_builder(
    tmp_path: pathlib.Path, name: str, content: bytes
) -> None:
    """Would break if an empty download read as a dump without reviews, or a damaged one ended in a traceback."""
    write_dump(tmp_path, REVIEWS, TITLES)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: damaged after line 0"):
        read_amazon(str(tmp_path), str(tmp_path / "tfds"), EVERYTHING)


def test_faults_are_one_line(tmp_path: pathlib.Path) -> None:
    """Would break if a missing, damaged or unfit dump raised anything but a line that names it."""
    with pytest.raises(
        UserError, match=r"lacks reviews_Toys.json.gz or Toys.json.gz; it holds nothing"
    ):
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
