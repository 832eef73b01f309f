"""The config of a workdir: written, read again, and compared with the one of a later call."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from grasp_jax.config.checks import Folder
from grasp_jax.config.config import FIELDS, OVERRIDES, Config
from grasp_jax.config.fields import NOTHING, flatten
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_sealed, write_sealed

CONFIG_FILE = "config.json"
REMEDY = "use another --workdir or restore the file"
# fields that the first version's config.json lacks, and the values with which it behaved
EARLIER: dict[str, Any] = {
    "data.max_missing_text": 0.05,
    "data.title_column": "title",
    "knowledge.text_columns": [],
}
# fields that are gone, and the values with which the code behaved as it does now
GONE: dict[str, Any] = {
    "knowledge.whiten": False,
    "model.gate_dropout": 0.0,
    "train.towers": "each",
}
# how the code behaved before there was a field
BEFORE = {name: about.before for name, about in FIELDS.items() if about.before is not None}


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain JSON values: lists for tuples."""
    tree: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return tree


def matters(name: str) -> bool:
    """Whether a result may depend on the field of this name, which another version may have had."""
    if name in FIELDS:
        return FIELDS[name].affects is not NOTHING
    section = name.rpartition(".")[0]
    siblings = [
        about for known, about in FIELDS.items() if section and known.startswith(f"{section}.")
    ]
    return not siblings or any(about.affects is not NOTHING for about in siblings)


def upgraded(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of this version by their full names, from a config that an earlier version wrote.

    `eval.exclude_seen` is gone: where validation chose by a full ranking without seen items,
    `eval.select` says so now; of the test both rankings are measured. `kernels=pallas` is gone: it
    was `backbone` and a kernel that computed the same as XLA does. Of the fields of `GONE`, those
    that changed something stay: reading them is refused.
    """
    fields = flatten(tree)
    for name in ("kernels", "model.kernels"):
        if fields.get(name) == "pallas":
            fields[name] = "backbone"
    if fields.pop("eval.exclude_seen", False) and fields.get("eval.select") == "full":
        fields["eval.select"] = "full_unseen"
    return {name: value for name, value in fields.items() if not _changed_nothing(name, value)}


def _changed_nothing(name: str, value: Any) -> bool:
    """Whether a field is gone and had the value with which the code behaves now; `name` may lie within one of `OVERRIDES`."""
    if name.partition(".")[0] in OVERRIDES:
        name = ".".join(name.split(".")[2:])
    return name in GONE and value == GONE[name]


def as_changes(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The argument of `Config.with_fields`, from the JSON of a config of this or an earlier version."""
    overrides = {
        name: {
            of: kept for of, own in tree[name].items() if (kept := _without_gone(own)) or not own
        }
        for name in OVERRIDES
        if name in tree
    }
    return upgraded({name: tree[name] for name in tree if name not in OVERRIDES}) | overrides


def _without_gone(changes: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Nested changes of a method or source, without fields that are gone and changed nothing, and without sections that are then empty."""
    kept: dict[str, Any] = {}
    for name, value in changes.items():
        full = f"{section}.{name}" if section else name
        if isinstance(value, Mapping):
            if inner := _without_gone(value, full):
                kept[name] = inner
        elif not _changed_nothing(full, value):
            kept[name] = value
    return kept


def identity(config: Config | Mapping[str, Any]) -> dict[str, Any]:
    """Every field of a config that a result may depend on, by its full name, as plain JSON.

    Folders stand as their absolute path. A field that came with a later version stands there only
    where it says something else than how the code behaved before, so that runs of both are alike.

    Args:
      config: a config, or the content of a config.json, of this or an earlier version.
    """
    tree = to_json(config) if isinstance(config, Config) else config
    fields: dict[str, Any] = {}
    for name, value in upgraded(tree).items():
        about = FIELDS.get(name)
        if not matters(name) or (
            about is not None and about.before is not None and value == about.before
        ):
            continue
        if about is not None and isinstance(about.check, Folder) and value:
            value = os.path.realpath(os.path.expanduser(value))
        fields[name] = value
    return fields


def check_workdir(config: Config, workdir: pathlib.Path) -> None:
    """Compares with the WORKDIR/config.json of an earlier run, if there is one.

    Raises:
      UserError: the workdir belongs to another config; names the first field that differs.
    """
    if difference := config_difference(config, workdir):
        raise UserError(
            f"{workdir / CONFIG_FILE}: the workdir is of another config: {difference}; use another workdir"
        )


def config_difference(config: Config, workdir: pathlib.Path) -> str:
    """The first field that differs in WORKDIR/config.json, with both values; empty if none does, or if there is no such file."""
    path = workdir / CONFIG_FILE
    if not path.exists():
        return ""
    saved = read_sealed(path, REMEDY, required=False)
    before, now = (EARLIER | BEFORE | identity(tree) for tree in (saved, config))
    differences = [
        f"{name} is {before.get(name)!r} there and {now.get(name)!r} here"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) not in (now.get(name), _alone(now.get(name)))
    ]
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return f"{differences[0]}{more}" if differences else ""


def _alone(value: Any) -> Any:
    """The value of a field of several values, in a version where it took a single one: `train.learning_rate`."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def save_config(config: Config, workdir: pathlib.Path) -> None:
    """Writes WORKDIR/config.json, sealed, which binds the workdir to this config. An existing file stays."""
    if not (workdir / CONFIG_FILE).exists():
        write_sealed(workdir / CONFIG_FILE, to_json(config))


def read_config(workdir: pathlib.Path) -> Config:
    """The config of a workdir; fields added since then have the values with which this version behaves as that one did.

    Raises:
      UserError: the file is missing or damaged, or names what this version does not have.
    """
    path = workdir / CONFIG_FILE
    saved = read_sealed(path, REMEDY, required=False)
    try:
        return Config().with_fields(BEFORE).with_stored_fields(as_changes(saved))
    except UserError as error:
        raise UserError(f"{path}: of another version: {error}") from error
