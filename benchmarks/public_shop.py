"""Makes a shop from files in which published models keep their data, to test settings that were chosen on other data.

    python -m benchmarks.public_shop sequences --users=Toys/user_sequence.txt --items=item_generative_indexing_phase_0.txt --out=FOLDER
    python -m benchmarks.public_shop histories --users valid/Office.csv test/Office.csv --items=index/Office.item.json --out=FOLDER

`sequences`: a line of the first file is a user and the items that the user bought, oldest first; a line of the second is an item and its
text. GRAM (https://github.com/skleee/GRAM) and IDGenRec (https://github.com/agiresearch/IDGenRec) have such files of Amazon 5-core in
`rec_datasets`. IDGenRec's sequences are in the order of the item ids, so take those of GRAM.

`histories`: a row of a CSV is a purchase with the ten before it, in files from the oldest to the newest; the items are a JSON object.
Copies of MiniOneRec, such as https://github.com/zzzzzap111/MiniOneRec, have such files in `data/Amazon`. Of a user's purchases before the
first file, the shop has the last ten.

The times of the shop are places in each user's sequence, because the files have no others; `data.split=time` means nothing there.
`configs/beauty5.py` reads the folder.
"""

import argparse
import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.record import run
from grasp_jax.core.errors import UserError

Purchases = Mapping[str, Sequence[str]]  # user -> items, oldest first
Items = Mapping[str, Mapping[str, Any]]  # item -> title and other fields


def first_words(path: pathlib.Path) -> dict[str, str]:
    """A file's lines as first word -> rest.

    Raises:
      UserError: naming a line that is a single word, or whose first word another line has too.
    """
    rest_of: dict[str, str] = {}
    for number, line in enumerate(io.StringIO(_read(path)), 1):
        first, _, rest = line.strip().partition(" ")
        if not rest or first in rest_of:
            fault = "occurs twice" if first in rest_of else "stands alone"
            raise UserError(
                f"{path}: line {number}: {first!r} {fault}; expected a line for each id, with the id first"
            )
        rest_of[first] = rest
    return rest_of


def from_sequences(users: pathlib.Path, items: pathlib.Path) -> tuple[Purchases, Items]:
    """Reads the files of `sequences`.

    Raises:
      UserError: a line cannot be read, or every sequence is in the order of the item ids.
    """
    purchases = {user: line.split() for user, line in first_words(users).items()}
    if all(bought == sorted(bought) for bought in purchases.values()):
        raise UserError(
            f"{users}: every user's items are in the order of their ids; expected the order of time"
        )
    return purchases, {item: {"title": text} for item, text in first_words(items).items()}


def from_histories(rows: Sequence[pathlib.Path], items: pathlib.Path) -> tuple[Purchases, Items]:
    """Reads the files of `histories`.

    Raises:
      UserError: a row cannot be read, or a history does not continue the user's earlier rows.
    """
    purchases: dict[str, list[str]] = {}
    for path in rows:
        for number, row in enumerate(csv.DictReader(io.StringIO(_read(path))), 1):
            try:
                user, item = row["user_id"], row["item_id"]
                earlier = json.loads(row["history_item_id"])
            except (KeyError, TypeError, ValueError):
                earlier = None
            if not isinstance(earlier, list):
                raise UserError(
                    f"{path}: row {number}: expected the columns user_id, item_id, and history_item_id with a JSON list of items"
                )
            history = [str(own) for own in earlier]
            bought = purchases.setdefault(user, history)
            if bought[len(bought) - len(history) :] != history:
                raise UserError(
                    f"{path}: user {user!r}: the history of item {item!r} does not continue the earlier rows; "
                    "give all files of the shop, the oldest first"
                )
            bought.append(item)
    return purchases, _items(items)


def _items(path: pathlib.Path) -> Items:
    try:
        items = json.loads(_read(path))
    except ValueError:
        items = None
    if not isinstance(items, dict) or not all(isinstance(own, dict) for own in items.values()):
        raise UserError(f"{path}: expected a JSON object with an object of texts for each item")
    return items


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}; expected a text file in UTF-8") from None


def write_shop(purchases: Purchases, items: Items, folder: pathlib.Path) -> str:
    """Writes `inter_time.tsv` and `items.jsonl`, and returns their sizes in words.

    Raises:
      UserError: an item of the sequences is not among the items.
    """
    without = {item for bought in purchases.values() for item in bought} - items.keys()
    if without:
        raise UserError(
            f"the table of items lacks {len(without):,} items that users bought, such as {min(without)!r}; "
            "give purchases and items of the same shop"
        )
    rows = [
        f"{user}\t{item}\t{place}"
        for user, bought in purchases.items()
        for place, item in enumerate(bought)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = "\n".join(["user\titem\ttimestamp", *rows, ""])
    (folder / "inter_time.tsv").write_text(table, encoding="utf-8")
    lines = [json.dumps({"item": item, **fields}) + "\n" for item, fields in items.items()]
    (folder / "items.jsonl").write_text("".join(lines), encoding="utf-8")
    return f"{folder}: {len(purchases):,} users, {len(items):,} items, {len(rows):,} interactions"


def main() -> None:
    """Writes the shop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_shop")
    parser.add_argument("form", choices=("sequences", "histories"), help="of the files")
    parser.add_argument("--users", type=pathlib.Path, nargs="+", required=True, help="purchases")
    parser.add_argument("--items", type=pathlib.Path, required=True, help="items and their texts")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the shop")
    arguments = parser.parse_args()
    if arguments.form == "histories":
        purchases, items = from_histories(arguments.users, arguments.items)
    elif len(arguments.users) > 1:
        raise UserError(f"--users: {len(arguments.users)} files; expected one for sequences")
    else:
        purchases, items = from_sequences(arguments.users[0], arguments.items)
    print(write_shop(purchases, items, arguments.out))


if __name__ == "__main__":
    run(main)
