"""Which folders are one Parquet table in parts, as Spark and other jobs write them, and which files these parts are."""

import os
import pathlib
from typing import Any

from grasp_jax.core.errors import UserError

MAGIC = b"PAR1"  # how a Parquet file begins


def parts_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The parts of a folder in the order in which they are read, by their names: its `.parquet` files and those in its partitions, folders
    called `name=value`.
    """
    if not folder.is_dir():
        return []
    direct = [
        path for path in folder.glob("*.parquet") if path.is_file() and _is_visible(path.name)
    ]
    partitions = (path for path in folder.glob("*=*") if path.is_dir() and _is_visible(path.name))
    within = [
        path for partition in partitions for path in _files(partition) if path.suffix == ".parquet"
    ]
    return sorted([*direct, *within], key=lambda path: path.as_posix())


def checked_parts(folder: pathlib.Path) -> list[pathlib.Path]:
    """The parts of a folder (`parts_of`), once it is checked that every file of it is one.

    Raises:
      UserError: it has no parts, or a file that is none: a copy must not be read as further rows, and a part must not be left out.
    """
    parts = parts_of(folder)
    part_set = set(parts)
    if other_file := next((path for path in _files(folder) if path not in part_set), None):
        raise UserError(
            f"{other_file}: not a part of the table {folder}; expected only .parquet files in that folder, or in partitions, which are "
            f"folders called NAME=VALUE; {_remedy(other_file, folder)}"
        )
    if not parts:
        raise UserError(f"{folder}: a folder without .parquet files; remove it, or put them there")
    return parts


def open_parts(folder: pathlib.Path) -> Any:
    """The `pyarrow.dataset.Dataset` of the parts; a partition's name is a column.

    Raises:
      UserError: as `checked_parts`.
    """
    from pyarrow import dataset  # takes a while, and only such folders need it

    files = [str(path) for path in checked_parts(folder)]
    return dataset.dataset(
        files, format="parquet", partitioning="hive", partition_base_dir=str(folder)
    )


def check_column(folder: pathlib.Path, name: str) -> None:
    """Refuses a table with a part that lacks a column: the part would be read as rows without a value in it.

    Raises:
      UserError: naming the part and its columns.
    """
    import pyarrow.parquet

    for part in parts_of(folder):
        partitions = [of.partition("=")[0] for of in part.relative_to(folder).parts[:-1]]
        try:
            names = pyarrow.parquet.read_schema(part).names
        except (pyarrow.ArrowException, OSError):
            continue  # the reader of this part says what is wrong with it
        if name not in (*names, *partitions):
            raise UserError(
                f"{part}: no column {name!r}, which other parts of this table have; it has {', '.join(names)}; "
                "rename the column there, or move the file out"
            )


def is_parquet_folder(path: pathlib.Path) -> bool:
    """Whether the name of a folder says that it is a table."""
    return path.suffix == ".parquet" and path.is_dir()


def is_in_parts(path: pathlib.Path) -> bool:
    """Whether a folder is a table: by its name, or because it holds parts."""
    return is_parquet_folder(path) or bool(parts_of(path))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder and its subfolders, without hidden ones, which jobs write for themselves; links are followed."""
    found = []
    for name, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(_is_visible, folders))
        found += [pathlib.Path(name, file) for file in sorted(files) if _is_visible(file)]
    return found


def _remedy(other_file: pathlib.Path, folder: pathlib.Path) -> str:
    """What to do with a file that is no part of the table in its folder. If it holds rows, it is a part under a wrong name, or a copy."""
    copy = "if it is a copy of one, move it out"
    if other_file.suffix == ".parquet" and other_file.parent != folder:
        within = folder / other_file.relative_to(folder).parts[0]
        named = within.with_name(f"part={within.name}")
        return f"if it is to be a part, rename the folder {within} to {named}, for example; {copy}"
    if _begins_as_parquet(other_file):
        return f"if it is to be a part, rename it so that its name ends in .parquet; {copy}"
    return "move it out"


def _begins_as_parquet(path: pathlib.Path) -> bool:
    """Whether the content is Parquet, whatever the name; not if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "_"))
