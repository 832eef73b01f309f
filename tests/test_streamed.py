"""Tables read block by block, compared with the same tables read whole; and the encoding of their ids."""

import dataclasses
import gzip
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_jax.data import dictionary, streamed, table_files
from grasp_jax.data import encoded as encoding
from grasp_jax.data.columns import DEFAULTS
from grasp_jax.data.dictionary import Encoder
from grasp_jax.data.encoded import encoded, grouped, stable_order
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.read_report import ReadReport
from tests.logs import read_interactions
from tests.refusal import refusal

Read = tuple[InteractionLog, ReadReport]


def read(path: pathlib.Path, min_rating: float = 0.0) -> Read:
    return read_interactions(path, "log", DEFAULTS, min_rating)


def same(ours: Read, expected: Read) -> None:
    """Logs to the bit, and what is said of them."""
    for field in dataclasses.fields(InteractionLog):
        own, other = (getattr(log, field.name) for log in (ours[0], expected[0]))
        assert np.array_equal(own, other) if isinstance(own, np.ndarray) else own == other, field
        assert not isinstance(own, np.ndarray) or own.dtype == other.dtype, field.name
    assert ours[1] == expected[1]


def rows_of(count: int, user: str, item: str, time: str) -> list[str]:
    """Lines of values that are functions of a random number each."""
    rng = np.random.default_rng(3)
    columns = (
        rng.integers(0, 40, count),
        rng.integers(0, 90, count),
        rng.integers(0, 10**6, count),
    )
    return [
        f"{user.format(u)},{item.format(i)},{time.format(1_300_000_000 + t)},{i % 5 + 1}"
        for u, i, t in zip(*columns, strict=True)
    ]


PLAIN = rows_of(3000, "u{:03d}", "B0{:08d}", "{}")
DATES = [f"u{k % 7},i{k % 11},2024-01-{k % 28 + 1:02d},3" for k in range(3000)]
CASES = {  # rows, whether they are read a block at a time to the end
    "texts": (PLAIN, True),
    "whole numbers": (rows_of(3000, "{}", "{}", "{}"), True),
    "leading zeros": (rows_of(3000, "{:04d}", "{}", "{}"), True),
    "blanks": ([f" {line}  " for line in PLAIN], True),
    "dates": (DATES, True),
    "a date after numbers": ([*PLAIN, "u001,B01,2024-01-01,3"], False),
    "an odd number": ([*PLAIN, "u001,B01,0x10,3"], False),
    "quoted in the end": ([*PLAIN, '"u,001","B 01",1300000000,3'], True),
    "a line break within quotes": ([*PLAIN[:9], 'u001,B01,1300000000,"3\n"', *PLAIN], True),
    "no newline at the end": ([*PLAIN, "u001,B01,1300000000,3"], True),
    "an id called as its column": ([*PLAIN, "user,B01,1300000000,3", "u1,item,1300000000,3"], True),
}


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_give_what_the_whole_gives(
    case: str, packing: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log would be another one by how it is read: many blocks, ids encoded in several turns, every kind of row."""
    lines, passes = CASES[case]
    content = "\n".join(["user,item,timestamp,rating", *lines]).encode()
    content += b"" if case == "no newline at the end" else b"\n"
    path = tmp_path / f"interactions.csv{packing}"
    packed = {
        "": lambda: content,
        ".gz": lambda: gzip.compress(content),
        ".zst": lambda: pa.Codec("zstd").compress(content, asbytes=True),
    }
    path.write_bytes(packed[packing]())
    monkeypatch.setattr(streamed, "BLOCK", 4096)
    monkeypatch.setattr(dictionary, "PENDING", 500)
    found = []
    stream = streamed.stream_delimited
    monkeypatch.setattr(
        table_files, "stream_delimited", lambda *given: found.append(stream(*given)) or found[-1]
    )
    outcomes = []
    for bound in (0.0, 3.0):
        outcomes.append(outcome(path, bound))
    assert found
    assert all(table is not None for table in found) or case.startswith(
        ("an id", "a date", "an odd")
    )
    monkeypatch.setattr(table_files, "stream_delimited", lambda *given: None)
    for bound, ours in zip((0.0, 3.0), outcomes, strict=True):
        whole = outcome(path, bound)
        if passes:
            assert not isinstance(whole, str), whole
            same(ours, whole)
        else:
            assert isinstance(whole, str) and ours == whole


def outcome(path: pathlib.Path, min_rating: float) -> Read | str:
    """What is read, or the message of the refusal."""
    try:
        return read(path, min_rating)
    except Exception:
        return refusal(read, path, min_rating)


def test_partitions_by_folder_are_columns(tmp_path: pathlib.Path) -> None:
    """Would break with data sets of Hive and Spark: the day, or the shop, is in the folder's name alone."""
    root = tmp_path / "interactions.parquet"
    for day, users in (("20240101", ["b", "a"]), ("20240102", ["a", "c"])):
        part = root / f"timestamp={day}"
        part.mkdir(parents=True)
        parquet.write_table(pa.table({"user": users, "item": ["x", "y"]}), part / "0.parquet")
    log, report = read(root)
    assert log.user_ids.tolist() == ["a", "b", "c"] and log.timestamps is not None
    assert log.timestamps.tolist() == [20240101, 20240102, 20240101, 20240102]
    assert [log.item_ids[item] for item in log.items] == ["y", "x", "x", "y"]
    assert "2 parts" in report.files[0]


@pytest.mark.parametrize("kind", ["texts", "numbers", "categories"])
def test_parquet_in_batches_is_the_whole(
    kind: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log would be another one by how it is read, or columns of other types be lost."""
    numbers = np.random.default_rng(0).integers(0, 50, 4000)
    users = {
        "texts": pa.array([f"u{n}" for n in numbers]),
        "numbers": pa.array(numbers),
        "categories": pa.array([f"u{n}" for n in numbers]).dictionary_encode(),
    }[kind]
    times = pa.array(1_700_000_000 + numbers[::-1], pa.timestamp("s"))
    columns = {"user": users, "item": pa.array(numbers % 7), "timestamp": times}
    columns["price"] = pa.array([None] * 4000, pa.float64())
    path = tmp_path / "interactions.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=700)
    monkeypatch.setattr(streamed, "ROWS", 300)
    monkeypatch.setattr(dictionary, "PENDING", 500)
    ours = read(path)
    monkeypatch.setattr(table_files, "stream_parquet", lambda *given: None)
    same(ours, read(path))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from(["", "a", "b", "ä", "long" * 9]), max_size=9), max_size=6))
def test_pieces_are_encoded_as_one(pieces: list[list[str]]) -> None:
    """Would break every id: a code of an early piece would mean another value later."""
    before, dictionary.PENDING = dictionary.PENDING, 4
    try:
        encoder = Encoder()
        for piece in pieces:
            encoder.add(pa.array(piece, pa.binary()))
        if not pieces:
            encoder.add(pa.array([], pa.binary()))
        codes, values = encoder.finish()
    finally:
        dictionary.PENDING = before
    every = [value.encode() for piece in pieces for value in piece]
    assert [values[code].as_py() for code in codes.tolist()] == every
    assert values.to_pylist() == list(dict.fromkeys(every))


@pytest.mark.parametrize("kind", ["binary", "string", "large_binary", "large_string"])
@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 17])
def test_texts_of_one_width_are_encoded_as_others(
    width: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that differ only in their first or last letters would become one, or codes stand for other ids than Arrow's own."""
    monkeypatch.setattr(dictionary, "PENDING", 100)
    rng = np.random.default_rng(width)
    ids = ["".join("ab\x00"[k] for k in rng.integers(0, 3, width)) for _ in range(40)]
    ids += [name[:-1] + "z" for name in ids[:9]] + ["z" + name[1:] for name in ids[:9]]
    sizes = (250, 0, 99, 1, 180)
    pieces = [[ids[k] for k in rng.integers(0, len(ids), size)] for size in sizes]
    pieces.append(["another width"] * (width % 2) + pieces[0])
    encoder, of_type, fixed = Encoder(), getattr(pa, kind)(), dictionary.encoded_fixed
    used: list[int] = []
    monkeypatch.setattr(
        dictionary, "encoded_fixed", lambda *given: (used.append(1), fixed(*given))[1]
    )
    for piece in pieces:
        encoder.add(pa.array(["cut off", *piece], of_type).slice(1))
    codes, values = encoder.finish()
    every = [name for piece in pieces for name in piece]
    expected = pa.array(every, of_type).dictionary_encode()
    assert codes.tolist() == expected.indices.to_pylist() and codes.dtype == np.int32
    assert values.type == of_type and values.equals(expected.dictionary)
    assert bool(used) == (width <= dictionary.WIDEST)


@pytest.mark.parametrize("many", [0, 1 << 20])
@pytest.mark.parametrize("count", [1, 7, 5000])
def test_codes_are_counted_in_their_order(
    count: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories would be out of order, or belong to other users."""
    monkeypatch.setattr(encoding, "MANY", many)
    codes = np.random.default_rng(count).integers(0, count, 3000).astype(np.int32)
    order, offsets = grouped(codes, count)
    assert np.array_equal(order, np.argsort(codes, kind="stable")) and offsets.dtype == np.int64
    assert offsets.tolist() == [0, *np.cumsum(np.bincount(codes, minlength=count)).tolist()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([0, 1, 5, -3, 2**62, -(2**62), 7]), min_size=1, max_size=50))
def test_one_sort_of_words_is_a_stable_one(values: list[int]) -> None:
    """Histories would be out of order, or wrong where numbers and places do not fit a word together."""
    array = np.array(values)
    assert np.array_equal(stable_order(array), np.argsort(array, kind="stable"))
    ids, codes = np.unique(array, return_inverse=True)
    assert np.array_equal(encoded(array).ids, ids) and np.array_equal(encoded(array).codes, codes)
    rows = np.flatnonzero(array > 0)
    some = encoded(array).select(rows)
    assert np.array_equal(some.ids, np.unique(array[rows]))
    assert np.array_equal(some.decode(slice(None)), array[rows])
