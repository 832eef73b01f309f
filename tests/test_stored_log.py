"""The stored log: equal to the bit, mapped into memory, never used if anything differs, and never a reason for a run to fail."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from grasp_jax.config import Config
from grasp_jax.core.locks import only_one
from grasp_jax.data import log_source, sources, stored_log
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.stored_log import ARRAYS, MANIFEST
from grasp_jax.trials.run import open_run
from grasp_jax.workdir import STORED_LOG
from tests.command_line import write_dataset
from tests.refusal import assert_names, refusal
from tests.test_workdir import call, config_of, flip, rows

ROWS = {
    "user": ["b", "a", "a", "a", "\u00fc", "b", "a", "b"],
    "item": ["x", "y", "z", "x", "x", "w", "w", "z"],
    "timestamp": [3, 2, 1, 2, 5, 4, 2, 3],
    "rating": [5.0, 4.0, 1.0, 3.0, 5.0, 5.0, 4.0, 2.0],
}
OPTIONS: dict[str, Any] = {"min_rating": 2.0, "ties": "shuffle", "items_file": "items.csv"}


@pytest.fixture
def shop(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with interactions, one of them rated low, ties, and a table of items."""
    folder = tmp_path / "shop"
    folder.mkdir()
    pd.DataFrame(ROWS).to_csv(folder / "interactions.csv", index=False)
    titles = {"item": ["z", "y", "x", "w", "v"], "title": ["Soap", "Salt", "Oil", "Wax", "Tea"]}
    pd.DataFrame(titles).to_csv(folder / "items.csv", index=False)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[pathlib.Path]:
    """Every file that the reader of interactions has opened."""
    opened: list[pathlib.Path] = []
    whole = sources.read_interactions

    def counted(path: pathlib.Path, *arguments: Any) -> Any:
        opened.append(path)
        return whole(path, *arguments)

    monkeypatch.setattr(sources, "read_interactions", counted)
    return opened


def read(shop: pathlib.Path, **options: Any) -> Dataset:
    return Dataset.read(shop, store=str(shop.parent / "store"), **{**OPTIONS, **options})


def assert_same(found: Dataset, expected: Dataset) -> None:
    """Equal to the bit, with types, texts and whatever is told of it."""
    for name in ARRAYS:
        one, other = getattr(found.log, name), getattr(expected.log, name)
        assert (one is None) == (other is None)
        if other is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    assert found.fingerprint == expected.fingerprint
    assert (found.name, found.log.time_unit) == (expected.name, expected.log.time_unit)
    assert found.report == expected.report and found.titles == expected.titles


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_rating": 0.0, "items_file": "", "ties": "file"},
        {"columns": {"timestamp": ""}, "ties": "file"},
    ],
    ids=("all arrays", "nothing left out", "no times"),
)
def test_a_stored_log_is_the_log(
    shop: pathlib.Path,
    reads: list[pathlib.Path],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    """A model would be trained on other data than were read, or every call would read everything again."""
    expected = Dataset.read(shop, **{**OPTIONS, **options})
    reads.clear()
    assert_same(read(shop, **options), expected)
    assert len(reads) == 1
    with caplog.at_level(logging.INFO, logger="grasp_jax"):
        found = read(shop, **options)
    assert_same(found, expected)
    assert len(reads) == 1, "the source is not read, only compared"
    assert caplog.messages[-1].startswith(
        f"Read {found.log.num_interactions} interactions from the stored log ("
    ) and caplog.messages[-1].endswith("source files unchanged.")
    assert isinstance(found.log.items.base, np.memmap), "processes of a host would not share it"
    assert type(found.log.items[:2]) is np.ndarray


def test_the_name_of_the_data_is_the_calls(shop: pathlib.Path, reads: list[pathlib.Path]) -> None:
    """Two workdirs that share a store would have each other's name in their tables."""
    read(shop, name="one")
    assert read(shop, name="two").name == "two" and len(reads) == 1


def add_row(shop: pathlib.Path) -> None:
    with (shop / "interactions.csv").open("a") as file:
        file.write("a,v,9,5.0\n")


def other_row(shop: pathlib.Path) -> None:
    """As many bytes, and the time of the last change as before."""
    path = shop / "interactions.csv"
    before, text = path.stat(), path.read_text(encoding="utf-8")
    path.write_text(text.replace("b,x,3", "b,y,3"), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def other_items(shop: pathlib.Path) -> None:
    path = shop / "items.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *reversed(lines[1:])]))


def flip_array(shop: pathlib.Path) -> None:
    flip(next((shop.parent / "store").glob("log-*-items.npy")), 1.0)


def lose_array(shop: pathlib.Path) -> None:
    next((shop.parent / "store").glob("log-*-offsets.npy")).unlink()


def flip_manifest(shop: pathlib.Path) -> None:
    flip(shop.parent / "store" / MANIFEST)


def later_format(shop: pathlib.Path) -> None:
    path = shop.parent / "store" / MANIFEST
    stored_log.write_sealed(path, {"format": 99})


def nothing(shop: pathlib.Path) -> None:
    """The file stays; the call differs."""


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (add_row, {}, "the source file interactions.csv changed"),
        (other_row, {}, "the source file interactions.csv changed"),
        (other_items, {}, "the items table's ids"),
        (nothing, {"min_rating": 4.5}, "config.data.min_rating (2.0 then, 4.5 now)"),
        (nothing, {"bad_rows": "skip"}, "config.data.bad_rows ('refuse' then, 'skip' now)"),
        (nothing, {"ties": "file"}, "config.data.ties ('shuffle' then, 'file' now)"),
        (nothing, {"ties_seed": 1}, "config.data.ties_seed (0 then, 1 now)"),
        (
            nothing,
            {"columns": {"timestamp": ""}, "ties": "file"},
            "config.data.columns.timestamp ('timestamp' then, '' now)",
        ),
        (flip_array, {}, "is damaged"),
        (lose_array, {}, "is missing"),
        (flip_manifest, {}, "is damaged"),
        (later_format, {}, "has format 99"),
    ],
)
def test_what_does_not_fit_is_read_and_stored_again(
    shop: pathlib.Path,
    reads: list[pathlib.Path],
    caplog: pytest.LogCaptureFixture,
    change: Callable[[pathlib.Path], None],
    options: dict[str, Any],
    why: str,
) -> None:
    """A changed file, another field or a flipped bit would give yesterday's log, and no word of it."""
    read(shop)
    change(shop)
    expected = Dataset.read(shop, **{**OPTIONS, **options})
    reads.clear()
    with caplog.at_level(logging.INFO, logger="grasp_jax"):
        assert_same(read(shop, **options), expected)
    assert len(reads) == 1
    told = [message for message in caplog.messages if "read again" in message]
    assert len(told) == 1 and why in told[0], caplog.messages
    assert_same(read(shop, **options), expected)
    assert len(reads) == 1, "it was not stored again"
    stored = json.loads((shop.parent / "store" / MANIFEST).read_text(encoding="utf-8"))
    named = {held["file"] for held in stored["arrays"].values()}
    there = {path.name for path in (shop.parent / "store").iterdir()}
    assert there == named | {MANIFEST}, "what was replaced stays on the disk"


def test_another_version_reads_again(
    shop: pathlib.Path, reads: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of a reader would live on in the stored log after it was mended."""
    read(shop)
    monkeypatch.setattr(log_source, "_code_fingerprint", lambda: "mended")
    read(shop)
    assert len(reads) == 2


def test_a_part_that_comes_is_noticed(tmp_path: pathlib.Path, reads: list[pathlib.Path]) -> None:
    """A day that a job adds to a folder of parts would be missing from every later run."""
    parts = tmp_path / "interactions.parquet"
    parts.mkdir()
    pd.DataFrame(ROWS).to_parquet(parts / "one.parquet")
    folder = str(tmp_path / "store")
    assert Dataset.read(parts, store=folder).log.num_interactions == 8
    assert Dataset.read(parts, store=folder).log.num_interactions == 8 and len(reads) == 1
    pd.DataFrame(ROWS).to_parquet(parts / "two.parquet")
    assert Dataset.read(parts, store=folder).log.num_interactions == 16
    (parts / "one.parquet").unlink()
    assert Dataset.read(parts, store=folder).log.num_interactions == 8
    within = refusal(Dataset.read, parts, store=str(parts / "store"))
    assert_names(within, ("config.data.store", str(parts / "store"), "expected a folder outside"))


def test_a_change_behind_a_symbolic_link_is_noticed(
    tmp_path: pathlib.Path, reads: list[pathlib.Path]
) -> None:
    """A partition that is a link to another disk would never be compared, and every later run would lack its new rows."""
    parts, elsewhere = tmp_path / "interactions.parquet", tmp_path / "elsewhere"
    for folder in (parts, elsewhere):
        folder.mkdir()
        pd.DataFrame(ROWS).to_parquet(folder / "one.parquet")
    (parts / "day=1").symlink_to(elsewhere)
    store = str(tmp_path / "store")
    assert Dataset.read(parts, store=store).log.num_interactions == 16
    assert Dataset.read(parts, store=store).log.num_interactions == 16 and len(reads) == 1
    pd.DataFrame(ROWS).to_parquet(elsewhere / "two.parquet")
    assert Dataset.read(parts, store=store).log.num_interactions == 24


def test_only_files_that_are_read_decide_whether_a_log_is_used(
    tmp_path: pathlib.Path, reads: list[pathlib.Path]
) -> None:
    """A job that writes a hidden file next to the parts would have millions of rows read again; or a stored log would hide from the user
    that the folder is refused now.
    """
    parts, store = tmp_path / "interactions.parquet", str(tmp_path / "store")
    parts.mkdir()
    pd.DataFrame(ROWS).to_parquet(parts / "one.parquet")
    assert Dataset.read(parts, store=store).log.num_interactions == 8
    (parts / "_delta_log").mkdir()
    for hidden in ("_delta_log/1.json", ".one.parquet.crc", os.fsdecode(b"_notes-\xff")):
        (parts / hidden).write_text("{}")
    assert Dataset.read(parts, store=store).log.num_interactions == 8 and len(reads) == 1
    (parts / "notes.txt").touch()
    assert_names(refusal(Dataset.read, parts, store=store), ("notes.txt", "not a part"))


def test_a_file_that_goes_while_it_is_read_costs_the_store_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that renames its temporary file would end a run with a traceback."""
    parts = tmp_path / "interactions.parquet"
    parts.mkdir()
    pd.DataFrame(ROWS).to_parquet(parts / "one.parquet")
    found = log_source.LogSource.files.fget
    assert found is not None
    with_gone = property(lambda self: found(self) | {"_gone": self.path / "_gone"})
    monkeypatch.setattr(log_source.LogSource, "files", with_gone)
    assert Dataset.read(parts, store=str(tmp_path / "store")).log.num_interactions == 8
    assert "the log was not stored" in caplog.messages[-1]


def test_files_of_others_in_the_folder_stay(shop: pathlib.Path) -> None:
    """`log.json` is a usual name: the log of another program would be overwritten, and its lock removed."""
    folder = shop.parent / "store"
    folder.mkdir()
    theirs = [folder / "log.json", folder / "log.lock"]
    for path in theirs:
        path.write_text("theirs")
        os.utime(path, (1, 1))
    read(shop)
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]


def test_a_stored_log_may_be_read_only(
    shop: pathlib.Path, reads: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colleagues who may read a store, and not write it, would be refused."""
    expected = read(shop)
    monkeypatch.setattr("grasp_jax.core.paths.os.access", lambda *_: False)
    assert_same(read(shop), expected)
    assert len(reads) == 1
    refused = refusal(Dataset.read, shop, store=str(shop.parent / "new"))
    assert_names(refused, ("config.data.store", "cannot be written"))


def test_data_that_are_no_files_say_that_they_are_not_stored(tmp_path: pathlib.Path) -> None:
    """A store that is named and not used would be waited for in vain."""
    store = str(tmp_path / "store")
    shop = Dataset.synthetic(50, 120, store=store)
    assert f"config.data.store={store} is not used" in shop.report.notes[-1]
    assert not Dataset.synthetic(50, 120, store="off").report.notes


def test_a_file_that_changes_while_it_is_read_is_not_stored(
    shop: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fingerprint would be of the whole file, and the log of the half that was there."""
    whole = sources.read_interactions

    def grows(path: pathlib.Path, *arguments: Any) -> Any:
        found = whole(path, *arguments)
        add_row(shop)
        return found

    monkeypatch.setattr(sources, "read_interactions", grows)
    assert read(shop).log.num_interactions == 7
    assert "changed while it was read" in caplog.messages[-1]
    assert not (shop.parent / "store" / MANIFEST).exists()


@pytest.mark.parametrize("failing", ["write_array", "write_sealed"])
def test_a_full_disk_costs_the_store_alone(
    shop: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: str,
) -> None:
    """A run would end for want of room for what it does not need, or leave gigabytes that nothing reads."""
    mine = shop.parent / "store" / "log-20261129-items.npy"
    mine.parent.mkdir()
    mine.write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_log, failing, full)
    expected = Dataset.read(shop, **OPTIONS)
    assert_same(read(shop), expected)
    assert len(caplog.messages) == 1
    assert_names(caplog.messages[0], ("No space left", "config.data.store", str(mine.parent)))
    assert list(mine.parent.iterdir()) == [mine]
    monkeypatch.undo()
    read(shop)
    assert mine.read_text() == "mine", "files of the user in that folder stay"


def test_a_folder_that_cannot_be_made_costs_the_store_alone(
    shop: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A workdir on a disk that is mounted read-only would not be served any more."""
    (shop.parent / "store").symlink_to("/proc/nowhere")
    assert read(shop).log.num_interactions == 7
    assert "the log was not stored" in caplog.messages[-1]


def test_one_process_stores_and_the_others_do_not_wait(
    shop: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes that start at once would write one folder, or the second would be refused."""
    with (
        only_one(shop.parent / "store" / stored_log.LOCK, "it stores"),
        caplog.at_level(logging.INFO, logger="grasp_jax"),
    ):
        assert read(shop).log.num_interactions == 7
    assert_names(
        caplog.messages[-1], ("the log was not stored", stored_log.LOCK, "it stores the log")
    )
    assert not (shop.parent / "store" / MANIFEST).exists()


def test_a_lock_that_cannot_be_read_is_no_other_process(
    shop: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log would be read anew at every call, and the reader be told to wait for a process that there is not."""
    (shop.parent / "store" / stored_log.LOCK).mkdir(parents=True)
    with caplog.at_level(logging.INFO, logger="grasp_jax"):
        assert read(shop).log.num_interactions == 7
    assert_names(caplog.messages[-1], ("the log was not stored", stored_log.LOCK, "not readable"))


def test_what_a_killed_process_left_is_removed(shop: pathlib.Path) -> None:
    """Gigabytes of arrays that no description names would stay for ever."""
    folder = shop.parent / "store"
    folder.mkdir()
    label = 4 * "0123abcd"
    left = [
        folder / f"log-{label}-items.npy",
        folder / f".log-{label}-user_ids.npy.12-34abcdef.partial",
    ]
    for path in left:
        path.write_text("half")
    read(shop)
    assert not any(path.exists() for path in left)


def opened(config: Config, workdir: pathlib.Path, **options: Any) -> InteractionLog:
    return open_run(config, workdir, **options).dataset.log


def test_a_workdir_keeps_its_own_large_log(
    tmp_path: pathlib.Path, reads: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small runs would store what they read in no time, or a refused call would replace the log of the workdir."""
    data, workdir = write_dataset(tmp_path / "data"), tmp_path / "run"
    config = config_of(data)
    call("train", config, workdir)
    assert not (workdir / STORED_LOG).exists(), "a small log"
    monkeypatch.setattr("grasp_jax.workdir.AUTO_FROM", 100)
    off = config.with_fields({"data.store": "off"})
    opened(off, workdir)
    assert not (workdir / STORED_LOG).exists(), "off"
    opened(config, workdir)
    reads.clear()
    opened(config, workdir)
    assert reads == []
    assert opened(off, workdir).num_interactions and len(reads) == 1, "off reads the source"
    whole = (data / "inter.txt").read_text()
    (data / "inter.txt").write_text(f"{whole}3 7\n")
    stored = (workdir / STORED_LOG / MANIFEST).read_bytes()
    assert_names(refusal(open_run, config, workdir), ("the data has changed", "--mode=refresh"))
    assert (workdir / STORED_LOG / MANIFEST).read_bytes() == stored
    opened(config, workdir, refresh=True)
    reads.clear()
    opened(config, workdir)
    assert reads == [], "a refresh stores the new log"


def test_results_do_not_depend_on_the_store(tmp_path: pathlib.Path) -> None:
    """Models on mapped arrays would differ, or something would write into the log."""
    data, store = write_dataset(tmp_path / "data"), str(tmp_path / "store")
    method = {"model__method": "grasp"}  # reads all that plain reads, and users' vectors
    call("all", config_of(data, data__store="off", **method), tmp_path / "off")
    opened(config_of(data, data__store=store, **method), tmp_path / "stores")
    call("all", config_of(data, data__store=store, **method), tmp_path / "mapped")
    assert rows(tmp_path / "mapped") == rows(tmp_path / "off")
    call("recommend", config_of(data, data__store=store, **method), tmp_path / "mapped")
    call("recommend", config_of(data, **method), tmp_path / "off")
    answers = [
        pd.read_parquet(tmp_path / name / "recommendations.parquet") for name in ("mapped", "off")
    ]
    pd.testing.assert_frame_equal(*answers)
    assert rows(tmp_path / "mapped")


def test_every_array_of_a_log_is_stored() -> None:
    """A field that is added to `InteractionLog` would be None in a stored log."""
    assert {field.name for field in dataclasses.fields(InteractionLog)} == {
        *ARRAYS,
        "name",
        "time_unit",
    }
