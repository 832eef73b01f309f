"""The texts of a dataset's items and users, from attributes and training histories by templates and a describer."""

from collections.abc import Iterator

import numpy as np

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.attributes import Texts
from grasp_jax.data.split import Split
from grasp_jax.errors import UserError
from grasp_jax.knowledge import prompts
from grasp_jax.knowledge.corruption import ITEMS, USERS, corrupt_texts
from grasp_jax.knowledge.describe import DESCRIBERS, count_unanswered, what_is_missing
from grasp_jax.knowledge.encode import ENCODERS
from grasp_jax.knowledge.prompts import PromptOf
from grasp_jax.knowledge.recipe import held_back


def describe(config: ConfigDict, split: Split, sources: Texts) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """Texts of "items" and "users", none for the encoder `file`; and how each came about, where a language model wrote them.

    Raises:
      UserError: an unknown encoder; there is no text; a template names a field that the data lacks; or what the describer raises.
    """
    if config.encoder == "file":
        return {}, {}
    log, statuses = split.log, {}
    item_prompt, user_prompt = prompts_of(config, split, sources)
    item_texts, statuses["items_status"] = DESCRIBERS[config.describer]("items", log.num_items, item_prompt, config)
    user_texts = sources.of_users
    if user_texts is None:
        user_texts, statuses["users_status"] = DESCRIBERS[config.describer]("users", log.num_users, user_prompt, config)
    texts = {"items": corrupt_texts(config.corruption, item_texts, ITEMS), "users": corrupt_texts(config.corruption, user_texts, USERS)}
    return texts, {} if config.describer == "template" else statuses


def dry_run(config: ConfigDict, split: Split, sources: Texts) -> Iterator[str]:
    """Lines that say what `describe` would ask a language model for, and at what price; asks for nothing."""
    if config.encoder == "file":
        yield "describe: vectors come from files; nothing leaves this machine"
        return
    item_prompt, user_prompt = prompts_of(config, split, sources)
    yield what_is_missing("items", split.log.num_items, item_prompt, config)
    if sources.of_users is None:
        yield what_is_missing("users", split.log.num_users, user_prompt, config)


def require_answers(config: ConfigDict, split: Split, sources: Texts) -> None:
    """Makes sure that `describe` will ask for nothing.

    Raises:
      UserError: a description is not in the cache of answers; or what `prompts_of` raises.
    """
    if config.encoder == "file":
        return
    item_prompt, user_prompt = prompts_of(config, split, sources)
    missing = {"items": count_unanswered(split.log.num_items, item_prompt, config)}
    if sources.of_users is None:
        missing["users"] = count_unanswered(split.log.num_users, user_prompt, config)
    for kind, count in missing.items():
        if count:
            raise UserError(
                f"config.knowledge.describe.cache: {config.describe.cache} lacks the answers to {count:,} prompts of {kind}; "
                "run --mode=prepare first, or name the cache that the bank was made with"
            )


def prompts_of(config: ConfigDict, split: Split, sources: Texts) -> tuple[PromptOf, PromptOf]:
    """The prompts of items and of users, by row; personal attributes of users stay out unless `config.share_personal_fields` has them.

    Raises:
      UserError: an unknown encoder; there is no text; or a template names a field that the data lacks.
    """
    if config.encoder not in ENCODERS:
        raise UserError(f"config.knowledge.encoder: {config.encoder!r}; expected one of {', '.join([*ENCODERS, 'file'])}")
    if sources.items is None:
        raise UserError(
            f"config.knowledge.encoder={config.encoder!r} needs text, but config.data.items_file names no items table; "
            "give one, or bring vectors with encoder 'file', or train --config.model.method=plain"
        )
    of_items, of_users = (prompts.load_template(config[f"{kind}_template"]) for kind in ("item", "user"))
    item_field, user_field = (f"config.knowledge.{kind}_template={config[f'{kind}_template']!r}" for kind in ("item", "user"))
    history = prompts.History(split.train, split.log.items, sources.items)
    return (
        prompts.item_prompt(of_items, sources.items, item_field),
        prompts.user_prompt(of_users, history, sources.users, held_back(config), user_field),
    )
