"""Detects which files of a folder are interactions, items and users, the roles of their columns, and what remains undecided."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.config.data import SKIP
from grasp_jax.core.errors import UserError
from grasp_jax.data.columns import listed
from grasp_jax.data.identifiers import id_column
from grasp_jax.data.interactions import readable_rows
from grasp_jax.data.readers import KNOWN_NAMES
from grasp_jax.data.tables import values_of
from grasp_jax.knowledge.text.columns import why_no_text
from grasp_jax.setup import names
from grasp_jax.setup.kinds import notes_on_rows, prefer_kept
from grasp_jax.setup.matches import empty_rows, is_of_users, matches_of
from grasp_jax.setup.refusals import misspelled, refuse_parts, why_nothing
from grasp_jax.setup.rows import check_rows
from grasp_jax.setup.sample import Sample, readable, sample, sample_pairs
from grasp_jax.setup.titles import titles_in_log
from grasp_jax.setup.when import time_of

MOST_MISSING = DataConfig().max_missing_text
USUAL = 0.9  # share of the users whose histories are not longer than `usual_length`
MOST_EMPTY = 0.01  # share of the rows without an id up to which the most reliable name decides
LEAST_KNOWN = 0.5  # share of the users that their table must have at least
NO_UTF8 = "the name is not UTF-8, so no config file can hold it; expected UTF-8; rename it"


@dataclasses.dataclass(frozen=True)
class FolderContents:
    """The tables of a folder and the roles of their columns.

    Attributes:
      folder: where.
      interactions: file of the interactions.
      columns: purpose ("user", "item", "timestamp", "rating") -> column; an empty timestamp: the rows are in the order of time.
      items: table of items, or None; `item_id` and `title` are its columns.
      users: table of users, or None; `user_id` is its column.
      bad_rows: whether a run refuses some rows of the interactions, and can leave them out.
      num_users: number of users with interactions; 0 where not all rows were looked at.
      usual_length: number of interactions that nine tenths of these users do not exceed.
      repeated: share of the users who had their last item before.
      lines: what was found, for people.
      undecided: what could not be decided, for people.
    """

    folder: pathlib.Path
    interactions: Sample
    columns: dict[str, str]
    items: Sample | None = None
    item_id: str = ""
    title: str = ""
    users: Sample | None = None
    user_id: str = ""
    bad_rows: bool = False
    num_users: int = 0
    usual_length: int = 0
    repeated: float = 0.0
    lines: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    def items_left(self) -> int | None:
        """The number of items that the user with the most items never had; None if not all rows were read."""
        log = self.interactions
        if not log.whole or not (self.items is None or self.items.whole):
            return None
        try:
            used = {of: self.columns.get(of) for of in ("user", "item")}
            rows, _ = readable_rows(log.table, used, 0.0, SKIP)
            catalogue = rows.items.ids
            if self.items is not None:
                catalogue = id_column(self.items.table, self.item_id, [])
        except UserError:
            return None  # a run will name the faulty row
        pairs = np.unique(np.stack([rows.users.codes, rows.items.codes]), axis=1)
        return len(np.unique(catalogue)) - int(np.bincount(pairs[0]).max(initial=0))


def look(folder: pathlib.Path) -> FolderContents:
    """Looks at the files of a folder.

    Raises:
      UserError: it is no folder, holds no table of users with items, or a file that is needed is not readable.
    """
    if not folder.is_dir():
        why = "a file" if folder.is_file() else "no such folder"
        raise UserError(f"{folder}: {why}; expected the folder that holds your interactions")
    if not _is_utf8(str(folder.resolve())):
        raise UserError(f"{str(folder.resolve())!a}: {NO_UTF8}")
    samples, unread = _samples(folder)
    pairs = [table for table in samples if _is_interactions(table)]
    if pairs:
        candidates, of_kept = prefer_kept(pairs)
        chosen, undecided = _chosen(candidates)
        refuse_parts(folder, chosen, candidates)
        columns, more = _columns(chosen)
        undecided += of_kept
        lines = [f"interactions: {chosen.path.name} ({chosen.table.form}), {chosen.rows_in_words}"]
        lines.append(
            "columns: " + ", ".join(f"{what} is {name!r}" for what, name in columns.items() if name)
        )
        undecided += more
    elif (folder / KNOWN_NAMES[0]).is_file():
        chosen, undecided = sample_pairs(folder / KNOWN_NAMES[0]), []
        columns = {"user": "user", "item": "item"}
        lines = [
            f"interactions: {chosen.path.name}, lines 'user item' in the order of time, {chosen.rows_in_words}"
        ]
    else:
        raise why_nothing(folder, samples, unread)
    found = FolderContents(folder, chosen, columns)
    rest = [table for table in samples if table not in pairs]
    found, of_items = _with_items(found, rest)
    found, of_users = _with_users(found, [table for table in rest if table is not found.items])
    rows = check_rows(chosen, found.columns)
    undecided += [*of_items, *of_users, *(f"not readable, and left out: {why}" for why in unread)]
    undecided += [*misspelled(folder), *([rows.refused] if rows.refused else [])]
    lines += [line for line in (_items_line(found), _users_line(found), rows.line) if line]
    lengths = np.zeros(0, np.int64) if rows.lengths is None else rows.lengths
    return dataclasses.replace(
        found,
        bad_rows=bool(rows.line and rows.refused),
        num_users=len(lengths),
        usual_length=int(np.quantile(lengths, USUAL, method="inverted_cdf")) if len(lengths) else 0,
        repeated=rows.repeated,
        lines=tuple(lines),
        undecided=tuple(undecided),
    )


def _samples(folder: pathlib.Path) -> tuple[list[Sample], list[str]]:
    """The tables of a folder, and a line for each file that is not a table."""
    samples, unread = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == names.RECORD or not readable(path):
            continue
        try:
            if not _is_utf8(path.name):
                raise UserError(f"{path.name!a}: {NO_UTF8}")
            samples.append(sample(path))
        except UserError as error:
            unread.append(str(error))
    return samples, unread


def _is_utf8(name: str) -> bool:
    """Whether a file's name can be written into a config file."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_interactions(table: Sample) -> bool:
    return bool(names.found(table.names, names.USER) and names.found(table.names, names.ITEM))


def _chosen(pairs: Sequence[Sample]) -> tuple[Sample, list[str]]:
    """The interactions among tables that have users and items: by name, then those with times and ratings, then the larger."""

    def priority(table: Sample) -> tuple[bool, bool, bool, int]:
        known = table.path.name in KNOWN_NAMES
        timed, rated = bool(names.times(table.names)), bool(names.found(table.names, names.RATING))
        return known, timed, rated, table.size

    ordered = sorted(pairs, key=priority, reverse=True)
    others = ", ".join(table.path.name for table in ordered[1:])
    line = f"{others} could be the interactions too; {ordered[0].path.name} was chosen (config.data.interactions_file)"
    return ordered[0], [line] if others else []


def _columns(log: Sample) -> tuple[dict[str, str], list[str]]:
    """Columns of the interactions, and notes on what is uncertain about them."""
    undecided = []
    columns = {"user": "", "item": ""}
    for purpose, wanted in (("user", names.USER), ("item", names.ITEM)):
        columns[purpose], *others = _most_filled(log, names.found(log.names, wanted))
        if others:
            gaps = [
                f"; {name!r} has no value in {count:,} of {log.table.num_rows:,} rows"
                for name in [columns[purpose], *others]
                if (count := empty_rows(log.table, name))
            ]
            undecided.append(
                f"{purpose}s may also be in {listed(others)}; {columns[purpose]!r} was chosen (config.data.columns.{purpose})"
                + "".join(gaps)
            )
    rating = names.found(log.names, names.RATING)
    columns["timestamp"], reasons = time_of(log, {*columns.values(), *rating[:1]})
    undecided += reasons
    if rating:
        columns["rating"] = rating[0]
        undecided.append(
            f"which ratings count as liked: all do, until config.data.min_rating is set ({rating[0]!r} has the ratings)"
        )
    return columns, [*undecided, *notes_on_rows(log, set(columns.values()))]


def _most_filled(log: Sample, candidates: Sequence[str]) -> list[str]:
    """Columns of ids; those without a value in many rows come last, else the order stays."""
    most = MOST_EMPTY * log.table.num_rows
    return sorted(candidates, key=lambda name: empty_rows(log.table, name) > most)


def _with_items(found: FolderContents, rest: Sequence[Sample]) -> tuple[FolderContents, list[str]]:
    """The items table: the one whose ids are most often those of the interactions."""
    log = found.interactions
    columns = names.found(log.names, names.ITEM)
    matches = [
        match
        for match in matches_of(log, columns, rest, [*names.ITEM, *names.ID])
        if _title_of(match.table) or not is_of_users(log, found.columns["user"], match)
    ]
    if not matches:
        return found, [
            "what items are called: no table of items was found, so only methods without text can be trained (config.data.items_file)"
            + titles_in_log(log, found.columns["item"])
        ]
    best = max(matches, key=lambda match: (match.share, bool(_title_of(match.table))))
    name, title = best.table.path.name, _title_of(best.table)
    if not title:
        return found, [
            f"{name}: no column looks like a title; it has {listed(best.table.names)}; set config.data.items_file and title_column"
        ]
    undecided = []
    if best.table.whole and log.whole and 1 - best.share > MOST_MISSING:
        undecided.append(
            f"{100 * (1 - best.share):.0f} % of the items have no row in {name}; a run refuses more than "
            f"{100 * MOST_MISSING:.0f} % until config.data.max_missing_text is raised"
        )
    known = found.columns | {"item": best.column}
    return dataclasses.replace(
        found, items=best.table, item_id=best.id, title=title, columns=known
    ), undecided


def _title_of(table: Sample) -> str:
    return next(iter(names.found(table.names, names.TITLE)), "")


def _with_users(found: FolderContents, rest: Sequence[Sample]) -> tuple[FolderContents, list[str]]:
    """The users table, found as the items table is; one with few of the users is not chosen, because small numbers can be any ids."""
    log = found.interactions
    matches = matches_of(log, [found.columns["user"]], rest, [*names.USER, *names.ID])
    enough = [
        match
        for match in matches
        if match.share >= LEAST_KNOWN or not (log.whole and match.table.whole)
    ]
    best, undecided = max(enough or matches, key=lambda match: match.share, default=None), []
    if best and enough:
        found = dataclasses.replace(found, users=best.table, user_id=best.id)
    elif best:
        undecided.append(
            f"{best.table.path.name} has {100 * best.share:.0f} % of the users, so it was not chosen; if it is their table, set "
            "config.data.users_file and users_id_column"
        )
    left = [table.path.name for table in rest if not (best and table is best.table)]
    if left:
        undecided.append(f"whether these files are needed: {listed(left)}; they are not read")
    return found, undecided


def _items_line(found: FolderContents) -> str:
    if found.items is None:
        return ""
    others = [name for name in found.items.names if name not in (found.item_id, found.title)]
    line = f"items: {found.items.path.name} ({found.items.table.form}), {found.items.rows_in_words}"
    line += f"; id is {found.item_id!r}, title is {found.title!r}"
    no_text = {name: why_no_text(name, values_of(found.items.table, name)) for name in others}
    if texts := [name for name in others if not no_text[name]]:
        line += f"; text also from {listed(texts)}"
    if unused := [f"{name} ({reason})" for name, reason in no_text.items() if reason]:
        line += f"; not used: {listed(unused)}"
    return line


def _users_line(found: FolderContents) -> str:
    if found.users is None:
        return ""
    return f"users: {found.users.path.name} ({found.users.table.form}), {found.users.rows_in_words}; id is {found.user_id!r}"
