"""Provenance: what an artefact of a run was made from. It is stored with the artefact and compared before the artefact is used.

A description is a tree of plain JSON values:

    data     fingerprint of the interactions, `InteractionLog.fingerprint`
    config   every field that the artefact depends on, by its full name
    bank     recipe and table checksums of the knowledge bank, where a method reads one
    model    hash of the best parameters, for what was computed with them
    code     fingerprints of methods and backbones from outside the package, by name and version of Python
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from grasp_jax.config import flatten, upgraded

MadeFrom = Mapping[str, Any]


def difference(stored: MadeFrom, wanted: MadeFrom) -> str:
    """The first difference between what an artefact was made from and what a run has; empty if there is none.

    Code that is known of only one of them is no difference: an earlier version kept none, an interactive session has no source, and
    fingerprints of different versions of Python cannot be compared.
    """
    before, now = (flatten(_by_this_version(tree)) for tree in (dict(stored), _plain(wanted)))
    for name in sorted(
        before.keys() | now.keys(), key=lambda name: (_ORDER.index(name.split(".")[0]), name)
    ):
        one_sided = name.startswith("code.") and not (name in before and name in now)
        if before.get(name) != now.get(name) and not one_sided:
            return _difference_in_words(name, before.get(name), now.get(name))
    return ""


def _by_this_version(tree: dict[str, Any]) -> dict[str, Any]:
    """A description whose config has the fields of this version."""
    config = tree.get("config")
    return tree | {"config": upgraded(config)} if isinstance(config, Mapping) else tree


def without_code(made_from: MadeFrom) -> dict[str, Any]:
    """A description without the code: a model is used with changed code, because the change may be one of its looks."""
    return {name: value for name, value in made_from.items() if name != "code"}


_ORDER = ("data", "config", "bank", "code", "model", "negatives")


def _difference_in_words(name: str, before: Any, now: Any) -> str:
    section, _, field = name.partition(".")
    if section == "data":
        return "the data has changed since then"
    if section == "code":
        return f"the code of {field.partition('.')[0]!r} has changed since then"
    if section == "model":
        return "the model has been trained on since then"
    if section == "negatives":
        return "the evaluation negatives are others than then"
    if (
        field.startswith("tables")
        or before is None
        or now is None
        or "_texts" in field
        or field.endswith("source")
    ):
        return f"the {_SECTIONS[section]} is another one ({field} differs)"
    return f"{field if section == 'config' else f'the knowledge bank has {field}'} = {_short(before)} there and {_short(now)} here"


_SECTIONS = {"config": "config", "bank": "knowledge bank"}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(tree: MadeFrom) -> dict[str, Any]:
    # tuples become the lists that a file gives back
    plain: dict[str, Any] = json.loads(json.dumps(tree))
    return plain


def hash_of_arrays(tree: Any) -> str:
    """SHA-256 of a tree of arrays: names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
