"""The recipe of a knowledge bank, as plain JSON: everything that it is made from. A bank with the same recipe is used again."""

import hashlib
import json
import os
from typing import Any

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.describe.describers import LANGUAGE_MODELS
from grasp_jax.knowledge.encoders import make_encoder
from grasp_jax.knowledge.text import columns, prompts


def bank_recipe(config: KnowledgeConfig, split: Split, texts: SourceTexts) -> dict[str, Any]:
    """Everything that the four tables depend on, as plain JSON: the fields of the config that affect the bank, and the data.

    Raises:
      UserError: an unknown encoder, or a template that is not there.
    """
    recipe: dict[str, Any] = {
        "source": split.log.fingerprint,
        "cut_off": split.cut_off,
        "row_order": "users and items as in the source's sorted ids or its items table",
        "encoder": config.encoder,
        "num_neighbours": config.num_neighbours,
        "retrieval": config.retrieval,
        "center": config.center,
        "dtype": config.dtype,
    }
    if config.retrieval != "exact":
        recipe["min_recall"] = config.min_recall
    for name, table in (("group_column", texts.items), ("user_group_column", texts.users)):
        if value_of(config, name):
            recipe[name] = value_of(config, name)
            recipe[f"{name}_values"] = _hash(
                json.dumps(
                    list(table.columns.get(value_of(config, name), ())) if table else [],
                    default=str,
                )
            )
    if config.centre_from:
        recipe["centre_from"] = os.path.realpath(os.path.expanduser(config.centre_from))
    if config.exclude_copies:
        recipe["exclude_copies"] = True
    if config.reduction.kind != "none":
        recipe["reduction"] = config.reduction.to_dict()
    if config.pooling != "mean":
        recipe["pooling"] = config.pooling
    if config.corruption.kind != "none":
        recipe["corruption"] = config.corruption.to_dict()
    encoder = make_encoder(config)
    recipe |= encoder.recipe()
    if not encoder.reads_text:
        return recipe
    recipe["describer"] = config.describer
    if config.describer != "template":
        recipe["described_by"] = LANGUAGE_MODELS[config.describer].described_by(config)
    for kind in ("item", "user"):
        recipe[f"{kind}_template"] = _hash(
            prompts.load_template(
                value_of(config, f"{kind}_template"), f"config.knowledge.{kind}_template"
            )
        )
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
    recipe["user_histories"] = _hash(
        "\n".join(texts.of_users if texts.of_users is not None else map(str, split.train.start))
    )
    return recipe


def held_back(config: KnowledgeConfig) -> set[str]:
    """Columns of the users table that no text may hold."""
    return set(config.personal_fields) - set(config.share_personal_fields)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
