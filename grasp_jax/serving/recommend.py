"""Writes the best items of each user, with original ids, to a file, and a second file with everything from which they were computed."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import remove_left_behind, replacing, sha256, write_sealed, write_text
from grasp_jax.core.progress import progress_bar
from grasp_jax.evaluation.audience import Audience, Lists, Wanted, best_items, num_blocks
from grasp_jax.parallel.processes import is_main_process
from grasp_jax.serving.interrupted import Parts, Spread, parts_of_output
from grasp_jax.serving.writers import open_writer


class Summary(NamedTuple):
    """The number of users with a full list, the number with a shorter list, and the users without recommendations (id, reason)."""

    full: int
    short: int
    skipped: list[tuple[str, str]]


def write_recommendations(
    audience: Audience,
    users: np.ndarray,
    wanted: Wanted,
    path: pathlib.Path,
    made_from: Mapping[str, Any] | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    spread: Spread | None = None,
) -> Summary:
    """Writes columns user, rank (from 1), item, score; each user's whole history is the model's input.

    A user with fewer than `top_n` items left gets fewer rows. In the same folder, `<stem>.about.json` says what the file was made from, and
    `<stem>.skipped.csv` lists the users without recommendations. With many users, a call that was interrupted leaves what it has computed,
    and the same call continues from there (`serving.interrupted`).

    Args:
      audience: all users.
      users: rows of the users to recommend to.
      wanted: which items, and how many.
      path: the file; its suffix decides the format (`writers.SUFFIXES`).
      made_from: fingerprints of data, model and everything else that the rows depend on.
      skipped: ids that are not users of the data, with the reason.
      spread: lets other processes compute; None: this process computes everything.

    Raises:
      UserError: the catalogue has fewer than `top_n` items, or no user has an item left.
    """
    log, made_from = audience.log, made_from or {}
    numbers = (log.user_ids.dtype.kind == "i", log.item_ids.dtype.kind == "i")
    parts = parts_of_output(path, made_from, users, wanted, spread)
    counts: list[np.ndarray] = []
    without_items: list[int] = []
    with contextlib.ExitStack() as stack:
        write = None
        if is_main_process():
            remove_left_behind(path)
            partial = stack.enter_context(replacing(path))
            write = stack.enter_context(open_writer(partial, path.suffix, numbers, made_from))
        bar = stack.enter_context(progress_bar(len(users), "recommend", "user"))
        for lists in _lists(audience, users, wanted, parts):
            if write:
                write(_columns(audience, users, lists))
            counts.append(lists.counts)
            without_items += users[lists.people[lists.counts == 0]].tolist()
            bar.update(len(lists.people))
        per_user = np.concatenate(counts)
        if not per_user.any():
            raise UserError(
                f"config.recommend.exclude_seen: True, and none of the {len(per_user)} users has an item left; set it to False"
            )
    count = log.num_items if wanted.allowed is None else int(wanted.allowed.sum())
    exhausted = [
        (str(log.user_ids[user]), f"has seen all {count} items") for user in sorted(without_items)
    ]
    served = Summary(
        int((per_user == wanted.top_n).sum()),
        int(((per_user > 0) & (per_user < wanted.top_n)).sum()),
        [*skipped, *exhausted],
    )
    if is_main_process():
        _write_about_files(path, served, made_from)
    if parts:
        parts.remove()
    return served


def _lists(
    audience: Audience, users: np.ndarray, wanted: Wanted, parts: Parts | None
) -> Iterator[Lists]:
    """The lists of all users: those of an interrupted call, then those that are computed now, which are stored too."""
    if parts is None:
        yield from best_items(audience, users, wanted)
        return
    yield from parts.stored()
    if parts.num_blocks == num_blocks(users, wanted):
        return
    for block in best_items(audience, users, wanted, parts.num_blocks):
        yield block
        parts.add(block)


def _columns(audience: Audience, users: np.ndarray, lists: Lists) -> list[np.ndarray]:
    """user, rank, item and score of each row."""
    counts, log = lists.counts, audience.log
    ranks = 1 + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    names = np.repeat(log.user_ids[users[lists.people]], counts)
    return [names, ranks.astype(np.int32), log.item_ids[lists.items], lists.scores]


def _write_about_files(path: pathlib.Path, served: Summary, made_from: Mapping[str, Any]) -> None:
    """Writes the list of users without recommendations, and what the files were made from, with their checksums."""
    written, left_out = [path], path.with_name(f"{path.stem}.skipped.csv")
    # the file of an earlier call would describe the wrong recommendations
    if served.skipped or left_out.exists():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("user", "reason"), *served.skipped])
        write_text(left_out, text.getvalue())
        written.append(left_out)
    about = {
        "made_from": dict(made_from),
        "files": {file.name: sha256(file) for file in written},
        "users": served.full + served.short,
        "skipped": len(served.skipped),
    }
    write_sealed(path.with_name(f"{path.stem}.about.json"), about)
