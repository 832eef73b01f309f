"""Shops from files of published models: the order of the purchases, and the texts of the items."""

import json
import pathlib

import pytest

from benchmarks.public_shop import Items, Purchases, from_histories, from_sequences, write_shop
from grasp_jax.core.errors import UserError

SEQUENCES, TEXTS = "ann b3 b1 b2\nlee b1 b3\n", "b1 red hat\nb2 blue hat\nb3 shoe\n"
HEADER = "user_id,item_title,history_item_id,item_id\n"


def of_sequences(folder: pathlib.Path, sequences: str, texts: str) -> tuple[Purchases, Items]:
    (folder / "sequences.txt").write_text(sequences)
    (folder / "texts.txt").write_text(texts)
    return from_sequences(folder / "sequences.txt", folder / "texts.txt")


def of_histories(folder: pathlib.Path, *rows: str) -> tuple[Purchases, Items]:
    for number, text in enumerate(rows):
        (folder / f"{number}.csv").write_text(HEADER + text)
    (folder / "items.json").write_text(json.dumps({"1": {"title": "hat"}, "2": {"brand": "x"}}))
    return from_histories([folder / f"{k}.csv" for k in range(len(rows))], folder / "items.json")


def test_a_shop_keeps_order_and_texts(tmp_path: pathlib.Path) -> None:
    """A shop would have the purchases in another order, or another item's text."""
    said = write_shop(*of_sequences(tmp_path, SEQUENCES, TEXTS), tmp_path / "shop")
    assert said.endswith("shop: 2 users, 3 items, 5 interactions")
    rows = (tmp_path / "shop" / "inter_time.tsv").read_text().splitlines()
    expected = ["ann\tb3\t0", "ann\tb1\t1", "ann\tb2\t2", "lee\tb1\t0", "lee\tb3\t1"]
    assert rows == ["user\titem\ttimestamp", *expected]
    items = (tmp_path / "shop" / "items.jsonl").read_text().splitlines()
    assert json.loads(items[0]) == {"item": "b1", "title": "red hat"}


def test_rows_with_histories_are_joined(tmp_path: pathlib.Path) -> None:
    """A user would have the purchases of each row again, or only those of the newest file."""
    purchases, items = of_histories(
        tmp_path, 'ann,_,"[7, 1]",2\nlee,_,[2],1\n', 'ann,_,"[1, 2]",2\n'
    )
    assert purchases == {"ann": ["7", "1", "2", "2"], "lee": ["2", "1"]}
    assert of_histories(tmp_path, "ann,_,[],2\n")[0] == {"ann": ["2"]}
    with pytest.raises(UserError, match="lacks 1 items that users bought, such as '7'"):
        write_shop(purchases, items, tmp_path / "shop")
    assert not (tmp_path / "shop").exists()
    for later in ("ann,_,[1],2\n", 'ann,_,"[7, 1, 2]",2\n'):
        with pytest.raises(
            UserError, match="user 'ann': the history of item '2' does not continue"
        ):
            of_histories(tmp_path, "ann,_,[1],2\n", later)


@pytest.mark.parametrize(
    ("sequences", "texts", "message"),
    [
        ("ann b1 b3\nlee b2 b3\n", TEXTS, "are in the order of their ids; expected the order of"),
        ("ann b3 b1\nann b2\n", TEXTS, r"sequences\.txt: line 2: 'ann' occurs twice"),
        (SEQUENCES, "b1\n", r"texts\.txt: line 1: 'b1' stands alone"),
    ],
)
def test_files_that_are_not_meant(
    tmp_path: pathlib.Path, sequences: str, texts: str, message: str
) -> None:
    """A study would measure sequences without an order, or items without their texts."""
    with pytest.raises(UserError, match=message):
        of_sequences(tmp_path, sequences, texts)


@pytest.mark.parametrize(
    ("header", "row", "items", "message"),
    [
        ("user_id,item_id\n", "ann,2\n", "{}", r"0\.csv: row 1: expected the columns"),
        (HEADER, 'ann,_,"""7 1""",2\n', "{}", r"0\.csv: row 1: expected .* with a JSON list"),
        (HEADER, "ann,_,[1],2\n", '["1"]', r"items\.json: expected a JSON object"),
    ],
)
def test_tables_that_are_not_meant(
    tmp_path: pathlib.Path, header: str, row: str, items: str, message: str
) -> None:
    """A file of another form would end in a traceback, or become a shop with the letters of a text as items."""
    (tmp_path / "0.csv").write_text(header + row)
    (tmp_path / "items.json").write_text(items)
    with pytest.raises(UserError, match=message):
        from_histories([tmp_path / "0.csv"], tmp_path / "items.json")
    with pytest.raises(UserError, match=r"1\.csv: .*No such file"):
        from_histories([tmp_path / "1.csv"], tmp_path / "items.json")
