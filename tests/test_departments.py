"""Shops of departments: their interactions in the order of the whole, and the texts of their items alone."""

import json
import pathlib

from benchmarks.departments import write_shop


def test_a_shop_of_a_department(tmp_path: pathlib.Path) -> None:
    """A shop would hold another department's items, lose its order, or keep who has too few interactions in it."""
    items = [{"item": k, "attributes": ["Hair" if k < 4 else "Skin"]} for k in range(1, 6)]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    bought = {1: [3, 1, 2], 2: [2, 3, 5, 1], 3: [1, 3, 2], 4: [1, 2, 5], 5: [5, 5, 5]}
    rows = [f"{user}\t{item}\t{9 * user}" for user, own in bought.items() for item in own]
    (tmp_path / "inter_time.tsv").write_text("\n".join(["user\titem\ttimestamp", *rows]))
    assert write_shop(tmp_path, "Hair", tmp_path / "shop") == (3, 3, 9)
    lines = (tmp_path / "shop" / "inter_time.tsv").read_text().splitlines()
    expected = [f"{u}\t{k}\t{9 * u}" for u in (1, 2, 3) for k in bought[u] if k < 4]
    assert lines == ["user\titem\ttimestamp", *expected]
    kept = (tmp_path / "shop" / "items.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in kept] == [1, 2, 3]
