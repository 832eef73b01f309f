"""What the files of a folder are: interactions, items, users, and which column is what; and what could not be decided."""

import contextlib
import dataclasses
import pathlib
import shlex
from collections.abc import Mapping, Sequence

import numpy as np

from grasp_jax.data.columns import listed
from grasp_jax.data.identifiers import id_column
from grasp_jax.data.parts import parts_of
from grasp_jax.data.readers import KNOWN_NAMES
from grasp_jax.data.tables import Table, values_of
from grasp_jax.data.times import time_column
from grasp_jax.errors import UserError
from grasp_jax.knowledge.text.columns import why_no_text
from grasp_jax.setup import names
from grasp_jax.setup.sample import Sample, readable, sample

ATOMIC = (".inter", ".item", ".user")  # RecBole's files
MOST_MISSING = 0.05  # as config.data.max_missing_text


@dataclasses.dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
      folder: where.
      interactions: file of the interactions; None for `inter.txt`, which has no names of columns.
      columns: purpose ("user", "item", "timestamp", "rating") -> column; an empty timestamp: the rows are in the order of time.
      items: table of items, or None; `item_id` and `title` are its columns.
      users: table of users, or None; `user_id` is its column.
      lines: what was found, for people.
      open: what could not be decided, for people.
    """

    folder: pathlib.Path
    interactions: Sample | None
    columns: dict[str, str]
    items: Sample | None = None
    item_id: str = ""
    title: str = ""
    users: Sample | None = None
    user_id: str = ""
    lines: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    def items_left(self) -> int | None:
        """How many items the user with the most items never had; None where not all rows were looked at."""
        own = self.interactions
        if own is None or not own.whole or not (self.items is None or self.items.whole):
            return None
        try:
            users, items = (id_column(own.table, self.columns[of], []) for of in ("user", "item"))
            catalogue = id_column(self.items.table, self.item_id, []) if self.items else items
        except UserError:
            return None  # a run names the row at fault
        pairs = np.unique(np.stack([_codes(users), _codes(items)]), axis=1)
        return len(np.unique(catalogue)) - int(np.bincount(pairs[0]).max(initial=0))


def look(folder: pathlib.Path) -> Found:
    """Looks at the files of a folder.

    Raises:
      UserError: it is no folder, holds no table of users with items, or a file that is needed is not readable.
    """
    if not folder.is_dir():
        why = "a file" if folder.is_file() else "no such folder"
        raise UserError(f"{folder}: {why}; expected the folder that holds your interactions")
    samples, unread = _samples(folder)
    pairs = [own for own in samples if _is_interactions(own)]
    if not pairs and (folder / KNOWN_NAMES[0]).is_file():
        line = f"interactions: {KNOWN_NAMES[0]}, lines 'user item' in the order of time"
        return Found(folder, None, {}, lines=(line,), open=tuple(unread))
    if not pairs:
        raise UserError(_nothing(folder, samples))
    _refuse_parts(folder, pairs)
    chosen, undecided = _chosen(pairs)
    columns, more = _columns(chosen)
    lines = [f"interactions: {chosen.path.name} ({chosen.table.form}), {chosen.said}"]
    lines.append(
        "columns: " + ", ".join(f"{what} is {name!r}" for what, name in columns.items() if name)
    )
    found = Found(folder, chosen, columns)
    rest = [own for own in samples if own not in pairs]
    found, of_items = _with_items(found, rest)
    found, of_users = _with_users(found, [own for own in rest if own is not found.items])
    undecided += [*more, *of_items, *of_users, *unread, *_refused(chosen, found.columns)]
    lines += [line for line in (_items_line(found), _users_line(found)) if line]
    return dataclasses.replace(found, lines=tuple(lines), open=tuple(undecided))


def _samples(folder: pathlib.Path) -> tuple[list[Sample], list[str]]:
    """The tables of a folder, and a line for each file that is not a table."""
    samples, unread = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == names.RECORD or not readable(path):
            continue
        try:
            samples.append(sample(path))
        except UserError as error:
            unread.append(f"not readable, and left out: {error}")
    if not samples and unread:
        raise UserError(unread[0].removeprefix("not readable, and left out: "))
    return samples, unread


def _is_interactions(own: Sample) -> bool:
    return bool(names.found(own.names, names.USER) and names.found(own.names, names.ITEM))


def _refuse_parts(folder: pathlib.Path, pairs: Sequence[Sample]) -> None:
    """Files with the same columns are one table: any of them alone would be trained on as if it were all."""
    files = [own for own in pairs if own.path.is_file() and own.table.form == "Parquet"]
    if len(files) < 2 or any(own.names != files[0].names for own in files):
        return
    if len(files) == len(parts_of(folder)):
        above = shlex.quote(str(folder.resolve().parent))
        mend = f"if they are parts of one table, look at the folder above: grasp-jax init {above}"
    else:
        mend = f"if they are parts of one table, move them to a folder of their own, such as {folder / 'interactions.parquet'}"
    raise UserError(
        f"{folder}: {len(files)} Parquet files have the same columns ({listed([own.path.name for own in files], 3)}); {mend}; "
        "else leave one of them here"
    )


def _nothing(folder: pathlib.Path, samples: Sequence[Sample]) -> str:
    entries = sorted(entry.name for entry in folder.iterdir())
    if any(name.endswith(ATOMIC) for name in entries):
        return (
            f"{folder}: RecBole's atomic files ({listed(entries)}); expected a table of users and items; "
            f"make one: grasp-jax convert recbole {folder} NEW_FOLDER"
        )
    if not samples:
        return (
            f"{folder}: no table in it; it holds {listed(entries) if entries else 'nothing'}; "
            "expected interactions as .csv, .tsv, .jsonl (also .gz, .zst) or .parquet"
        )
    own = samples[0]
    return (
        f"{folder}: no file has both a column of users and one of items; {own.path.name} has {listed(own.names)}; "
        "rename two columns to user and item"
    )


def _chosen(pairs: Sequence[Sample]) -> tuple[Sample, list[str]]:
    """The interactions among tables that have users and items: by name, then those with times and ratings, then the larger."""

    def sureness(own: Sample) -> tuple[bool, bool, bool, int]:
        known = own.path.name in KNOWN_NAMES
        timed, rated = bool(names.times(own.names)), bool(names.found(own.names, names.RATING))
        return known, timed, rated, own.size

    ordered = sorted(pairs, key=sureness, reverse=True)
    others = ", ".join(own.path.name for own in ordered[1:])
    said = f"{others} could be the interactions too; {ordered[0].path.name} was taken (config.data.interactions_file)"
    return ordered[0], [said] if others else []


def _columns(own: Sample) -> tuple[dict[str, str], list[str]]:
    """Columns of the interactions, and what was not sure of them."""
    undecided = []
    columns = {"user": "", "item": ""}
    for purpose, wanted in (("user", names.USER), ("item", names.ITEM)):
        candidates = names.found(own.names, wanted)
        columns[purpose] = candidates[0]
        if len(candidates) > 1:
            undecided.append(
                f"{purpose}s may also be in {listed(candidates[1:])}; {candidates[0]!r} was taken (config.data.columns.{purpose})"
            )
    columns["timestamp"], reasons = _time(own)
    undecided += reasons
    rating = names.found(own.names, names.RATING)
    if rating:
        columns["rating"] = rating[0]
        undecided.append(
            f"which ratings count as liked: all do, until config.data.min_rating is set ({rating[0]!r} has the ratings)"
        )
    return columns, undecided


def _time(own: Sample) -> tuple[str, list[str]]:
    """The first column of times that can be read, by the readers' own rules."""
    reasons = []
    for name in names.times(own.names):
        try:
            time_column(own.table, name)
        except UserError as error:
            reasons.append(f"column {name!r} was not used as the time: {error}")
            continue
        return name, []
    reasons.append(
        "when interactions happened: no column says it, so the rows are taken to be in the order of time (config.data.columns.timestamp)"
    )
    return "", reasons


def _with_items(found: Found, rest: Sequence[Sample]) -> tuple[Found, list[str]]:
    """The items table: the one whose ids are most often those of the interactions."""
    assert found.interactions is not None
    best: tuple[float, Sample, str, str] | None = None
    for own in rest:
        title = _title_of(own)
        for column in names.found(own.names, [*names.ITEM, *names.ID]):
            for item in names.found(found.interactions.names, names.ITEM):
                share = _share(found.interactions, item, own, column)
                if best is None or (share, bool(title)) > (best[0], bool(_title_of(best[1]))):
                    best = (share, own, column, item)
    if best is None or best[0] == 0:
        return found, [
            "what items are called: no table of items was found, so only methods without text can be trained (config.data.items_file)"
        ]
    share, own, column, item = best
    title = _title_of(own)
    if not title:
        said = f"{own.path.name}: no column looks like a title; it has {listed(own.names)}; set config.data.items_file and title_column"
        return found, [said]
    undecided = []
    if own.whole and found.interactions.whole and 1 - share > MOST_MISSING:
        undecided.append(
            f"{100 * (1 - share):.0f} % of the items have no row in {own.path.name}; a run refuses more than "
            f"{100 * MOST_MISSING:.0f} % until config.data.max_missing_text is raised"
        )
    columns = found.columns | {"item": item}
    return dataclasses.replace(
        found, items=own, item_id=column, title=title, columns=columns
    ), undecided


def _title_of(own: Sample) -> str:
    return next(iter(names.found(own.names, names.TITLE)), "")


def _with_users(found: Found, rest: Sequence[Sample]) -> tuple[Found, list[str]]:
    """The users table: as the items table, by ids."""
    assert found.interactions is not None
    for own in rest:
        for column in names.found(own.names, [*names.USER, *names.ID]):
            if _share(found.interactions, found.columns["user"], own, column) > 0:
                return dataclasses.replace(found, users=own, user_id=column), []
    left = [own.path.name for own in rest]
    return found, [
        f"whether these files are needed: {listed(left)}; they are not read"
    ] if left else []


def _codes(ids: np.ndarray) -> np.ndarray:
    """[rows] the place of each id among the different ones."""
    return np.unique(ids, return_inverse=True)[1]


def _share(first: Sample, name: str, second: Sample, column: str) -> float:
    """Share of the ids of one table's column that another's has; ids as texts, for a number may be a text in the other file."""
    ids, known = _ids(first.table, name), _ids(second.table, column)
    return float(np.isin(ids, known).mean()) if len(ids) else 0.0


def _ids(table: Table, name: str) -> np.ndarray:
    """[ids] str, the distinct ids of a column. Rows that a run will refuse do not hide what the other rows say."""
    with contextlib.suppress(UserError):
        return np.unique(id_column(table, name, []).astype(str))
    with contextlib.suppress(UserError):
        held = [str(value).strip() for value in values_of(table, name) if value is not None]
        return np.unique([value for value in held if value])
    return np.empty(0, str)


def _refused(own: Sample, columns: Mapping[str, str]) -> list[str]:
    """Rows without a user or an item, which a run refuses: better known before the config is read than after."""
    said = []
    for purpose in ("user", "item"):
        try:
            id_column(own.table, columns[purpose], [])
        except UserError as error:
            said.append(f"what to do with rows that a run refuses: {error}")
    return said


def _items_line(found: Found) -> str:
    if found.items is None:
        return ""
    others = [name for name in found.items.names if name not in (found.item_id, found.title)]
    said = f"items: {found.items.path.name} ({found.items.table.form}), {found.items.said}"
    said += f"; id is {found.item_id!r}, title is {found.title!r}"
    no_text = {name: why_no_text(name, values_of(found.items.table, name)) for name in others}
    if texts := [name for name in others if not no_text[name]]:
        said += f"; text also from {listed(texts)}"
    if unused := [f"{name} ({reason})" for name, reason in no_text.items() if reason]:
        said += f"; not used: {listed(unused)}"
    return said


def _users_line(found: Found) -> str:
    if found.users is None:
        return ""
    return f"users: {found.users.path.name} ({found.users.table.form}), {found.users.said}; id is {found.user_id!r}"
