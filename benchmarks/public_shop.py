"""Makes a shop from the two text files in which some published models keep their data, to test settings that were chosen on other data.

    python -m benchmarks.public_shop --sequences=Toys/user_sequence.txt --texts=Toys/item_plain_text.txt --out=FOLDER

A line of the first file is a user and the items that the user bought, oldest first; a line of the second is an item and its text. GRAM
(https://github.com/skleee/GRAM) and IDGenRec (https://github.com/agiresearch/IDGenRec) have such files of Amazon 5-core in `rec_datasets`.
IDGenRec's sequences are in the order of the item ids, so take those of GRAM. The times of the shop are places in the sequence, because the
files have no others. `configs/beauty5.py` reads the folder.
"""

import argparse
import json
import pathlib

from benchmarks.record import run
from grasp_jax.errors import UserError


def read_lines(path: pathlib.Path, second: str) -> dict[str, str]:
    """A file's lines as first word -> rest.

    Args:
      path: the file.
      second: what follows the first word, for the error message.

    Raises:
      UserError: naming a line that is a single word, or whose first word another line has too.
    """
    rest_of: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        first, _, rest = line.strip().partition(" ")
        if not rest or first in rest_of:
            what = "is there twice" if first in rest_of else f"has no {second}"
            raise UserError(f"{path}: line {number}: {first!r} {what}")
        rest_of[first] = rest
    return rest_of


def write_shop(
    sequences: pathlib.Path, texts: pathlib.Path, folder: pathlib.Path
) -> tuple[int, int, int]:
    """Writes `inter_time.tsv` and `items.jsonl` into the folder.

    Returns:
      The numbers of users, items and interactions.

    Raises:
      UserError: an item has no text, or each sequence is in the order of the item ids.
    """
    bought = {user: line.split() for user, line in read_lines(sequences, "items").items()}
    text_of = read_lines(texts, "text")
    without = {item for items in bought.values() for item in items} - text_of.keys()
    if without:
        raise UserError(
            f"{texts}: no text for {len(without):,} items of the sequences, such as {min(without)!r}"
        )
    if all(items == sorted(items) for items in bought.values()):
        raise UserError(
            f"{sequences}: every user's items are in the order of their ids; expected the order of time"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{user}\t{item}\t{place}"
        for user, items in bought.items()
        for place, item in enumerate(items)
    ]
    (folder / "inter_time.tsv").write_text("\n".join(["user\titem\ttimestamp", *rows, ""]))
    lines = [json.dumps({"item": item, "title": text}) + "\n" for item, text in text_of.items()]
    (folder / "items.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(bought), len(text_of), len(rows)


def main() -> None:
    """Writes the shop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_shop")
    parser.add_argument("--sequences", type=pathlib.Path, required=True, help="users and items")
    parser.add_argument("--texts", type=pathlib.Path, required=True, help="items and texts")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the shop")
    arguments = parser.parse_args()
    users, items, rows = write_shop(arguments.sequences, arguments.texts, arguments.out)
    print(f"{arguments.out}: {users:,} users, {items:,} items, {rows:,} interactions")


if __name__ == "__main__":
    run(main)
