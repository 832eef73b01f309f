"""Shops from files of published models: the order of the purchases, and the texts of the items."""

import json
import pathlib

import pytest

from benchmarks.public_shop import write_shop
from grasp_jax.errors import UserError

SEQUENCES, TEXTS = "ann b3 b1 b2\nlee b1 b3\n", "b1 red hat\nb2 blue hat\nb3 shoe\n"


def shop(folder: pathlib.Path, sequences: str, texts: str) -> tuple[int, int, int]:
    (folder / "sequences.txt").write_text(sequences)
    (folder / "texts.txt").write_text(texts)
    return write_shop(folder / "sequences.txt", folder / "texts.txt", folder / "shop")


def test_a_shop_keeps_order_and_texts(tmp_path: pathlib.Path) -> None:
    """A shop would have the purchases in another order, or another item's text."""
    assert shop(tmp_path, SEQUENCES, TEXTS) == (2, 3, 5)
    rows = (tmp_path / "shop" / "inter_time.tsv").read_text().splitlines()
    expected = ["ann\tb3\t0", "ann\tb1\t1", "ann\tb2\t2", "lee\tb1\t0", "lee\tb3\t1"]
    assert rows == ["user\titem\ttimestamp", *expected]
    items = (tmp_path / "shop" / "items.jsonl").read_text().splitlines()
    assert json.loads(items[0]) == {"item": "b1", "title": "red hat"}


@pytest.mark.parametrize(
    ("sequences", "texts", "message"),
    [
        ("ann b3 b1 b4\n", TEXTS, "texts.txt: no text for 1 items of the sequences, such as 'b4'"),
        (
            "ann b1 b3\nlee b2 b3\n",
            TEXTS,
            "are in the order of their ids; expected the order of time",
        ),
        ("ann b3 b1\nann b2\n", TEXTS, "sequences.txt: line 2: 'ann' is there twice"),
        (SEQUENCES, "b1\n", "texts.txt: line 1: 'b1' has no text"),
    ],
)
def test_files_that_are_not_meant(
    tmp_path: pathlib.Path, sequences: str, texts: str, message: str
) -> None:
    """A study would measure sequences without an order, or items without their texts."""
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        shop(tmp_path, sequences, texts)
    assert not (tmp_path / "shop").exists()
