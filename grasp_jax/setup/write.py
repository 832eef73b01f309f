"""The text of a config file for what a folder holds: commented, and without anything that was tuned on other data."""

import json
import re

from grasp_jax.config import EvalConfig
from grasp_jax.setup.look import Found

MOST_LETTERS = 136


def config_text(found: Found, name: str) -> str:
    """A Python file with `get_config`.

    Args:
      found: of `look`.
      name: what tables and files call the data.
    """
    lines = [
        '"""Config of the data below: what was found in the folder, to be checked and changed by hand.',
        "",
    ]
    lines += ["docs/config.md explains every field.", '"""', ""]
    lines += [
        "from ml_collections import ConfigDict",
        "",
        "from grasp_jax.config import default_config",
        "",
        "",
    ]
    lines += [
        "def get_config() -> ConfigDict:",
        *(f"    {line}".rstrip() for line in _body(found, name)),
    ]
    return "\n".join(lines) + "\n"


def data_name(folder_name: str) -> str:
    """A folder's name as the data's: letters, digits, dots, dashes."""
    return re.sub(r"[^\w.-]+", "-", folder_name).strip("-.") or "data"


def _body(found: Found, name: str) -> list[str]:
    lines = ["config = default_config()", ""]
    for line in (
        *(f"Found: {line}" for line in found.lines),
        *(f"Not decided: {line}" for line in found.open),
    ):
        lines += _comment(line)
    lines += [
        _set("data.name", name),
        _set("data.source", "files"),
        _set("data.path", str(found.folder.resolve())),
    ]
    lines += _of_interactions(found)
    lines += _of_tables(found)
    text = found.items is not None
    lines += [
        "",
        *_comment(
            "Methods are compared on the same test users, by one loss. sasrec_ce reads ids alone; grasp_plus reads the text of items, too."
            if text
            else "Without text only methods that read ids can be trained; a table of items makes the others possible."
        ),
        _set("model.method", "sasrec_ce,grasp_plus" if text else "sasrec_ce"),
        _set("model.backbone", "sasrec") + "  # or gru4rec, bert4rec; several: sasrec,gru4rec",
        "",
        *_comment(
            'Each user\'s last item is the test, the one before it is for validation; "time" splits by dates.'
        ),
        _set("data.split", "leave_one_out"),
        "config.train.max_epochs = 100  # at most: training stops early, after train.patience epochs without a better validation",
        "config.train.patience = 10",
        *_of_negatives(found),
        "config.train.seeds = (42,)  # several, such as (42, 43, 44), show how far results move by chance",
        "return config",
    ]
    return lines


def _of_interactions(found: Found) -> list[str]:
    if found.interactions is None:
        return [_set("data.interactions_file", "inter.txt")]
    lines = [_set("data.interactions_file", found.interactions.path.name)]
    for purpose in ("user", "item", "timestamp"):
        note = "  # empty: rows as they stand" if not found.columns[purpose] else ""
        lines.append(_set(f"data.columns.{purpose}", found.columns[purpose]) + note)
    if rating := found.columns.get("rating"):
        lines += [
            f"# {_set('data.columns.rating', rating)}",
            "# config.data.min_rating = 4.0  # rows rated lower are not trained on; both lines go together",
        ]
    return lines


def _of_negatives(found: Found) -> list[str]:
    """Fewer negatives, where a user lacks as few items as that."""
    left = found.items_left()
    if left is None or not 0 < left < EvalConfig().num_negatives:
        return []
    why = "Items that a test item is ranked among, by the protocol sampled100: nobody lacks more of this catalogue."
    return [*_comment(why), f"config.eval.num_negatives = {left}"]


def _of_tables(found: Found) -> list[str]:
    lines = []
    if found.items is not None:
        lines += [
            _set("data.items_file", found.items.path.name),
            _set("data.items_id_column", found.item_id),
            _set("data.title_column", found.title),
        ]
    if found.users is not None:
        lines += [
            _set("data.users_file", found.users.path.name),
            _set("data.users_id_column", found.user_id),
        ]
    return lines


def _set(field: str, value: str) -> str:
    return f"config.{field} = {json.dumps(value, ensure_ascii=False)}"


def _comment(text: str) -> list[str]:
    """A text as comment lines."""
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > MOST_LETTERS and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return [*lines, line]
