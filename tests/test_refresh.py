"""A bank made from yesterday's bank equals one that is made from nothing."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import CutOff, Split, by_time, ends_no_later, leave_one_out
from grasp_jax.knowledge import bank_tables, prepare
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.geometry import Geometry, unit_rows
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state
from grasp_jax.knowledge.neighbours import NONE, search_clusters
from grasp_jax.knowledge.neighbours.search import recall, top_neighbours
from grasp_jax.knowledge.refresh import refreshed_neighbours
from tests.refusal import assert_names, refusal

ROWS, K = 300, 6
PCA = {"reduction.kind": "pca", "reduction.width": 8}
WORDS = [f"word{k}" for k in range(40)]


@pytest.mark.parametrize(
    "case", ["changed", "new", "gone", "all of it", "nothing", "nearer to all"]
)
def test_neighbours_are_those_of_a_full_search(case: str) -> None:
    """A row would keep a neighbour that is gone, or miss a new one that is nearer."""
    rng = np.random.default_rng(0)
    yesterday = unit_rows(rng.standard_normal((ROWS, 8))).astype(np.float32)
    old, kept, today = top_neighbours(yesterday, K), np.arange(ROWS), yesterday.copy()
    fresh = unit_rows(rng.standard_normal((30, 8))).astype(np.float32)
    if case == "nearer to all":
        fresh = unit_rows(yesterday[:30] + 0.01 * fresh).astype(np.float32)
    if case in ("changed", "all of it", "nearer to all"):
        places = rng.permutation(ROWS)[:30]
        today[places], kept[places] = fresh, -1
    if case in ("gone", "all of it"):
        left = np.sort(rng.permutation(ROWS)[:250])
        today, kept = today[left], kept[left]
    if case in ("new", "all of it"):
        order = rng.permutation(len(today) + 30)  # rows of today stand in another order
        today = np.concatenate([today, unit_rows(rng.standard_normal((30, 8))).astype(np.float32)])[
            order
        ]
        kept = np.concatenate([kept, np.full(30, -1)])[order]
    np.testing.assert_array_equal(
        refreshed_neighbours(today, K, kept, old), top_neighbours(today, K)
    )


class Shop:
    """Items and users of a day; an item's text is its title."""

    def __init__(self, titles: dict[str, str], users: int) -> None:
        rng = np.random.default_rng(1)
        ids = np.array(list(titles))
        lengths = rng.integers(4, 9, 60)[:users]
        owners = np.repeat([f"u{k}" for k in range(users)], lengths)
        bought = rng.integers(0, 50, lengths.sum())  # of the items that both days have
        self.split: Split = leave_one_out(
            build_log("shop", owners, ids[bought], catalogue=ids), 100
        )
        self.items = AttributeTable(ids, {"title": list(titles.values())})


class ByWords(TextEncoder):
    """A vector for each text by itself: the sum of fixed random vectors of its words."""

    per_text = True
    width = 12

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        return cls()

    def recipe(self) -> dict[str, object]:
        return {}

    @contextlib.contextmanager
    def session(self, texts: Mapping[str, Sequence[str]]) -> Iterator[None]:
        CALLS.append((len(texts["items"]), len(texts["users"])))
        yield

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = {
            word: np.random.default_rng(k).standard_normal(self.width)
            for k, word in enumerate(WORDS)
        }
        words = [text.replace(",", " ").replace(".", " ").split() for text in texts]
        return np.array(
            [
                sum((vectors[word] for word in own if word in vectors), np.ones(self.width))
                for own in words
            ],
            np.float32,
        )

    def save(self, folder: pathlib.Path) -> None:
        write_state(folder, "words", {})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        read_state(folder, "words")
        return cls()


class Wider(ByWords):
    width = 13


CALLS: list[tuple[int, int]] = []


def day(changed: bool) -> Shop:
    rng = np.random.default_rng(0)
    titles = {f"i{k:03d}": " ".join(rng.choice(WORDS, 5)) for k in range(80)}
    if changed:
        titles["i003"] = "word1 word2 word3"
        del titles["i070"]
        titles["i999"] = "word4 word5"
    return Shop(titles, 40 if changed else 38)


def config_of(**changes: Any) -> KnowledgeConfig:
    return KnowledgeConfig().with_fields(
        {"encoder": "sentence_transformers", "num_neighbours": 4, **changes}
    )


def make(shop: Shop, folder: pathlib.Path, **changes: Any) -> KnowledgeBank:
    return prepare.prepare_bank(config_of(**changes), shop.split, SourceTexts(shop.items), folder)


def test_refreshed_bank_equals_one_made_anew(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Daily banks would drift from what they should be, or everything be encoded again."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    make(day(False), tmp_path / "monday")
    CALLS.clear()
    refreshed = make(day(True), tmp_path / "tuesday", since=str(tmp_path / "monday"))
    assert CALLS[0][0] == 2 and 2 <= CALLS[0][1] < 20
    assert "items: 2 of 80 are new or changed since" in capsys.readouterr().out
    anew = make(day(True), tmp_path / "anew", centre_from=str(tmp_path / "monday"))
    for name in ("items", "items_similar", "users", "users_similar"):
        np.testing.assert_allclose(
            getattr(refreshed, name), getattr(anew, name), atol=1e-6, err_msg=name
        )
    assert {
        **refreshed.manifest["recipe"],
        "centre_from": str(tmp_path / "monday"),
    } == anew.manifest["recipe"]
    again = make(
        day(True), tmp_path / "wednesday", since=str(tmp_path / "tuesday")
    )  # nothing changed: nothing is encoded
    assert len(CALLS) == 2
    np.testing.assert_array_equal(again.items_similar, refreshed.items_similar)


class WithoutSome(ByWords):
    """Texts with a certain word get zeros, as where nothing is known."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = super().encode(texts)
        vectors[["word7" in text.split() for text in texts]] = 0
        return vectors


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, PCA], ids=["plain", "short", "pca"])
def test_minus_the_mean_of_an_earlier_version_becomes_no_text(
    changes: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items without text would keep one common made-up direction for good, and be each other's neighbours."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", WithoutSome)
    with monkeypatch.context() as earlier:
        earlier.setattr(bank_tables, "to_rows", as_versions_before(bank_tables.to_rows))
        monday = make(day(False), tmp_path / "monday", **changes)
    assert np.asarray(monday.items, np.float32).any(axis=1).all(), "as it was"
    tuesday = make(day(True), tmp_path / "tuesday", since=str(tmp_path / "monday"), **changes)
    anew = make(day(True), tmp_path / "anew", centre_from=str(tmp_path / "monday"), **changes)
    empty = ~np.asarray(anew.items, np.float32).any(axis=1)
    assert 3 < empty.sum() < 40
    for name in ("items", "items_similar", "users", "users_similar"):
        one, other = (np.asarray(getattr(bank, name), np.float32) for bank in (tuesday, anew))
        np.testing.assert_allclose(one, other, atol=1e-6 if not changes else 2e-2, err_msg=name)
        assert np.array_equal(one.any(axis=1), other.any(axis=1)), name
    found = np.asarray(tuesday.extras["items_neighbours"])
    assert (found[empty] == NONE).all() and not empty[found[~empty]].any()


def as_versions_before(to_rows: Any) -> Any:
    """Where a vector is zeros, the mean was taken out too."""

    def rows(vectors: np.ndarray, geometry: Geometry) -> np.ndarray:
        minus = unit_rows(-geometry.centre[None])
        minus = minus if geometry.basis is None else unit_rows(minus @ geometry.basis)
        return np.where(vectors.any(axis=1, keepdims=True), to_rows(vectors, geometry), minus)

    return rows


def test_a_bank_by_clusters_takes_new_rows(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next day's bank would be refused or lack neighbours, a new text have none, or the state of the search stay in the bank."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    monkeypatch.setattr(search_clusters, "FEWEST_ROWS", 0)
    by_clusters = {"retrieval": "clusters", "min_recall": 0.5}
    monday = make(day(False), tmp_path / "monday", **by_clusters)
    assert not (tmp_path / "monday" / "items_search").exists()
    CALLS.clear()
    tuesday = make(day(True), tmp_path / "tuesday", since=str(tmp_path / "monday"), **by_clusters)
    assert CALLS[0][0] == 2
    assert tuesday.manifest["recipe"].items() >= by_clusters.items()
    for bank in (monday, tuesday):
        found = np.asarray(bank.extras["items_neighbours"])
        assert found.min() >= 0
        hits = recall(np.asarray(bank.items), found, None, 80)
        assert 0.5 <= hits <= 1.0
    encoder = SavedTextEncoder.load(tmp_path / "monday" / "encoder")
    new = encoder.encode_items([{"title": "word1 word2 word3"}])
    around = encoder.similar(new, monday.items)
    nearest = np.argsort(-(np.asarray(monday.items) @ new[0]))[:4]
    np.testing.assert_allclose(around[0], monday.items[nearest].mean(axis=0), atol=1e-5)
    refused = refusal(make, day(False), tmp_path / "monday", **{**by_clusters, "min_recall": 0.6})
    assert_names(refused, ("min_recall=0.5", "needs 0.6"))


def test_a_split_by_time_that_has_moved_on_keeps_what_is_unchanged(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bank could be refreshed, for the training part ends later every day; or texts of a later day would be known on an earlier one."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    monday, tuesday = day(False), day(True)
    by_places(monday, 4), by_places(tuesday, 5)
    make(monday, tmp_path / "monday")
    CALLS.clear()
    since = str(tmp_path / "monday")
    refreshed = make(tuesday, tmp_path / "tuesday", since=since)
    assert CALLS[0][0] == 2
    anew = make(tuesday, tmp_path / "anew", centre_from=since)
    for name in ("items", "users", "users_similar"):
        np.testing.assert_allclose(getattr(refreshed, name), getattr(anew, name), atol=1e-6)
    message = refusal(make, monday, tmp_path / "back", since=str(tmp_path / "tuesday"))
    assert_names(message, ("cut_off", "before 5", "before 4"))
    assert refreshed.manifest["notes"]["until"] == [5, ""]
    begin = 1_394_150_400_000  # milliseconds of one second, which the texts of both show
    by_places(monday, 4, begin, "ms"), by_places(tuesday, 5, begin, "ms")
    make(tuesday, tmp_path / "late")
    message = refusal(make, monday, tmp_path / "early", since=str(tmp_path / "late"))
    assert_names(message, (f"before {begin + 5} ms since 1970", f"those before {begin + 4};"))


def by_places(shop: Shop, until: int, begin: int = 0, unit: str = "") -> None:
    """Splits a shop by time, which is the place of each interaction in its history, `begin` at the first."""
    log = shop.split.log
    places = np.arange(len(log.items)) - np.repeat(log.offsets[:-1], log.lengths)
    times = (begin + places).astype(np.int64)
    timed = dataclasses.replace(log, timestamps=times, time_unit=unit)
    shop.split = by_time(timed, 100, begin + until, begin + until + 1)


def test_an_earlier_bank_may_not_know_more() -> None:
    """An encoder or a centre that was fitted to what is held out now would tell it."""

    def until(moment: object) -> CutOff:
        return CutOff(f"training part of each history: interactions before {moment} (0a)")

    less, more = until("2014-03-07 00:00:00"), until("2014-05-13 00:00:00")
    everything = CutOff("training part of each history: all interactions")
    but_two = CutOff("training part of each history: all but the last two interactions")
    assert ends_no_later(less, more) and not ends_no_later(more, less)
    assert ends_no_later(until(9), until(10)) and not ends_no_later(until(10), until(9))
    assert ends_no_later(more, everything) and not ends_no_later(everything, more)
    assert ends_no_later(but_two, but_two) and not ends_no_later(everything, but_two)
    assert not ends_no_later(but_two, less)
    assert not ends_no_later(less, until("4 seconds after 1970"))
    # the sentences have seconds; a moment that is stored as a number has more, and does not depend on their words
    early, late = (1_394_150_400_000, "ms"), (1_394_150_400_001, "ms")
    assert ends_no_later(CutOff("a", early), CutOff("b", late))
    assert not ends_no_later(less._replace(until=late), more._replace(until=early))
    in_ms = more._replace(until=(5, "ms"))
    assert ends_no_later(less._replace(until=(9, "s")), in_ms), "units differ"
    assert ends_no_later(less, in_ms), "of an earlier version"


def test_what_cannot_be_refreshed_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank would mix rows of two recipes."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    make(day(False), tmp_path / "monday")
    shop, since = day(True), str(tmp_path / "monday")
    for changes, parts in (
        ({"encoder": "lsa"}, (since, "encoder='sentence_transformers'", "needs 'lsa'")),
        (
            {"encoder": "file"},
            ("--since: the encoder 'file' encodes no texts", "prepare without --since"),
        ),
        ({"num_neighbours": 5}, (since, "num_neighbours=4", "needs 5")),
        ({"item_template": "titled_item"}, (since, "item_template")),
    ):
        config = config_of(since=since, **changes)
        assert_names(
            refusal(
                prepare.prepare_bank,
                config,
                shop.split,
                SourceTexts(shop.items),
                tmp_path / "other",
            ),
            parts,
        )


def test_vectors_of_another_width_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that changed under its name would end in NumPy's broadcasting error, hours later."""
    monkeypatch.setitem(ENCODERS, "sentence_transformers", ByWords)
    make(day(False), tmp_path / "monday")

    monkeypatch.setitem(ENCODERS, "sentence_transformers", Wider)
    since = str(tmp_path / "monday")
    message = refusal(make, day(True), tmp_path / "tuesday", since=since)
    assert_names(message, (since, "vectors are 12 wide, the encoder's 13", "prepare without it"))
    assert not (tmp_path / "tuesday").exists()
