"""`grasp-jax convert KIND FOLDER NEW_FOLDER`: converts data of RecBole, RecTools, UniSRec and LLM-ESR to the format of this project."""

import itertools
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_object
from grasp_jax.core.flags import command_parser, filled
from grasp_jax.core.paths import check_folder
from grasp_jax.data.columns import bare, listed
from grasp_jax.data.delimited import read_delimited
from grasp_jax.data.table_files import read_table
from grasp_jax.data.tables import SourceTable, values_of
from grasp_jax.setup import names
from grasp_jax.setup.converted import Converted, only_file, text_lines, write_converted
from grasp_jax.setup.sample import readable

REMEDY = "restore the file"
UNSTATED = "are not text, and are left out"


def recbole(folder: pathlib.Path) -> Converted:
    """RecBole's atomic files: NAME.inter, and NAME.item and NAME.user where they are; columns are `name:type`.

    Raises:
      UserError: there is no such file, or it lacks a column of users or items.
    """
    inter = only_file(folder, ".inter", "RecBole's atomic files")
    table = _atomic(inter)
    columns = {
        "user": _needed(table, names.USER, "users"),
        "item": _needed(table, names.ITEM, "items"),
    }
    for purpose, wanted in (("timestamp", names.TIME), ("rating", names.RATING)):
        if found := names.found(list(table.columns), wanted):
            columns[purpose] = found[0]
    interactions = {purpose: values_of(table, name) for purpose, name in columns.items()}
    notes = (
        []
        if "timestamp" in columns
        else ["no column of times: the rows are taken to be in the order of time"]
    )
    items, users = (
        _atomic_rows(inter.with_suffix(ending), wanted, kind)
        for ending, wanted, kind in ((".item", names.ITEM, "item"), (".user", names.USER, "user"))
    )
    return Converted(interactions, items, users, tuple(notes))


def rectools(folder: pathlib.Path) -> Converted:
    """RecTools' columns: a table with user_id, item_id and datetime (weight is kept), and features as id, feature, value.

    Raises:
      UserError: no table has those columns, or several have.
    """
    tables = (
        [read_table(path) for path in sorted(folder.iterdir()) if readable(path)]
        if folder.is_dir()
        else []
    )
    pairs = [table for table in tables if {"user_id", "item_id", "datetime"} <= set(table.columns)]
    if len(pairs) != 1:
        raise UserError(
            f"{folder}: {len(pairs)} tables with the columns user_id, item_id and datetime; expected one, as RecTools has it"
        )
    named = {"user": "user_id", "item": "item_id", "timestamp": "datetime"}
    named |= {"weight": "weight"} if "weight" in pairs[0].columns else {}
    interactions = {purpose: values_of(pairs[0], name) for purpose, name in named.items()}
    known = {kind: {str(value) for value in interactions[kind]} for kind in ("user", "item")}
    rows: dict[str, dict[str, dict[str, Any]]] = {"item": {}, "user": {}}
    for table in tables:
        if {"id", "feature", "value"} <= set(table.columns):
            ids = {str(value) for value in values_of(table, "id")}
            kind = max(rows, key=lambda kind, ids=ids: len(ids & known[kind]))  # type: ignore[misc]
            _add_features(rows[kind], table, kind)
    items = list(rows["item"].values())
    lacking = "no feature is called title: name one with config.data.title_column"
    notes = [lacking] if items and not any("title" in row for row in items) else []
    return Converted(interactions, items, list(rows["user"].values()), tuple(notes))


def unisrec(folder: pathlib.Path) -> Converted:
    """UniSRec's downstream files: NAME.train.inter, .valid.inter and .test.inter joined to whole histories, texts of NAME.text.

    Raises:
      UserError: a file is missing or has a row of another shape.
    """
    test = only_file(folder, ".test.inter", "UniSRec's downstream data")
    name = test.name.removesuffix(".test.inter")
    histories: dict[str, list[str]] = {}
    for _, group in itertools.groupby(
        _rows(folder / f"{name}.train.inter"), key=lambda row: row[0]
    ):
        # the newest target first; the last row holds what came before all targets
        shown = list(group)
        histories[shown[0][0]] = [*shown[-1][1].split(), *(row[2] for row in reversed(shown))]
    for part in ("valid", "test"):
        for user, before, target in _rows(folder / f"{name}.{part}.inter"):
            histories[user] = [*(histories.get(user) or before.split()), target]
    of_items, of_users = (_indexed(folder / f"{name}.{kind}2index") for kind in ("item", "user"))
    pairs = [
        (of_users.get(user, user), of_items.get(item, item))
        for user, bought in histories.items()
        for item in bought
    ]
    items = []
    if (folder / f"{name}.text").is_file():
        for line in text_lines(folder / f"{name}.text")[1:]:
            item, _, text = line.partition("\t")
            items.append({"item": of_items.get(item, item), "title": text.strip()})
    notes = ("the vectors (*.feat1CLS) " + UNSTATED, "an item's whole text stands as its title")
    return Converted(_columns(pairs), items, (), notes)


def llm_esr(folder: pathlib.Path) -> Converted:
    """LLM-ESR's `handled` folder, or the one above it: inter.txt or inter_seq.txt, id_map.json, item2attributes.json.

    Raises:
      UserError: there are no interactions, or a file is not what its name says.
    """
    folder = folder / "handled" if (folder / "handled").is_dir() else folder
    path = next(
        (folder / name for name in ("inter.txt", "inter_seq.txt") if (folder / name).is_file()),
        None,
    )
    if path is None:
        raise UserError(
            f"{folder}: neither inter.txt nor inter_seq.txt; expected LLM-ESR's folder `handled`"
        )
    maps = read_object(folder / "id_map.json", REMEDY) if (folder / "id_map.json").is_file() else {}
    users, items = (_mapping(folder, maps, name) for name in ("id2user", "id2item"))
    pairs = []
    for number, line in enumerate(text_lines(path), start=1):
        user, *bought = line.split()
        if not bought:
            raise UserError(
                f"{path}: line {number}: {line[:60]!r}; expected a user and one or more items"
            )
        pairs += [(users.get(user, user), items.get(item, item)) for item in bought]
    rows = []
    if (attributes := folder / "item2attributes.json").is_file():
        rows = [
            {"item": item} | _attributes(fields)
            for item, fields in read_object(attributes, REMEDY).items()
            if isinstance(fields, dict)
        ]
    return Converted(
        _columns(pairs),
        rows,
        (),
        ("the pickled vectors (*.pkl) are never loaded, because a pickle can run a program",),
    )


KINDS: dict[str, Callable[[pathlib.Path], Converted]] = {
    "recbole": recbole,
    "rectools": rectools,
    "unisrec": unisrec,
    "llm_esr": llm_esr,
}
USAGE = f"grasp-jax convert {'|'.join(KINDS)} FOLDER NEW_FOLDER"
ABOUT = """\
Reads the data of another project and writes interactions.csv and, if there are texts, items.jsonl and users.jsonl into NEW_FOLDER.

  recbole   RecBole's atomic files: NAME.inter, and NAME.item and NAME.user if they exist
  rectools  a table with the columns user_id, item_id and datetime, and tables of features with the columns id, feature and value
  unisrec   the folder of one data set of UniSRec: NAME.train.inter, NAME.valid.inter, NAME.test.inter and NAME.text
  llm_esr   LLM-ESR's folder "handled\""""
EXAMPLES = """\
example:
  grasp-jax convert recbole dataset/ml-100k data/ml-100k
  grasp-jax init data/ml-100k"""


def main(arguments: Sequence[str]) -> None:
    """Runs the command; `arguments` are those after `convert`.

    Raises:
      UserError: they are not understood, or what the converters raise.
    """
    parser = command_parser(USAGE, ABOUT, EXAMPLES)
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help="whose data they are")
    parser.add_argument("folder", metavar="FOLDER", type=filled, help="folder of the data")
    parser.add_argument("out", metavar="NEW_FOLDER", help="folder of the files to be written")
    given = parser.parse_args(arguments)
    out = check_folder(given.out, "NEW_FOLDER")
    data = KINDS[given.kind](pathlib.Path(given.folder).expanduser())
    for path in write_converted(data, out):
        print(f"wrote {path}")
    for note in data.notes:
        print(f"note: {note}")
    print(f"next: grasp-jax init {shlex.quote(str(out))}")


def _atomic(path: pathlib.Path) -> SourceTable:
    return read_delimited(path, path.read_bytes(), "RecBole", "\t")


def _needed(table: SourceTable, wanted: Sequence[str], what: str) -> str:
    found = names.found(list(table.columns), wanted)
    if not found:
        raise UserError(
            f"{table.path}: no column of {what}; it has {listed(table.columns)}; rename one to {wanted[1]}:token"
        )
    return found[0]


def _atomic_rows(path: pathlib.Path, wanted: Sequence[str], kind: str) -> list[dict[str, Any]]:
    """Rows of NAME.item or NAME.user, columns without their types; the id is called `kind`."""
    if not path.is_file():
        return []
    table = _atomic(path)
    id_column = _needed(table, wanted, f"{kind}s")
    titles = names.found(list(table.columns), names.TITLE) if kind == "item" else []
    called = {name: bare(name) for name in table.columns} | {id_column: kind}
    if titles:
        called[titles[0]] = "title"
    columns = [values_of(table, name) for name in called]
    return [dict(zip(called.values(), row, strict=True)) for row in zip(*columns, strict=True)]


def _add_features(rows: dict[str, dict[str, Any]], table: SourceTable, kind: str) -> None:
    """Long features as rows: a list where an id has several values of one feature."""
    columns = [values_of(table, name) for name in ("id", "feature", "value")]
    for key, feature, value in zip(*columns, strict=True):
        row = rows.setdefault(str(key), {kind: key})
        if str(feature) not in row:
            row[str(feature)] = value
        else:
            held = row[str(feature)]
            row[str(feature)] = [*(held if isinstance(held, list) else [held]), value]


def _rows(path: pathlib.Path) -> list[list[str]]:
    """User, earlier items and target of each row of a split file."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; expected the three files .train.inter, .valid.inter and .test.inter"
        )
    rows = [line.split("\t") for line in text_lines(path)[1:]]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise UserError(
                f"{path}: row {number} has {len(row)} fields; expected user, item list and item, between tabs"
            )
    return rows


def _indexed(path: pathlib.Path) -> dict[str, str]:
    """Number -> id from a file with lines `id number`; empty if there is no file."""
    if not path.is_file():
        return {}
    pairs = (line.split("\t") for line in text_lines(path))
    return {pair[1].strip(): pair[0] for pair in pairs if len(pair) == 2}


def _mapping(folder: pathlib.Path, maps: Mapping[str, Any], name: str) -> dict[str, str]:
    mapping = maps.get(name, {})
    if not isinstance(mapping, dict):
        raise UserError(
            f"{folder / 'id_map.json'}: {name} is a {type(mapping).__name__}; expected an object; {REMEDY}"
        )
    return {str(number): str(raw) for number, raw in mapping.items()}


def _attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Texts, numbers and lists of an item; a name is its title, lists in lists are flat, tables and addresses are left out."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, list):
            value = [
                str(part) for one in value for part in (one if isinstance(one, list) else [one])
            ]
        if isinstance(value, (str, int, float, list)) and name not in ("asin", "imUrl"):
            found["title" if name == "name" and "title" not in fields else name] = value
    return found


def _columns(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {"user": [user for user, _ in pairs], "item": [item for _, item in pairs]}
