"""What is refused, or warned of, when a run names the folder of an earlier day; and that the remedies work."""

import functools
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import Config, KnowledgeConfig
from grasp_jax.core.files import read_sealed, write_sealed
from grasp_jax.core.paths import SAVED_MODEL
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.knowledge.bank import MANIFEST, TABLES, KnowledgeBank, identity, load_bank, save_bank
from grasp_jax.knowledge.prepare import encode_bank, prepare_bank
from grasp_jax.training.start_from import Earlier, check_basis
from grasp_jax.trials.earlier import warnings_of_missing_interactions
from grasp_jax.trials.run import open_run
from grasp_jax.workdir import DATA_FILE, claim
from tests.banks import NUM_ITEMS, WORDS, shop
from tests.refusal import assert_names, refusal

ROWS = np.arange(NUM_ITEMS)


def texts(day: int, column: str = "description") -> SourceTexts:
    """The shop's texts; another day has others."""
    rng = np.random.default_rng(day)
    titles, descriptions = (
        [" ".join(rng.choice(WORDS, 4)) for _ in range(NUM_ITEMS)] for _ in range(2)
    )
    brands = [f"brand {row % 3}" for row in range(NUM_ITEMS)]
    columns = {"title": titles, column: descriptions, "brand": brands}
    return SourceTexts(AttributeTable(np.arange(NUM_ITEMS), columns))


def make(
    folder: pathlib.Path, day: int, column: str = "description", **changes: Any
) -> KnowledgeBank:
    config = KnowledgeConfig().with_fields({"num_neighbours": 2, "width": 4, **changes})
    return prepare_bank(config, shop(), texts(day, column), folder)


def earlier_run(folder: pathlib.Path, bank: KnowledgeBank) -> Earlier:
    return Earlier(folder, {}, np.zeros(1), np.empty(0, str), {"bank": identity(bank.manifest)})


def named_in(message: str, flag: str) -> str:
    """The value that a message gives to a flag."""
    found = re.search(rf"{flag}=([^,; ]+)", message)
    assert found is not None, message
    return found[1]


@pytest.mark.parametrize("center", [True, False])
def test_a_bank_that_was_made_without_since_is_refused_with_it(
    tmp_path: pathlib.Path, center: bool
) -> None:
    """The flag would do nothing, the vectors of two days not be comparable, and the remedy of train.start_from lead to itself."""
    monday, today = tmp_path / "monday" / "knowledge", tmp_path / "today" / "knowledge"
    of_monday = make(monday, 1, center=center)
    earlier, since = earlier_run(monday.parent, of_monday), str(monday.parent)
    anew = make(today, 2, center=center)
    message = refusal(check_basis, earlier, anew, [monday], ROWS)
    assert_names(message, ("other vectors", f"move {today} away", "train from nothing"))
    since = named_in(message, "--since")
    refused = refusal(make, today, 2, center=center, since=since)
    assert_names(refused, ("--since", "made without --since", f"move {today} away", "--workdir"))
    shutil.move(today, tmp_path / "away")
    continued = make(today, 2, center=center, since=since)
    check_basis(earlier, continued, [monday], ROWS)

    for same in (since, str(monday.parent), f"{monday.parent}/../monday"):
        make(today, 2, center=center, since=same)
    other = make(tmp_path / "other", 3, center=center)
    assert_names(
        refusal(make, today, 2, center=center, since=str(tmp_path / "other")),
        (f"made with --since={since}", "not with", str(tmp_path / "other")),
    )
    assert other.width == continued.width
    make(today, 2, center=center)
    shutil.rmtree(monday.parent)
    make(today, 2, center=center, since=since)


def test_a_folder_without_an_earlier_bank_is_named(tmp_path: pathlib.Path) -> None:
    """A typing error would pass in silence where the bank exists, or be called a damaged manifest where it does not."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / SAVED_MODEL).touch()
    (tmp_path / "empty").mkdir()
    make(tmp_path / "bank", 1)
    for name, part in (
        ("nope", "there is no such folder"),
        ("model", "is a saved model"),
        ("empty", "holds no finished knowledge bank"),
    ):
        for folder in (tmp_path / "bank", tmp_path / "new"):
            message = refusal(make, folder, 1, since=str(tmp_path / name))
            assert_names(message, ("--since", str(tmp_path / name), part, "workdir"))
        config = KnowledgeConfig().with_fields({"width": 4, "since": str(tmp_path / name)})
        assert part in refusal(encode_bank, config, shop(), texts(1), tmp_path / "bank")
        message = refusal(make, tmp_path / "new", 1, centre_from=str(tmp_path / name))
        assert_names(message, ("config.knowledge.centre_from", part))
    assert not (tmp_path / "new").exists()


def test_only_items_with_the_same_text_are_compared(tmp_path: pathlib.Path) -> None:
    """A shop that rewrites most titles would be told that its encoder has changed."""
    vectors = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    same, hashes = np.arange(10) < 3, np.arange(20, dtype=np.uint64).reshape(10, 2)
    banks = []
    for day, turned in (("monday", False), ("today", True)):
        items = np.where(same[:, None] | ~np.array(turned), vectors, -vectors)
        tables = {name: items for name in TABLES}
        tables["items_texts"] = np.where(same[:, None], hashes, hashes + np.uint64(turned))
        recipe = {"encoder": "openai", "item_texts": day}
        save_bank(tmp_path / day, tables, recipe, {})
        banks.append(load_bank(tmp_path / day, recipe))
    check_basis(earlier_run(tmp_path, banks[0]), banks[1], [tmp_path / "monday"], np.arange(10))
    of_none = np.where(same, -1, np.arange(10))  # no common item has the same text
    message = refusal(
        check_basis, earlier_run(tmp_path, banks[0]), banks[1], [tmp_path / "monday"], of_none
    )
    assert_names(message, ("other vectors", "cosine -1.00", "train from nothing"))


def test_a_renamed_column_leads_to_no_circle(tmp_path: pathlib.Path) -> None:
    """With --since the remedy would be to leave it out, and without it to add it."""
    monday, today = tmp_path / "monday" / "knowledge", tmp_path / "today" / "knowledge"
    of_monday = make(monday, 1)
    message = refusal(make, today, 2, "descr", since=str(monday))
    assert_names(message, ("text_columns=['description', 'brand']", "needs ['descr', 'brand']"))
    assert_names(message, ("renamed", "its earlier name", "train from nothing"))
    assert_names(message, ("without --since", "without config.train.start_from"))
    anew = make(today, 2, "descr")
    message = refusal(check_basis, earlier_run(monday.parent, of_monday), anew, [monday], ROWS)
    assert_names(message, ("text_columns=['description', 'brand']", "today's ['descr', 'brand']"))
    assert_names(message, ("renamed", "train from nothing, without train.start_from and --since"))


def test_the_folder_of_an_earlier_run_is_checked_first(tmp_path: pathlib.Path) -> None:
    """The data would be read and texts encoded first, and then the bank of a folder that never was a workdir be called gone."""
    fields = {"model.method": "grasp_plus,popularity", "data.path": str(tmp_path / "not read")}
    config, opened = Config().with_fields(fields), functools.partial(open_run, makes=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / SAVED_MODEL).touch()
    (tmp_path / "other" / "checkpoints" / "plain-sasrec").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name, part in (
        ("nope", "there is no such folder"),
        ("model", "is a saved model"),
        ("other", "holds models of plain-sasrec only"),
        ("empty", "holds no trained model"),
    ):
        named = str(tmp_path / name)
        message = refusal(opened, config.with_fields({"train.start_from": named}), tmp_path / "run")
        assert_names(message, ("config.train.start_from", named, part, "grasp_plus-sasrec"))
    for name in ("nope", "model", "empty"):
        named = str(tmp_path / name)
        message = refusal(opened, config.with_fields({"knowledge.since": named}), tmp_path / "run")
        assert_names(message, ("--since", named, "workdir of an earlier day"))
    assert not (tmp_path / "run").exists()

    gone = config.with_fields({"train.start_from": str(tmp_path / "nope")})
    models = tmp_path / "run" / "checkpoints" / "grasp_plus-sasrec" / "last"
    models.mkdir(parents=True)  # as a refused call leaves it
    assert "no such folder" in refusal(opened, gone, tmp_path / "run")
    assert "not read" in refusal(open_run, gone, tmp_path / "run")  # such as `Recommender.load`
    (models / "3").mkdir()  # a model that trains does not need the earlier day any more
    assert "not read" in refusal(opened, gone, tmp_path / "run")

    make(tmp_path / "run" / "knowledge", 1)
    make(tmp_path / "monday" / "knowledge", 2)
    since = config.with_fields({"knowledge.since": str(tmp_path / "monday")})
    assert "made without --since" in refusal(opened, since, tmp_path / "run")
    (tmp_path / "run" / DATA_FILE).touch()  # a refresh may set the bank aside
    assert "not read" in refusal(opened, since, tmp_path / "run", refresh=True)


def test_a_refresh_needs_the_earlier_day_only_for_other_data(tmp_path: pathlib.Path) -> None:
    """A call that is repeated would ask for a folder that nothing needs any more; a first one would set the run aside and then fail."""
    workdir, data = tmp_path / "run", Dataset.synthetic(num_users=100, num_items=100)
    later = Dataset.synthetic(num_users=101, num_items=100)
    fields = {"model.method": "plain", "train.start_from": "nope", "eval.num_negatives": 10}
    config = Config().with_fields(fields)
    claim(workdir, config, data.log)
    (workdir / "checkpoints" / "plain-sasrec" / "last" / "3").mkdir(parents=True)
    refresh = functools.partial(open_run, config, workdir, refresh=True, makes=True)
    refresh(dataset=data)
    assert "no such folder" in refusal(refresh, dataset=later)
    assert (workdir / "checkpoints").is_dir()


def test_a_bank_outlives_what_becomes_of_the_earlier_day(tmp_path: pathlib.Path) -> None:
    """A finished run could not be opened once the earlier workdir was refreshed, and the advice was to move its bank away."""
    monday, today = tmp_path / "monday" / "knowledge", tmp_path / "today"
    make(monday, 1)
    make(today, 2, since=str(monday.parent))
    shutil.rmtree(monday)
    make(monday, 3)
    for same in (monday, monday.parent):
        make(today, 2, since=str(same))
    (monday / MANIFEST).write_text("damaged")
    make(today, 2, since=str(monday.parent))


def log_of(days: range) -> InteractionLog:
    """Ten users, each with an interaction on each day."""
    users, times = np.repeat(np.arange(10), len(days)), np.tile(np.array(days), 10)
    log = build_log("shop", users, times % 7, times * 86_400 + 1_700_000_000)
    assert log.timestamps is not None
    return log


def test_lost_interactions_are_warned_of(tmp_path: pathlib.Path) -> None:
    """A file that was cut off would be trained on every night without a word, where the earlier day knows better."""
    monday = str(tmp_path / "monday")
    claim(tmp_path / "monday", Config(), log_of(range(100)))
    start = Config().with_fields({"train.start_from": monday})
    since = Config().with_fields({"knowledge.since": monday})
    both = Config().with_fields({"train.start_from": monday, "knowledge.since": monday})
    for config in (start, since, both):
        cut = warnings_of_missing_interactions(config, log_of(range(50)))
        assert len(cut) == 2
        assert_names(cut[0], ("50 % fewer interactions", monday, "1,000 then, 500 now", "complete"))
        assert "the newest interaction is of" in cut[1] and monday in cut[1]
    assert warnings_of_missing_interactions(Config(), log_of(range(50))) == []
    for fine in (range(101), range(3, 101), range(2, 100)):  # more, and windows that move
        assert warnings_of_missing_interactions(start, log_of(fine)) == []
    assert len(warnings_of_missing_interactions(start, log_of(range(40, 101)))) == 1
    assert len(warnings_of_missing_interactions(start, log_of(range(99)))) == 1

    written = read_sealed(tmp_path / "monday" / DATA_FILE, "")
    for name in ("newest", "time_unit"):  # earlier versions wrote no times
        del written[name]
    write_sealed(tmp_path / "monday" / DATA_FILE, written)
    assert warnings_of_missing_interactions(start, log_of(range(99))) == []
    bank = tmp_path / "monday" / "knowledge"
    bank.mkdir()
    (bank / MANIFEST).touch()
    of_bank = Config().with_fields({"knowledge.since": str(bank)})
    assert len(warnings_of_missing_interactions(of_bank, log_of(range(50)))) == 1
    for other in ("nope", str(tmp_path)):  # such as a bank, which does not know the data's size
        assert (
            warnings_of_missing_interactions(
                Config().with_fields({"knowledge.since": other}), log_of(range(9))
            )
            == []
        )
