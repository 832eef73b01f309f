"""Which folders are one Parquet table in parts, as Spark and other jobs write them."""

import pathlib


def parts_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The parts of a folder, in the order of their names: its `.parquet` files and those in its partitions, folders called `name=value`."""
    if not folder.is_dir():
        return []
    direct = [path for path in folder.glob("*.parquet") if path.is_file() and _is_shown(path)]
    partitions = (path for path in folder.glob("*=*") if path.is_dir())
    within = [path for own in partitions for path in own.rglob("*.parquet") if _is_shown(path)]
    return sorted([*direct, *within])


def is_called_parquet(path: pathlib.Path) -> bool:
    """Whether a folder says by its name that it is a table."""
    return path.suffix == ".parquet" and path.is_dir()


def is_in_parts(path: pathlib.Path) -> bool:
    """Whether a folder is a table: by its name, or because it holds parts."""
    return is_called_parquet(path) or bool(parts_of(path))


def _is_shown(path: pathlib.Path) -> bool:
    return not path.name.startswith((".", "_"))
