"""The bank of an earlier day, which `config.knowledge.since` or `config.knowledge.centre_from` names."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.paths import check_earlier_folder
from grasp_jax.data.moments import shown
from grasp_jax.data.split import CutOff, Until, ends_no_later
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, load_bank, read_manifest
from grasp_jax.knowledge.encoders import encoder_class, is_fitted, per_text_encoders
from grasp_jax.knowledge.recipe_keys import UPDATABLE_KEYS

CENTRES = ("items_centre", "users_centre")  # a bank with `since` has those of the earlier one
SINCE, CENTRE_FROM = "--since", "config.knowledge.centre_from"


def earlier_folder(config: KnowledgeConfig) -> pathlib.Path:
    """The folder of the bank that `config.since`, or else `config.centre_from`, names: a bank, or a workdir that holds one.

    Raises:
      UserError: there is no such folder, or no bank in it.
    """
    flag, named = (SINCE, config.since) if config.since else (CENTRE_FROM, config.centre_from)
    expected = "expected the workdir of an earlier day, or its knowledge bank"
    folder = check_earlier_folder(named, flag, expected)
    for bank in (folder, folder / "knowledge"):
        if (bank / MANIFEST).is_file():
            return bank
    raise UserError(
        f"{flag}: {folder} holds no finished knowledge bank ({MANIFEST}, or knowledge/{MANIFEST}); {expected}"
    )


def check_earlier_named(config: KnowledgeConfig, folder: pathlib.Path, anew: bool = False) -> None:
    """Checks, before data are read, what can be known of the earlier bank that the config names.

    Args:
      config: the `knowledge` section.
      folder: where the run's own bank is, or will be. A finished bank does not need the earlier one any more.
      anew: whether the run makes its bank although there is one.

    Raises:
      UserError: as `earlier_folder` and `check_made_since`.
    """
    if (folder / MANIFEST).is_file() and not anew:
        check_made_since(config, folder)
    elif config.since or config.centre_from:
        earlier_folder(config)


def check_made_since(config: KnowledgeConfig, folder: pathlib.Path) -> None:
    """Checks that the finished bank in `folder` was made from the one that `config.since` names, or continues it, if it names one.

    Otherwise the flag would do nothing, and the vectors of the two days could not be compared. A bank that was made from this folder may be
    used whatever became of the folder: its model needs it. Only a model that continues an earlier one compares the vectors (`check_basis`).

    Raises:
      UserError: the bank was made without `since` or from another bank, or the named bank does not exist.
    """
    if not config.since:
        return
    noted = _noted(folder)
    if noted is not None and _of_one_folder(noted, config.since):
        return
    earlier = earlier_folder(config)
    if continues(_manifest(folder), _manifest(earlier), earlier):
        return
    made = f"with --since={noted}" if noted else "without --since"
    raise UserError(
        f"--since: the knowledge bank in {folder} was made {made}, not with --since={config.since}, so it has vectors of another day; move "
        f"{folder} away and run the same command again, or use another --workdir; or leave out --since to use this bank"
    )


def _noted(folder: pathlib.Path) -> str | None:
    """The value of `since` with which a bank was made."""
    noted = _manifest(folder).get("notes", {}).get("since")
    return None if noted is None else str(noted)


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
    return read_manifest(folder, f"move {folder} away to prepare it again")


def continues(now: Mapping[str, Any], before: Mapping[str, Any], earlier: pathlib.Path) -> bool:
    """Whether a bank was made with `since` from an earlier one, or from a bank that was, so that vectors of both mean the same.

    Args:
      now, before: the manifests of the bank and of the earlier one.
      earlier: the folder of the earlier one; its name decides where no mean was subtracted.
    """
    if (noted := now.get("notes", {}).get("since")) is None:
        return False
    centres = [[bank["checksums"].get(name) for name in CENTRES] for bank in (now, before)]
    if now["recipe"].get("center") and all(centres[0]):
        return centres[0] == centres[1]
    return _of_one_folder(noted, str(earlier))


def _of_one_folder(one: str, other: str) -> bool:
    """Whether two values of `since` name the same bank; each names its folder or the workdir that holds it."""
    first, second = (os.path.realpath(os.path.expanduser(name)) for name in (one, other))
    return first in (second, f"{second}/knowledge") or second == f"{first}/knowledge"


def open_earlier(
    config: KnowledgeConfig, recipe: dict[str, Any], until: Until | None = None
) -> KnowledgeBank | None:
    """The bank that `config.since`, or `config.centre_from`, names; None if they name none.

    Args:
      config: the `knowledge` section.
      recipe: of the bank that is being made.
      until: `Split.until` of its split.

    Raises:
      UserError: it was made with another config, or lacks what is needed to continue from it.
    """
    named = config.since or config.centre_from
    if not named:
        return None
    if config.since and not encoder_class(config.encoder).reads_text:
        raise UserError(
            f"--since: the encoder {config.encoder!r} encodes no texts, so it is not known which vectors are new; prepare without --since"
        )
    folder = earlier_folder(config)
    manifest = read_manifest(folder, "name the folder of a whole bank")
    before = CutOff(str(manifest["recipe"].get("cut_off")), _until(manifest))
    now = CutOff(recipe["cut_off"], until)
    moved_on = ends_no_later(before, now)
    if not moved_on and before.until and now.until and shown(*before.until) == shown(*now.until):
        raise UserError(  # the texts, which the error of another recipe has, would show one second twice
            f"{folder}: this knowledge bank was made of interactions before {before.until[0]} {before.until[1]} since 1970, but the run "
            f"has only those before {now.until[0]}; {_remedy(bool(config.since))}"
        )
    # A bank with a later end may contain interactions that are now in validation or test.
    cut_off = ("cut_off",) if moved_on else ()
    old = load_bank(
        folder, recipe, config.verify, (*UPDATABLE_KEYS, *cut_off), _remedy(bool(config.since))
    )
    if "items_centre" not in old.extras:
        raise UserError(
            f"{named}: an older version made this bank, and it does not store the mean that was subtracted from its "
            "rows; prepare without it"
        )
    if config.since and is_fitted(config.encoder) and old.encoder_folder is None:
        raise UserError(
            f"--since: {named} lacks its encoder, because an older version made it, and {config.encoder!r} fitted again would give all "
            f"texts other vectors; prepare without --since, or use one of {', '.join(per_text_encoders())}"
        )
    return old


def _until(manifest: Mapping[str, Any]) -> Until | None:
    """`Split.until` of a bank; None if it has none, or an earlier version made it."""
    match manifest.get("notes", {}).get("until"):
        case [int() | float() as moment, str() as unit]:
            return moment, unit
    return None


def _remedy(since: bool) -> str:
    """What the user may do about an earlier bank with another recipe. Without --since, `train.start_from` may refuse the new bank."""
    if not since:
        return f"use the same settings as there, or leave out {CENTRE_FROM}"
    return (
        "use the same settings as there (a column that was renamed in the data: its earlier name), or train from nothing: without --since "
        "and without config.train.start_from"
    )
