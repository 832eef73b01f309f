"""The same interactions from every format, and rows that are refused by number. (`test_main.py` has the faults of inter.txt.)"""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.data.items import read_items
from grasp_jax.data.readers import find_interactions, read_interactions
from grasp_jax.errors import UserError

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
ROWS = [("b", "x", 3, 5.0), ("a", "y", 2, 4.0), ("a", "z", 1, 1.0), ("a", "x", 2, 3.0)]


def write(folder: pathlib.Path, ending: str) -> pathlib.Path:
    path = folder / f"interactions.{ending}"
    names = list(COLUMNS)
    if ending in ("tsv", "csv"):
        mark = "\t" if ending == "tsv" else ","
        path.write_text("\n".join(mark.join(map(str, line)) for line in [names, *ROWS]) + "\n")
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
    else:
        parquet.write_table(pa.table(dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))), path)
    return path


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_formats_agree(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if a format lost ids, the time order, or the file's order of equal times."""
    log = read_interactions(write(tmp_path, ending), "small", COLUMNS)
    assert log.user_ids.tolist() == ["a", "b"] and log.item_ids.tolist() == ["x", "y", "z"]
    assert log.items.tolist() == [2, 1, 0, 0] and log.offsets.tolist() == [0, 3, 4]
    kept = read_interactions(find_interactions(str(tmp_path)), "small", COLUMNS, min_rating=3.5)
    assert kept.num_interactions == 2


def test_pairs_keep_file_order(tmp_path: pathlib.Path) -> None:
    """Would break the data's identity: `inter.txt` is in time order already, and numeric ids sort as numbers."""
    (tmp_path / "inter.txt").write_text("10 3\n2 7\n10 1\n2 7\n")
    log = read_interactions(tmp_path / "inter.txt", "pairs", {})
    assert log.user_ids.tolist() == [2, 10] and log.items.tolist() == [2, 2, 1, 0]


def test_faults_name_row_and_column(tmp_path: pathlib.Path) -> None:
    """Would break if a null id, a missing column or an unknown item were passed on to training."""
    path = tmp_path / "log.csv"
    path.write_text("user,item\na,x\nb,\n")
    with pytest.raises(UserError, match=r"log.csv: no column 'person'; it has user, item"):
        read_interactions(path, "small", {**COLUMNS, "user": "person"})
    parquet.write_table(pa.table({"user": ["a", None], "item": ["x", "y"]}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=r"row 2 has no value in column 'user'"):
        read_interactions(tmp_path / "log.parquet", "small", COLUMNS)
    (tmp_path / "log.txt2").write_text("1 1\n")
    with pytest.raises(UserError, match=r"ending '.txt2' is not supported"):
        read_interactions(tmp_path / "log.txt2", "small", COLUMNS)
    path.write_text("user,item\na,x\nb,q\n")
    with pytest.raises(UserError, match=r"item id q occurs in the interactions but not in the items table"):
        read_interactions(path, "small", COLUMNS, catalogue=np.array(["x", "y"]))


def test_items_table_gives_the_row_order(tmp_path: pathlib.Path) -> None:
    """Would break the match of embeddings and items: rows follow the table, and a repeated id is refused."""
    path = tmp_path / "items.jsonl"
    path.write_text('{"item": 9, "title": "nine"}\n{"item": 4, "title": null}\n')
    items = read_items(path, "item")
    (tmp_path / "inter.txt").write_text("1 4\n1 9\n")
    log = read_interactions(tmp_path / "inter.txt", "small", {}, catalogue=items.ids)
    assert log.item_ids.tolist() == [9, 4] and log.items.tolist() == [1, 0]
    path.write_text('{"item": 9, "title": "nine"}\n{"item": 9, "title": "again"}\n')
    with pytest.raises(UserError, match=r"item id 9 stands twice"):
        read_items(path, "item")
