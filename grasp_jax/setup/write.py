"""The text of a config file for what a folder holds: commented, and without anything that was tuned on other data."""

import json
import re

from grasp_jax.config import EvalConfig
from grasp_jax.data.readers import KNOWN_NAMES
from grasp_jax.setup.look import FolderContents

MOST_LETTERS = 136


def config_text(found: FolderContents, name: str) -> str:
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


def _body(found: FolderContents, name: str) -> list[str]:
    lines = ["config = default_config()", ""]
    for line in (
        *(f"Found: {line}" for line in found.lines),
        *(f"Not decided: {line}" for line in found.undecided),
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
            "The methods are compared on the same test users, with the same loss. sasrec_ce reads only ids, grasp_plus also texts of items."
            if text
            else "Without a table of items, only methods that read no text can be trained."
        ),
        _set("model.method", "sasrec_ce,grasp_plus" if text else "sasrec_ce"),
        _set("model.backbone", "sasrec") + "  # or gru4rec, bert4rec; several: sasrec,gru4rec",
        "",
        *_comment(
            'Each user\'s last item is for the test, and the one before it for validation; "time" splits at two points in time.'
        ),
        _set("data.split", "leave_one_out"),
        *_comment(
            'Validation ranks the items that the user has not had, as the service does; "full" ranks all, if people buy items again.'
        ),
        _set("eval.select", "full_unseen"),
        "config.model.dropout = (0.3,)  # several, such as (0.3, 0.5), are trained together, and validation chooses one",
        "config.train.max_epochs = 100  # at most: training stops early, after train.patience epochs without a better validation",
        "config.train.patience = 10",
        *_of_negatives(found),
        "config.train.seeds = (42,)  # several, such as (42, 43, 44), show how much results vary by chance",
        "return config",
    ]
    return lines


def _of_interactions(found: FolderContents) -> list[str]:
    lines = [_set("data.interactions_file", found.interactions.path.name)]
    if found.interactions.path.name == KNOWN_NAMES[0]:  # which has no names of columns
        return lines
    for purpose in ("user", "item", "timestamp"):
        note = (
            "  # empty: the order of the rows in the file counts"
            if not found.columns[purpose]
            else ""
        )
        lines.append(_set(f"data.columns.{purpose}", found.columns[purpose]) + note)
    if rating := found.columns.get("rating"):
        lines += [
            f"# {_set('data.columns.rating', rating)}",
            "# config.data.min_rating = 4.0  # rows with a lower rating are not used in training; this needs the line above too",
        ]
    return lines


def _of_negatives(found: FolderContents) -> list[str]:
    """Fewer negatives than the default, if some user has only so few items left."""
    left = found.items_left()
    if left is None or not 0 < left < EvalConfig().num_negatives:
        return []
    why = "The protocol sampled100 ranks a test item among so many items that the user never had. No user has more of them left."
    return [*_comment(why), f"config.eval.num_negatives = {left}"]


def _of_tables(found: FolderContents) -> list[str]:
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
