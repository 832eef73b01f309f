"""Titles of items that stand in the interactions, and how they become a table of items."""

import itertools
import json
import pathlib
import shlex

from grasp_jax.data.tables import values_of
from grasp_jax.setup import names
from grasp_jax.setup.refusals import in_pandas
from grasp_jax.setup.sample import Sample

MOST_TITLES = 1.5  # of an item on average; a column with more is of something else, such as reviews


def titles_in_log(log: Sample, item: str) -> str:
    """What to do about a column of titles, with a command in a second line; empty if there is none.

    Args:
      log: the interactions.
      item: their column of items.
    """
    title = next(iter(names.found(log.names, names.TITLE)), "")
    if not title or title == item:
        return ""
    pairs = {
        (str(of), str(text))
        for of, text in zip(values_of(log.table, item), values_of(log.table, title), strict=True)
        if text
    }
    if not pairs or len(pairs) > MOST_TITLES * len({of for of, _ in pairs}):
        return ""
    columns = {item: "item", title: "title"}
    path = _free(log.path.resolve())
    chosen, key, called, out = (
        json.dumps(value, ensure_ascii=False) for value in ([*columns], item, columns, str(path))
    )
    code = (
        f"import pandas as pd; {in_pandas(log)}[{chosen}].dropna().drop_duplicates({key})"
        f".rename(columns={called}).to_csv({out}, index=False)"
    )
    return (
        f"; column {title!r} of {log.path.name} seems to have their titles: the command below, which needs pandas, makes {path.name} "
        f"of it; then run grasp-jax init again\npython -c {shlex.quote(code)}"
    )


def _free(log: pathlib.Path) -> pathlib.Path:
    """A file next to the interactions that is not there yet, so that the command overwrites nothing."""
    own = f"items_from_{log.name.partition('.')[0]}"
    others = (f"{own}_{k}.csv" for k in itertools.count(2))
    called = itertools.chain(["items.csv", f"{own}.csv"], others)
    return next(path for path in map(log.with_name, called) if not path.exists())
