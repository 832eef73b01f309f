"""Makes smaller shops from Amazon Beauty 5-core, one for each department, to test settings that were chosen on all of it.

    python -m benchmarks.departments --data=FOLDER --out=SHOPS

FOLDER is that of `configs/beauty5.py`. SHOPS/NAME gets the interactions with the items of a department, in their original order, and the
items' titles and attributes. Users and items with fewer than three interactions are removed until none is left. The shop gets no vectors:
those of users were made from purchases in all departments, including some that are test targets in a shop. `configs/beauty5.py` reads such
a folder.
"""

import argparse
import json
import pathlib

import numpy as np

from grasp_jax.data.amazon import k_core

DEPARTMENTS = {"skin": "Skin Care", "hair": "Hair Care", "makeup": "Makeup"}
LEAST = 3  # interactions of a user and of an item


def write_shop(data: pathlib.Path, department: str, folder: pathlib.Path) -> tuple[int, int, int]:
    """Writes a department as a separate shop.

    Args:
      data: folder with `inter_time.tsv` and `items.jsonl`.
      department: a category, spelled as in the attributes of items.
      folder: for the shop.

    Returns:
      Its numbers of users, items and interactions.
    """
    lines = (data / "items.jsonl").read_text(encoding="utf-8").splitlines()
    of_department = {
        item["item"]: line
        for line, item in ((line, json.loads(line)) for line in lines)
        if department in item["attributes"]
    }
    rows = np.loadtxt(data / "inter_time.tsv", skiprows=1, dtype=np.int64)
    rows = rows[np.isin(rows[:, 1], list(of_department))]
    rows = rows[k_core(rows[:, 0], rows[:, 1], LEAST, LEAST, iterative=True)]
    items = np.unique(rows[:, 1])
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(
        folder / "inter_time.tsv",
        rows,
        fmt="%d",
        delimiter="\t",
        header="user\titem\ttimestamp",
        comments="",
    )
    text = "".join(f"{of_department[item]}\n" for item in items)
    (folder / "items.jsonl").write_text(text, encoding="utf-8")
    return len(np.unique(rows[:, 0])), len(items), len(rows)


def main() -> None:
    """Writes all shops."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.departments")
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder of configs/beauty5.py"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder in which the shops are written"
    )
    arguments = parser.parse_args()
    for name, department in DEPARTMENTS.items():
        users, items, rows = write_shop(arguments.data, department, arguments.out / name)
        print(f"{arguments.out / name}: {users:,} users, {items:,} items, {rows:,} interactions")


if __name__ == "__main__":
    main()
