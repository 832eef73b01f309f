"""What a knowledge bank is made from, as plain JSON: a bank is used again where this is the same."""

import hashlib
import json
import pathlib
from typing import Any

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.attributes import Texts
from grasp_jax.data.split import Split
from grasp_jax.files import sha256
from grasp_jax.knowledge import columns, prompts
from grasp_jax.knowledge.describe import LANGUAGE_MODELS
from grasp_jax.knowledge.model_folder import fingerprint

TRAINING_CUT_OFF = "training part of each history: all but the last two interactions"
OF_THE_DAY = (  # what differs between banks of one and the same recipe on two days
    "source", "item_texts", "user_texts", "user_histories", "group_column_values", "user_group_column_values",
)  # fmt: skip


def bank_recipe(config: ConfigDict, split: Split, texts: Texts) -> dict[str, Any]:
    """Everything that the four tables depend on, as plain JSON."""
    recipe: dict[str, Any] = {
        "source": split.log.fingerprint(),
        "cut_off": TRAINING_CUT_OFF,
        "row_order": "users and items as in the source's sorted ids or its items table",
        "encoder": config.encoder,
        "num_neighbours": config.num_neighbours,
        "retrieval": config.retrieval,
        "center": config.center,
        "dtype": config.dtype,
    }
    for name, table in (("group_column", texts.items), ("user_group_column", texts.users)):
        if config[name]:
            recipe[name] = config[name]
            recipe[f"{name}_values"] = _hash(json.dumps(list(table.columns.get(config[name], ())) if table else [], default=str))
    if config.exclude_copies:
        recipe["exclude_copies"] = True
    if config.reduction.kind != "none":
        recipe["reduction"] = config.reduction.to_dict()
    if config.whiten:
        recipe["whiten"] = True
    if config.pooling != "mean":
        recipe["pooling"] = config.pooling
    if config.corruption.kind != "none":
        recipe["corruption"] = config.corruption.to_dict()
    if config.encoder == "file":
        recipe["files"] = {name: _file_identity(config[name]) for name in ("item_file", "user_file", "item_ids_file", "user_ids_file")}
        return recipe
    recipe["describer"] = config.describer
    if config.describer != "template":
        recipe["described_by"] = LANGUAGE_MODELS[config.describer].described_by(config)
    recipe |= encoder_recipe(config)
    for kind in ("item", "user"):
        recipe[f"{kind}_template"] = _hash(prompts.load_template(config[f"{kind}_template"], f"config.knowledge.{kind}_template"))
    for kind, table in (("item", texts.items), ("user", texts.users)):
        if table is not None:
            values = {name: list(values) for name, values in columns.cleaned(table).columns.items()}
            recipe[f"{kind}_texts"] = _hash(json.dumps(values, default=str))
    if texts.items is not None:
        template = prompts.load_template(config.item_template)
        if made := columns.made_of(texts.items, config.text_columns, template):
            recipe["text_columns"] = made
    if texts.users is not None:
        recipe["held_back"] = sorted(held_back(config))
    # Ready-made texts, or the histories that the template is filled with, which config.data.max_length cuts.
    recipe["user_histories"] = _hash("\n".join(texts.of_users if texts.of_users is not None else map(str, split.train.start)))
    return recipe


def held_back(config: ConfigDict) -> set[str]:
    """Columns of the users table that no text may hold."""
    return set(config.personal_fields) - set(config.share_personal_fields)


def encoder_recipe(config: ConfigDict) -> dict[str, Any]:
    """What the vectors of an encoder depend on."""
    if config.encoder == "sentence_transformers":
        folder = pathlib.Path(config.sentence.model).expanduser()
        model = fingerprint(folder) if folder.is_dir() else config.sentence.model  # a folder by what is in it, wherever it stands
        return {"sentence": {"model": model, **{name: config.sentence[name] for name in ("prefix", "pooling", "max_tokens")}}}
    if config.encoder == "openai":
        return {"embed": {name: config.embed[name] for name in ("model", "dimensions")}}
    return {"width": config.width, "seed": config.seed}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_identity(path: str) -> str:
    if not pathlib.Path(path).is_file():
        return path
    return sha256(pathlib.Path(path))[:16]
