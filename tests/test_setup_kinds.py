"""`grasp-jax init` says which rows may not be meant to count, such as views and returned goods, and its commands keep the others."""

import csv
import gzip
import json
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.data.tables import values_of
from grasp_jax.setup.command import write_config
from grasp_jax.setup.look import look
from grasp_jax.setup.sample import sample
from tests.refusal import assert_names
from tests.setup_folders import read_by_its_config

EVENTS = ["view"] * 18 + ["addtocart"] + ["transaction"]


def told(folder: pathlib.Path) -> list[tuple[str, str]]:
    """What `init` says about rows that may not count: (words, command)."""
    notes = [line for line in look(folder).undecided if line.startswith("whether all rows count")]
    return [(words, command) for words, _, command in (note.partition("\n") for note in notes)]


def kept(command: str, file: pathlib.Path) -> int:
    """The number of rows of the file that a command writes."""
    command = command.replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True)
    return sample(file).table.num_rows


def test_views_are_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Views would be trained on as purchases, and nothing in the output or the config would name the column."""
    folder = tmp_path / "my shop"
    folder.mkdir()
    rows = [f"{k},v{k % 4},{kind},i{k % 7},7" for k, kind in enumerate(EVENTS)]
    (folder / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n" + "\n".join(rows) + "\n"
    )
    out = write_config(folder, str(tmp_path / "a.py"))
    ((words, command),) = told(folder)
    assert_names(
        words,
        (
            "column 'event' has view (90 %), addtocart (5.0 %), transaction (5.0 %) of the rows",
            "a run uses every row",
            "keeps only transaction",
            'config.data.interactions_file = "kept_events.csv"',
        ),
    )
    assert f"not decided: {words}\n  {command}\n" in capsys.readouterr().out
    text = out.read_text()
    assert f"#   {command}\n" in text and "# Not decided: whether all rows count" in text
    assert kept(command, folder / "kept_events.csv") == 1
    out.write_text(text.replace('_file = "events.csv"', '_file = "kept_events.csv"'))
    assert read_by_its_config(out)[1].log.num_interactions == 1


def test_the_commands_keep_rows_of_every_format(tmp_path: pathlib.Path) -> None:
    """A command that fails, or that makes 007 a 7, would be worse than none."""
    log = [
        {"user": f"00{k % 4}", "item": 'a "b', "action": kind, "n": k}
        for k, kind in enumerate(EVENTS)
    ]
    fields = [*log[0]]
    folders = {name: tmp_path / name for name in ("csv", "tsv", "jsonl", "gz", "parquet", "parts")}
    for folder in folders.values():
        folder.mkdir()
    with (folders["csv"] / "log.csv").open("w", newline="", encoding="latin-1") as file:
        writer = csv.DictWriter(file, [*fields, "text"], delimiter=";", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"text": "Ü;\n"} for row in log)
    lines = ["\t".join(fields), *("\t".join(map(str, row.values())) for row in log)]
    (folders["tsv"] / "log.tsv").write_text("\n".join(lines) + "\n")
    (folders["jsonl"] / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n")
    with gzip.open(folders["gz"] / "log.jsonl.gz", "wt") as zipped:
        zipped.write("\n".join(map(json.dumps, log)) + "\n")
    table = pa.Table.from_pylist(log)
    pyarrow.parquet.write_table(table, folders["parquet"] / "log.parquet")
    (folders["parts"] / "log").mkdir()
    pyarrow.parquet.write_table(table, folders["parts"] / "log" / "part-0.parquet")
    for name, folder in folders.items():
        ((words, command),) = told(folder)
        file = folder / json.loads(words.rpartition(" = ")[2])
        assert kept(command, file) == 1, name
        assert values_of(sample(file).table, "user") == ["003"], name


def test_returned_goods_are_named(tmp_path: pathlib.Path) -> None:
    """A return would count as a purchase; a cancelled order too."""
    rows = [
        f"{k % 3},i{k},{-1 if k < 3 else 2 if k < 9 else ''},{1 if k % 2 else ''}"
        for k in range(10)
    ]
    (tmp_path / "data.csv").write_text("user,item,Quantity,amount\n" + "\n".join(rows) + "\n")
    ((words, command),) = told(tmp_path)
    assert "column 'Quantity' is below zero in 30 % of the rows" in words
    assert kept(command, tmp_path / "kept_data.csv") == 6
    (tmp_path / "kept_data.csv").unlink()
    rows = [f"{k % 3},i{k},{'cancelled' if k < 2 else 'done'}" for k in range(10)]
    (tmp_path / "data.csv").write_text("user,item,status\n" + "\n".join(rows) + "\n")
    ((words, command),) = told(tmp_path)
    assert "keeps only done" in words and kept(command, tmp_path / "kept_data.csv") == 8
    (tmp_path / "kept_data.csv").unlink()
    rows = [f"{k % 3},i{k},{int(k == 4)}" for k in range(10)]
    (tmp_path / "data.csv").write_text("user,item,is_click\n" + "\n".join(rows) + "\n")
    ((words, command),) = told(tmp_path)
    assert "keeps only 1" in words and kept(command, tmp_path / "kept_data.csv") == 1


UNUSUAL = {
    "blanks before names": ("log.csv", "user, item, event\na,x,buy\n\nb,y,view\n", 1),
    "a mark of the byte order": ("log.csv", "\ufeffevent,user,item\nbuy,a,x\nview,b,y\n", 1),
    "no number": ("log.csv", "user,item,quantity\na,x,NA\nb,y,-1\nc,z, 1e3 \nd,z,2\n", 2),
    "numbers as texts": (
        "log.jsonl",
        '{"user": 1, "item": 2, "quantity": "-1"}\n\n{"user": 1, "item": 3, "quantity": "2"}\n'
        '{"user": 1, "item": 4}\n{"user": 1, "item": 3, "quantity": 0.5}\n',
        2,
    ),
    "JSON with a mark": (
        "log.jsonl",
        '\ufeff{"user": 1, "item": 2, "event": "buy"}\n\n{"user": 1, "item": 3, "event": "view"}\n',
        1,
    ),
    "quotation marks in TSV": (
        "log.tsv",
        '"user"\t"item"\t"event"\n"a"\t"x"\t"buy"\n"b"\t"y"\t"view"\n',
        1,
    ),
    "tabs in CSV": ("log.csv", 'user\titem\tevent\na\t"x\tbuy\nb\ty\tview\n', 1),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_the_commands_read_what_the_reader_reads(tmp_path: pathlib.Path, case: str) -> None:
    """A command would end with KeyError, ValueError or TypeError, and leave half of a file that is then trained on."""
    name, text, rows = UNUSUAL[case]
    (tmp_path / name).write_text(text)
    ((_, command),) = told(tmp_path)
    assert kept(command, tmp_path / f"kept_{name}") == rows


def test_quantities_that_are_texts_of_parquet(tmp_path: pathlib.Path) -> None:
    """Parquet compares no text with zero."""
    table = pa.table({"user": ["a"] * 3, "item": ["x"] * 3, "quantity": ["1", "-1", "2"]})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    ((_, command),) = told(tmp_path)
    assert kept(command, tmp_path / "kept_log.parquet") == 2


@pytest.mark.parametrize("name", ["a.csv", "interactions.csv"])
def test_kept_rows_are_used_instead_of_their_source(tmp_path: pathlib.Path, name: str) -> None:
    """After the command, `init` would refuse the two files as parts of one table, and tell to join them."""
    (tmp_path / name).write_text("user,item,event\na,x,buy\nb,y,view\nb,z,buy\n")
    ((_, command),) = told(tmp_path)
    assert kept(command, tmp_path / f"kept_{name}") == 2
    found = look(tmp_path)
    assert found.interactions.path.name == f"kept_{name}"
    assert sum(name in line for line in found.undecided) == 1
    assert_names("\n".join(found.undecided), (f"kept_{name} has the kept rows of {name}",))


@pytest.mark.parametrize(
    ("name", "values", "is_told"),
    [
        ("behavior_type", ["1", "2"], True),  # numbers, by the name of the column
        ("what", ["pv", "fav"], True),  # by the values
        ("what", ["red", "blue"], False),
        ("event", ["buy", "buy"], False),  # all rows are the same
        ("type", [*map(str, range(30))], False),  # not few
        ("quantity", ["0", "2"], False),
        ("quantity", ["", "-1", "2"], True),
        ("status", ["", "paid"], True),
        ("discount_amount", ["-1", "2"], False),  # no number of goods
        ("amount", ["-1", "-2"], False),  # all are below zero, as of payments
        ("item_qty", ["-1", "2"], True),
        ("what", ["order", "red"], False),  # a single word that is known
    ],
)
def test_only_columns_of_events_are_named(
    tmp_path: pathlib.Path, name: str, values: list[str], is_told: bool
) -> None:
    """Colours would be taken for kinds of events; or numbers that stand for them not be named."""
    rows = [f"{k % 3},i{k},{values[k % len(values)]}\n" for k in range(30)]
    (tmp_path / "log.csv").write_text(f"user,item,{name}\n" + "".join(rows))
    assert bool(told(tmp_path)) == is_told
    lines = [
        {"user": k % 3, "item": k, name: values[k % len(values)] or None, "list": [1]}
        for k in range(30)
    ]
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert bool(told(tmp_path)) == is_told
