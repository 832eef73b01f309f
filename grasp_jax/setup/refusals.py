"""Why no config can be written for a folder, and what to do about it."""

import itertools
import json
import pathlib
import shlex
from collections.abc import Iterator, Sequence

from grasp_jax.core.errors import UserError
from grasp_jax.data.columns import listed
from grasp_jax.data.delimited import DELIMITERS, refuse_data_as_header
from grasp_jax.data.file_parts import parts_of
from grasp_jax.data.rewriting import into, unpacked
from grasp_jax.data.table_files import COMPRESSIONS, ending_of
from grasp_jax.setup import names
from grasp_jax.setup.sample import FORMS, PAIR, Sample

RECBOLE = ".inter"  # the atomic file that holds interactions
MOVIELENS = {  # ratings -> a data set of `grasp-jax fetch`, and its file of films
    "u.data": ("movielens-100k", "u.item"),
    "ratings.dat": ("movielens-1m", "movies.dat"),
}
TEXT = (".dat", ".data", ".txt")
HEADER = "; a text file needs names of columns in its first line and the ending .csv, or .tsv if its fields are separated by tabs"
READ = {  # functions of pandas
    ".csv": ("read_csv", ", dtype=str"),
    ".tsv": ("read_csv", ', dtype=str, sep="\\t"'),
    ".json": ("read_json", ", lines=True, dtype=False"),
    ".jsonl": ("read_json", ", lines=True, dtype=False"),
    ".parquet": ("read_parquet", ""),
}
DEFAULT = {".csv": ",", ".tsv": "\t"}  # delimiters
EXPECTED = "expected interactions as .csv, .tsv, .jsonl (also .gz, .zst) or .parquet"


def refuse_parts(folder: pathlib.Path, chosen: Sample, pairs: Sequence[Sample]) -> None:
    """Refuses files with the same columns, which are parts of one table: a single one would be trained on as if it were all.

    Args:
      folder: where they are.
      chosen: the interactions.
      pairs: all tables with users and items.

    Raises:
      UserError: another file has the columns of `chosen`.
    """
    files = [
        table
        for table in pairs
        if table.path.is_file()
        and (table.table.form, table.names) == (chosen.table.form, chosen.names)
    ]
    if chosen.path.is_dir() or len(files) < 2:
        return
    paths = [table.path for table in files]
    shown = listed([path.name for path in paths], 3)
    raise UserError(
        f"{folder}: {len(files)} {chosen.table.form} files have the same columns ({shown}); if they are parts of one table, "
        f"{_unlike(files) or _joined(folder, paths)}; else leave one of them here"
    )


def _unlike(files: Sequence[Sample]) -> str:
    """What to do first with parts that have other delimiters than most of them: joined as they are, they would be no table."""
    delimiters = [file.table.delimiter for file in files]
    usual = max(delimiters, key=delimiters.count)
    others = [file for file in files if file.table.delimiter != usual]
    if not others:
        return ""
    shown = ", ".join(
        f"{file.path.name} (separated by {DELIMITERS[file.table.delimiter]})" for file in others
    )
    return f"rewrite {shown} with {DELIMITERS[usual]} between fields as in the others, then run this again"


def _joined(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> str:
    """How parts become one table."""
    ending = ending_of(paths[0])[0]
    if ending == ".parquet":
        if len(paths) == len(parts_of(folder)):
            above = shlex.quote(str(folder.resolve().parent))
            return f"look at the folder above: grasp-jax init {above}"
        return f"move them to a folder of their own, such as {folder / 'interactions.parquet'}"
    moved = " ".join(shlex.quote(path.name) for path in paths)
    moved_files = [pathlib.Path("parts") / path.name for path in paths]
    first = "NR == 1 || " * (ending in (".csv", ".tsv"))
    if any(ending_of(path)[1] for path in paths):
        rest = "'NR > 1'" if first else "1"
        parts = [unpacked(path, f"awk {rest if k else 1}") for k, path in enumerate(moved_files)]
        join = f"({' && '.join(parts)})"
    else:
        lines = "FNR > 1" if first else "1"
        names_of_parts = " ".join(shlex.quote(str(path)) for path in moved_files)
        join = f"awk {shlex.quote(first + lines)} {names_of_parts}"
    return (
        f"join them: cd {shlex.quote(str(folder.resolve()))} && mkdir parts && mv {moved} parts && "
        + into(join, f"interactions{ending}")
    )


def why_nothing(
    folder: pathlib.Path, samples: Sequence[Sample], unread: Sequence[str]
) -> UserError:
    """The error of a folder without a table of users with items.

    Args:
      folder: where.
      samples: its tables.
      unread: what is wrong with files that are not tables.
    """
    entries = sorted(entry.name for entry in folder.iterdir())
    if any(name.endswith(RECBOLE) for name in entries):
        return UserError(
            f"{folder}: RecBole's atomic files ({listed(entries)}); expected a table of users and items; "
            f"make one: grasp-jax convert recbole {shlex.quote(str(folder))} NEW_FOLDER"
        )
    if original := next((name for name in MOVIELENS if name in entries), ""):
        return _of_movielens(folder, original)
    others = no_tables(folder)
    also = f"; not read because of their endings: {listed(others)}" if others else ""
    if samples:
        return _no_pair(folder, samples, unread, also)
    if unread:
        return UserError(f"{unread[0]}{also}")
    text = any(name.endswith(TEXT) for name in others)
    return UserError(
        f"{folder}: no table in it; it holds {listed(entries) if entries else 'nothing'}; "
        f"{'; '.join(misspelled(folder)) or EXPECTED}{HEADER * text}"
    )


def _of_movielens(folder: pathlib.Path, original: str) -> UserError:
    """The error of ratings in the form of MovieLens, which may be other data: the files at hand are converted, not downloaded again."""
    name, films = MOVIELENS[original]
    told = f"{folder}: {original} is a file in the form of MovieLens, without names of columns; expected a table of users and items; "
    if not (folder / films).is_file():
        return UserError(
            f"{told}write one with the columns user, item, rating and timestamp to interactions.csv"
        )
    files = " ".join(shlex.quote(str(folder.resolve() / file)) for file in (original, films))
    zipped = shlex.quote(_new_zip(folder.resolve()))
    return UserError(
        f"{told}make one of these files, which needs no network: python -m zipfile -c {zipped} {files} && "
        f"grasp-jax fetch {name} --archive={zipped} --into=NEW_FOLDER"
    )


def _new_zip(data: pathlib.Path) -> str:
    """A file that is not there yet: where the user stands, or above the data if the user stands in them."""
    place = pathlib.Path("..") if data == pathlib.Path.cwd() else pathlib.Path()
    called = itertools.chain(["own.zip"], (f"own_{k}.zip" for k in itertools.count(2)))
    return str(next(path for path in map(place.joinpath, called) if not path.exists()))


def _no_pair(
    folder: pathlib.Path, samples: Sequence[Sample], unread: Sequence[str], also: str
) -> UserError:
    """The error of tables of which none has both users and items; of files of one kind, the largest are named."""
    ordered = sorted(samples, key=lambda table: table.size, reverse=True)
    for table in ordered:
        try:
            refuse_data_as_header(table.table, PAIR)
        except UserError as error:
            return UserError(f"{error}{also}")
    users = [table for table in ordered if names.found(table.names, names.USER)]
    items = [table for table in ordered if names.found(table.names, names.ITEM)]
    if users and items:
        what = _in_two_files(users, items)
    else:
        table = (users or items or ordered)[0]
        lacks = "its column of items to item" if users else "its column of users to user"
        remedy = lacks if users or items else "two columns to user and item"
        what = (
            f"{table.path.name} has {listed(table.names)}; rename {remedy}, or name both columns in a config of your own "
            "(config.data.columns.user and config.data.columns.item), in Python gj.Dataset.read(FILE, columns={'user': NAME, 'item': NAME})"
        )
    left_out = f"; not readable, and left out: {unread[0]}" if unread else ""
    return UserError(
        f"{folder}: no file has both a column of users and one of items; {what}{left_out}{also}"
    )


def _in_two_files(users: Sequence[Sample], items: Sequence[Sample]) -> str:
    """What to do with users in one file and items in another: the first two that share columns can be joined."""
    shared = (
        (of_users, of_items, keys)
        for of_users in users
        for of_items in items
        if (keys := [name for name in of_users.names if name in of_items.names])
    )
    nothing: tuple[Sample, Sample, list[str]] = (users[0], items[0], [])
    of_users, of_items, keys = next(shared, nothing)
    has = f"{_has(of_users, names.USER, 'users')} and {_has(of_items, names.ITEM, 'items')}"
    if not keys:
        return f"{has}, and no column is in both; if one file has users and items under other names, rename its columns to user and item"
    keys = _keys(of_users, of_items, keys)
    return (
        f"{has}; join them by {' and '.join(map(repr, keys))} to one table with a row for each item, "
        f"in pandas: {_merge(of_users, of_items, keys)}"
    )


def _keys(of_users: Sample, of_items: Sample, shared: list[str]) -> list[str]:
    """All columns that two tables share; or the one with the most values, if few rows find their partner by all.

    A date of an order, for example, may not be that of its lines.
    """
    best = max(shared, key=lambda name: len(set(_values(of_users, [name]))))
    known, by_best = set(_values(of_users, shared)), set(_values(of_users, [best]))
    both = sum(value in known for value in _values(of_items, shared))
    single = sum(value in by_best for value in _values(of_items, [best]))
    return shared if 2 * both >= single else [best]


def _values(table: Sample, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The values of some columns, as texts, in each row."""
    found = [table.table.columns[name] for name in columns]
    lists = [values if isinstance(values, list) else values.to_pylist() for values in found]
    # bytes of CSV may stand for the numbers of JSON
    texts = [
        [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in values
        ]
        for values in lists
    ]
    return [*zip(*texts, strict=True)]


def _merge(of_users: Sample, of_items: Sample, keys: Sequence[str]) -> str:
    """Python that joins two tables; ids of CSV and TSV stay as they are written, and so do the names of the users' table."""
    tables = [in_pandas(table) for table in (of_users, of_items)]
    out = json.dumps(str(of_users.path.resolve().with_name("interactions.csv")), ensure_ascii=False)
    on = json.dumps(list(keys), ensure_ascii=False)
    return (
        f'import pandas as pd; {tables[0]}.merge({tables[1]}, on={on}, suffixes=("", "_2"))'
        f".to_csv({out}, index=False)"
    )


def in_pandas(table: Sample) -> str:
    """Python that reads a table with pandas, imported as pd."""
    path = json.dumps(str(table.path.resolve()), ensure_ascii=False)
    read, options = READ[ending_of(table.path)[0]]
    if table.table.is_delimited and table.table.delimiter != DEFAULT[ending_of(table.path)[0]]:
        options = f", dtype=str, sep={json.dumps(table.table.delimiter)}"
    return f"pd.{read}({path}{options})"


def _has(table: Sample, wanted: Sequence[str], what: str) -> str:
    return f"{table.path.name} has {what} ({names.found(table.names, wanted)[0]!r})"


def no_tables(folder: pathlib.Path) -> list[str]:
    """The names of files that are not read because of their endings."""
    return [path.name for path in _files(folder) if ending_of(path)[0] not in (*FORMS, ".parquet")]


def misspelled(folder: pathlib.Path) -> list[str]:
    """A line for each file that is not read because its ending is not in lower case."""
    lines = []
    for path in _files(folder):
        lower = path.with_name(_in_lower_case(path.name))
        known = ending_of(lower)[0] in (*FORMS, ".parquet")
        if known and ending_of(path) != ending_of(lower):
            command = f"mv {shlex.quote(str(path))} {shlex.quote(str(lower))}"
            lines.append(
                f"{path.name} is not read; expected its ending in lower case; rename it: {command}"
            )
    return lines


def _in_lower_case(name: str) -> str:
    """A file name with its ending, and that before a compression's, in lower case."""
    path = pathlib.PurePath(name)
    suffix = path.suffix.lower()
    stem = _in_lower_case(path.stem) if suffix in COMPRESSIONS else path.stem
    return stem + suffix


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    )
