"""Writes the text of a config file for a folder: commented, and without settings that were tuned on other data."""

import json
import re

from grasp_jax.config import DataConfig, EvalConfig, TrainConfig
from grasp_jax.config.data import SKIP
from grasp_jax.config.fields import flatten
from grasp_jax.data.dataset import known_tables
from grasp_jax.data.readers import KNOWN_NAMES
from grasp_jax.data.repeats import MANY_REPEATS
from grasp_jax.setup.look import FolderContents

MOST_LETTERS = 136
LONGEST = 256  # histories, because the work of attention grows with the square of their length
LEAST_STEPS, SMALLEST_BATCH = 25, 32  # of an epoch; users
COLUMNS = "columns."  # fields of this section within `data`


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
    """The name of the data from that of the folder: letters, digits, dots, dashes."""
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
    lines += _lines_of_data(found)
    text = found.items is not None
    lines += [
        "",
        *_comment(
            "The methods are compared on the same test users. popularity recommends what most people take and needs no training. "
            + (
                "sasrec_ce reads only ids, grasp_plus also texts of items; both are trained with the same loss."
                if text
                else "Without a table of items, only methods that read no text can be trained."
            )
        ),
        _set("model.method", f"popularity,sasrec_ce{',grasp_plus' if text else ''}"),
        _set("model.backbone", "sasrec") + "  # or gru4rec, bert4rec; several: sasrec,gru4rec",
        "",
        *_comment(
            'Each user\'s last item is for the test, and the one before it for validation; "time" splits at two points in time.'
        ),
        _set("data.split", "leave_one_out"),
        *_lines_of_ranking(found),
        "config.model.dropout = (0.3,)  # several, such as (0.3, 0.5), are trained together, and validation chooses one",
        "config.train.max_epochs = 100  # at most: training stops early, after train.patience epochs without a better validation",
        "config.train.patience = 10",
        *_lines_of_sizes(found),
        *_of_negatives(found),
        "config.train.seeds = (42,)  # several, such as (42, 43, 44), show how much results vary by chance",
        "return config",
    ]
    return lines


def python_call(found: FolderContents, name: str) -> str:
    """A line of Python that reads the same data as the config of `config_text`."""
    default = flatten(DataConfig().to_dict())
    options = {"name": name} | {
        field: value for field, value in _of_data(found).items() if value != default[field]
    }
    options |= {field: "" for field in known_tables(str(found.folder)) if field not in options}
    columns = {
        field.removeprefix(COLUMNS): options.pop(field)
        for field in list(options)
        if field.startswith(COLUMNS)
    }
    arguments = [_text(str(found.folder.resolve()))]
    arguments += [f"{field}={_text(value)}" for field, value in options.items()]
    if columns:
        arguments.append(f"columns={_text(columns)}")
    skip = '  # with bad_rows="skip" it leaves out the rows that a run refuses' * found.bad_rows
    return f"import grasp_jax as gj; data = gj.Dataset.read({', '.join(arguments)}){skip}"


def _of_data(found: FolderContents) -> dict[str, str]:
    """Fields of the section `data` that say which files and columns are read."""
    fields = {"interactions_file": found.interactions.path.name}
    if found.interactions.path.name != KNOWN_NAMES[0]:  # which has no names of columns
        fields |= {COLUMNS + of: found.columns[of] for of in ("user", "item", "timestamp")}
    if found.items is not None:
        fields |= {
            "items_file": found.items.path.name,
            "items_id_column": found.item_id,
            "title_column": found.title,
        }
    if found.users is not None:
        fields |= {"users_file": found.users.path.name, "users_id_column": found.user_id}
    return fields


def _lines_of_data(found: FolderContents) -> list[str]:
    """`_of_data` as lines of the config, and further settings as comments."""
    notes = {f"{COLUMNS}timestamp": "empty: the order of the rows in the file counts"}
    lines = [
        _set(f"data.{field}", value) + (f"  # {notes[field]}" if not value else "")
        for field, value in _of_data(found).items()
    ]
    if found.bad_rows:
        skip = _set("data.bad_rows", SKIP)
        lines.append(
            f"# {skip}  # leaves out the rows that a run refuses; it says how many and why"
        )
    if rating := found.columns.get("rating"):
        lines += [
            f"# {_set('data.columns.rating', rating)}",
            "# config.data.min_rating = 4.0  # rows with a lower rating are not used in training; this needs the line above too",
        ]
    return lines


def batch_size(found: FolderContents) -> int:
    """The default of `train.batch_size`, or less where that makes few steps in an epoch."""
    size = TrainConfig().batch_size
    while size > SMALLEST_BATCH and 0 < found.num_users < size * LEAST_STEPS:
        size //= 2
    return size


def _lines_of_ranking(found: FolderContents) -> list[str]:
    """The protocol of validation: without the items that the user has had, unless many users take items again."""
    if found.repeated <= MANY_REPEATS:
        why = 'Validation ranks the items that the user has not had, as the service does; "full" ranks all, if people buy items again.'
        return [*_comment(why), _set("eval.select", "full_unseen")]
    why = (
        f"Of the users, {100 * found.repeated:.0f} % had their last item before, so validation ranks all items, and recommendations have "
        'items that the user has had. If they should have new items alone: "full_unseen", and True.'
    )
    return [
        *_comment(why),
        _set("eval.select", "full"),
        "config.recommend.exclude_seen = False",
    ]


def _lines_of_sizes(found: FolderContents) -> list[str]:
    """A longer history that may be set where the default leaves out interactions, and the batch size if it is not the default."""
    lines = []
    if (length := min(found.usual_length, LONGEST)) > DataConfig().max_length:
        lines += _comment(
            f"Models read the newest {DataConfig().max_length} interactions of a user, and training leaves out older ones. Nine tenths of "
            f"the users have at most {found.usual_length}. More of them make an epoch longer, and are not always better."
        )
        lines.append(f"# config.data.max_length = {length}")
    if (size := batch_size(found)) < TrainConfig().batch_size:
        lines += _comment(
            "An epoch has one step for each batch_size users. With few users, the default makes few steps, so training needs many epochs."
        )
        lines.append(f"config.train.batch_size = {size}")
    return lines


def _of_negatives(found: FolderContents) -> list[str]:
    """Sets fewer negatives than the default if some user has too few items left."""
    left = found.items_left()
    if left is None or not 0 < left < EvalConfig().num_negatives:
        return []
    why = "The protocol sampled100 ranks a test item among so many items that the user never had. No user has more of them left."
    return [*_comment(why), f"config.eval.num_negatives = {left}"]


def _set(field: str, value: str) -> str:
    return f"config.{field} = {_text(value)}"


def _text(value: str | dict[str, str]) -> str:
    """Texts as a Python literal."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    """A text as comment lines; those after its first line are commands, and stay whole."""
    text, *commands = text.split("\n")
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > MOST_LETTERS and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return [*lines, line, *(f"#   {' '.join(command.splitlines())}" for command in commands)]
