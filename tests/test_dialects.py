"""CSV, TSV, JSON lines and inter.txt as programs write them: the same log from each, or one line that names the row and the remedy."""

import gzip
import json
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.readers import find_interactions
from tests.logs import read_interactions, read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
RECBOLE = {
    "user": "user_id:token",
    "item": "item_id:token",
    "timestamp": "timestamp:float",
    "rating": "rating",
}
PLAIN = "user,item,timestamp\nu1,i5,3\nu1,i6,1\nu2,i5,2\n"

# name: (file name, content, columns, what is said of it)
DIALECTS = {
    "plain": ("log.csv", PLAIN, COLUMNS, ()),
    "bom": ("log.csv", "\ufeff" + PLAIN, COLUMNS, ()),
    "crlf": ("log.csv", PLAIN.replace("\n", "\r\n"), COLUMNS, ()),
    "old mac": ("log.csv", PLAIN.replace("\n", "\r"), COLUMNS, ()),
    "no last line end": ("log.csv", PLAIN.rstrip(), COLUMNS, ()),
    "blank lines": ("log.csv", "\n" + PLAIN.replace("\n", "\n\n"), COLUMNS, ()),
    "semicolons": ("log.csv", PLAIN.replace(",", ";"), COLUMNS, ("separated by ';'",)),
    "tabs in csv": ("log.csv", PLAIN.replace(",", "\t"), COLUMNS, ("separated by tabs",)),
    "commas in tsv": ("log.tsv", PLAIN, COLUMNS, ("separated by ','",)),
    "bars": ("log.csv", PLAIN.replace(",", "|"), COLUMNS, ("separated by '|'",)),
    "blanks": (
        "log.csv",
        PLAIN.replace(",", ", "),
        COLUMNS,
        ("blanks around column names", "blanks around the fields of column 'item'"),
    ),
    "trailing commas": (
        "log.csv",
        PLAIN.replace("\n", ",\n").replace("p,", "p"),
        COLUMNS,
        ("that the header lacks",),
    ),
    "trailing commas, header too": (
        "log.csv",
        PLAIN.replace("\n", ",\n"),
        COLUMNS,
        ("column 4 has no name",),
    ),
    "pandas index": (
        "log.csv",
        ",user,item,timestamp\n0,u1,i5,3\n1,u1,i6,1\n2,u2,i5,2\n",
        COLUMNS,
        ("column 1 has no name",),
    ),
    "quoted csv": (
        "log.csv",
        '"user","item","timestamp"\n"u1","i5","3"\n"u1","i6","1"\n"u2","i5","2"\n',
        COLUMNS,
        (),
    ),
    "R": (
        "log.tsv",
        '"user"\t"item"\t"timestamp"\n"u1"\t"i5"\t3\n"u1"\t"i6"\t1\n"u2"\t"i5"\t2\n',
        COLUMNS,
        ("no part of them",),
    ),
    "R, bare header": (
        "log.tsv",
        'user\titem\ttimestamp\n"u1"\t"i5"\t3\n"u1"\t"i6"\t1\n"u2"\t"i5"\t2\n',
        COLUMNS,
        ("no part of them",),
    ),
    "recbole": (
        "log.tsv",
        "user_id:token\titem_id:token\ttimestamp:float\nu1\ti5\t3\nu1\ti6\t1\nu2\ti5\t2\n",
        RECBOLE,
        (),
    ),
    "capitals": (
        "log.csv",
        PLAIN.replace("user", "User").replace("timestamp", "TIMESTAMP"),
        COLUMNS,
        ("'User' is read as 'user'",),
    ),
    "json": (
        "log.jsonl",
        "".join(
            json.dumps({"user": u, "item": i, "timestamp": t}) + "\r\n"
            for u, i, t in (("u1", "i5", 3), ("u1", "i6", 1), ("u2", "i5", 2))
        ),
        COLUMNS,
        (),
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_log(tmp_path: pathlib.Path, dialect: str) -> None:
    """Would break with quotes or blanks as part of ids, a column taken for another, or a change of reading that no one hears of."""
    name, content, columns, said = DIALECTS[dialect]
    (tmp_path / name).write_bytes(content.encode())
    log, report = read_interactions(tmp_path / name, "dialect", columns)
    assert log.user_ids.tolist() == ["u1", "u2"] and log.item_ids.tolist() == ["i5", "i6"]
    assert (
        log.items.tolist() == [1, 0, 0]
        and log.timestamps is not None
        and log.timestamps.tolist() == [1, 3, 2]
    )
    assert_names("; ".join(report.notes), said)
    assert bool(report.notes) == bool(said), report.notes


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_packed_files_and_parts(tmp_path: pathlib.Path, packing: str) -> None:
    """Would break with files as clusters write them: compressed, or a folder of parts."""
    for name, content in (
        ("interactions.csv", PLAIN),
        ("interactions.tsv", PLAIN.replace(",", "\t")),
        ("interactions.jsonl", DIALECTS["json"][1]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / f"{name}.{packing}"
        packed = (
            gzip.compress(content.encode())
            if packing == "gz"
            else pa.Codec("zstd").compress(content.encode(), asbytes=True)
        )
        path.write_bytes(packed)
        assert find_interactions(str(folder)) == path
        assert read_log(path, "packed", COLUMNS).items.tolist() == [1, 0, 0]
        path.write_bytes(packed[: len(packed) // 2])
        assert_names(refusal(read_log, path, "packed", COLUMNS), (str(path), "not a readable"))
    parts = tmp_path / "spark" / "interactions.parquet"
    parts.mkdir(parents=True)
    (parts / "_SUCCESS").write_bytes(b"")
    for part, rows in enumerate(([("u1", "i5", 3), ("u1", "i6", 1)], [("u2", "i5", 2)])):
        columns = dict(
            zip(("user", "item", "timestamp"), map(list, zip(*rows, strict=True)), strict=True)
        )
        parquet.write_table(pa.table(columns), parts / f"part-0000{part}.snappy.parquet")
    for given in (parts, parts.parent):
        assert find_interactions(str(given)) == parts
    log, report = read_interactions(parts, "spark", COLUMNS)
    assert log.items.tolist() == [1, 0, 0] and "2 parts" in report.files[0]
    (parts / "part-00001.snappy.parquet").write_bytes(b"PAR1")
    assert_names(
        refusal(read_log, parts, "spark", COLUMNS), (str(parts), "not a readable parquet table")
    )


FAULTS = {
    "joined files": (
        "log.csv",
        PLAIN.encode() * 2,
        ("row 4 is the header again", "drop that line"),
    ),
    "joined, quoted": (
        "log.csv",
        b'"user","item"\n"a","b"\n"user","item"\n',
        ("row 2 is the header again",),
    ),
    "joined tsv": (
        "log.tsv",
        b"user\titem\r\na\tb\r\nuser\titem\r\n",
        ("row 2 is the header again",),
    ),
    "no header": (
        "log.csv",
        b"1,6846,1318896000\n1,7873,1318896000\n",
        ("first row looks like data", "'1318896000'", "expected a header"),
    ),
    "no header, words": (
        "log.csv",
        b"u1,i6846,1318896000\nu1,i7873,1318896000\n",
        ("first row looks like data", "'1318896000'"),
    ),
    "other names": (
        "log.csv",
        b"person,thing\na,b\n",
        ("no column 'user'", "it has person, thing", "config.data.columns.user"),
    ),
    "latin1": (
        "log.csv",
        "user,item\nu,i\nMüller,i\n".encode("latin1"),
        ("row 2 has b'M\\xfcller' in", "save the file as UTF-8"),
    ),
    "latin1 header": (
        "log.csv",
        "user,item,größe\nu,i,1\n".encode("latin1"),
        ("the header has", "not UTF-8"),
    ),
    "utf-16": ("log.csv", PLAIN.encode("utf-16"), ("UTF-16", "save it as UTF-8")),
    "gzip by another name": ("log.csv", gzip.compress(PLAIN.encode()), ("compressed", ".csv.gz")),
    "R's row names": (
        "log.tsv",
        b'"user"\t"item"\n"1"\t"u1"\t"i5"\n',
        ("row 1 has 3 fields, the header 2", "row.names = FALSE"),
    ),
    "a value behind the last column": (
        "log.csv",
        b"user,item\na,b,\nc,d,5\n",
        ("row 2 has 3 fields, the header 2",),
    ),
    "open quotation mark": ("log.csv", b'user,item\n"a,b\nc,d\n', ("log.csv",)),
    "deep json": (
        "log.jsonl",
        b'{"user":1,"item":2}\n{"user":1,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n",
        ("row 2 is nested",),
    ),
    "key twice": (
        "log.jsonl",
        b'{"user":1,"item":2}\n{"user":"u","item":"i","item":"j"}\n',
        ("row 2 names 'item' twice", "drop one"),
    ),
    "json array": (
        "log.jsonl",
        b'[{"user":1,"item":2}]\n',
        ("row 1 is b'[{", "one JSON object a line"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: pathlib.Path, fault: str) -> None:
    """Would break with a user called "user", a crash of the JSON reader, or a message that names neither row nor remedy."""
    name, content, parts = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    assert_names(refusal(read_log, tmp_path / name, "bad", COLUMNS), (str(tmp_path / name), *parts))


def test_quotation_marks_inside_ids_stay(tmp_path: pathlib.Path) -> None:
    """Would break TSV ids that merely contain a quotation mark, as sizes in inches do."""
    path = tmp_path / "log.tsv"
    path.write_text('user\titem\nu1\t6" nail\nu2\t"quoted"\n')
    log, report = read_interactions(path, "quotes", COLUMNS)
    assert (
        log.item_ids.tolist() == ['"quoted"', '6" nail']
        and "kept as part of the id" in report.notes[0]
    )
    path.write_text('"user"\t"item"\n"u1"\t"6\\" nail"\n')
    assert read_log(path, "quotes", COLUMNS).item_ids.tolist() == ['6" nail'], (
        'R writes \\" for a mark within marks'
    )


PAIRS = {
    "bom": (b"\xef\xbb\xbf1 5\n1 6\n2 5\n", ()),
    "tabs": (b"1\t5\n1\t6\n2\t5\n", ()),
    "crlf": (b"1 5\r\n1 6\r\n2 5\r\n", ()),
    "header": (b"user item\n1 5\n", (":1: 'user item'", "a header has no place here")),
    "a list for each user": (
        b"1 5 6 7 8\n2 3 4\n",
        (":1: 5 columns in '1 5 6 7 8'", "an item each: '1 5', '1 6', ..."),
    ),
    "some lists": (
        b"1 5\n2 3\n1 7 8\n",
        (":3: 3 columns in '1 7 8'", "an item each: '1 7', '1 8'"),
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_inter_txt(tmp_path: pathlib.Path, case: str) -> None:
    """Would break LLM-ESR's format as editors leave it, or with a message that does not say what it is."""
    content, parts = PAIRS[case]
    path = tmp_path / "inter.txt"
    path.write_bytes(content)
    if parts:
        assert_names(refusal(read_log, path, "pairs", {}), (str(path), *parts))
    else:
        log = read_log(path, "pairs", {})
        assert (
            log.user_ids.tolist() == [1, 2]
            and log.item_ids.tolist() == [5, 6]
            and log.items.tolist() == [0, 1, 0]
        )


def test_columns_that_no_one_reads_may_hold_anything(tmp_path: pathlib.Path) -> None:
    """Would break a run for a dash in a price, a byte in a comment, or a field that changes its type."""
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item,note,note\nu,i,\xff,1\nu,j,2,\n")
    log, report = read_interactions(path, "log", COLUMNS)
    assert log.items.tolist() == [0, 1] and report.ignored == ("note",)
    path = tmp_path / "items.csv"
    path.write_text("item,title,price\ni,Soap,3.50\nj,Balm,—\nk,,\n")
    table = read_attributes(path, "item", "item", "title")
    assert table.columns == {"title": ["Soap", "Balm", None], "price": ["3.50", "—", None]}
    path = tmp_path / "items.jsonl"
    path.write_text(
        '{"item":"i","title":"Soap","price":3.5}\n{"item":"j","title":"Balm","price":"—","more":{"a":[1]}}\n'
    )
    table = read_attributes(path, "item", "item", "title")
    assert table.columns == {
        "title": ["Soap", "Balm"],
        "price": [3.5, "—"],
        "more": [None, {"a": [1]}],
    }
    path.write_bytes(b'{"item":"i","title":"Soap"}\n{"item":"j","title":"Cr\xe8me"}\n')
    assert_names(
        refusal(read_attributes, path, "item", "item", "title"),
        (str(path), "row 2", "b'\\xe8me", "not UTF-8"),
    )


def test_long_fields_and_line_breaks_in_texts(tmp_path: pathlib.Path) -> None:
    """Would break an items table whose descriptions are long or of several lines."""
    path = tmp_path / "items.csv"
    long = "word " * 2_000_000
    path.write_text(f'item,title,text\ni,"So\nap","{long}"\nj,"6"" nail",x\n')
    table = read_attributes(path, "item", "item", "title")
    assert table.columns == {"title": ["So\nap", '6" nail'], "text": [long, "x"]}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.zst"])
def test_damaged_files_never_end_in_a_traceback(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break with a traceback of a library where a disk or a transfer changed some bytes of a file."""
    rows = [
        {
            "user": f"u{k % 7}",
            "item": f"i{k % 5}",
            "timestamp": f"2023-11-{k % 28 + 1:02d}T10:00:00Z",
        }
        for k in range(60)
    ]
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        whole = path.read_bytes()
    else:
        mark = "\t" if ending == "tsv" else ","
        lines = [mark.join(rows[0]), *(mark.join(row.values()) for row in rows)]
        content = ("\n".join(map(json.dumps, rows) if "json" in ending else lines) + "\n").encode()
        packed = {
            "csv.gz": gzip.compress(content),
            "jsonl.zst": pa.Codec("zstd").compress(content, asbytes=True),
        }
        whole = packed.get(ending, content)
    rng = random.Random(7)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = (
                rng.choice(b'\0\xff",;\n\r\t {}[]9\\-')
                if rng.random() < 0.8
                else rng.randrange(256)
            )
        path.write_bytes(damaged[: rng.randint(1, len(damaged))] if rng.random() < 0.2 else damaged)
        try:
            read_log(path, "damaged", COLUMNS)
        except UserError as error:
            assert str(path) in str(error) and len(str(error).splitlines()) == 1
