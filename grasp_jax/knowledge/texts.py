"""The texts of a dataset's items and users, from attributes and training histories by templates and a describer."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.corruption import ITEMS, USERS, corrupt_texts
from grasp_jax.knowledge.describe.describers import DESCRIBERS, count_unanswered, what_is_missing
from grasp_jax.knowledge.encoders import encoder_class, make_encoder
from grasp_jax.knowledge.recipe import held_back
from grasp_jax.knowledge.text import columns, prompts
from grasp_jax.knowledge.text.prompts import PromptOf
from grasp_jax.knowledge.text.writer import TextWriter, history_columns

SHOWN = 200  # characters of a sample


def describe(
    config: KnowledgeConfig, split: Split, sources: SourceTexts
) -> tuple[dict[str, Sequence[str]], dict[str, np.ndarray]]:
    """Texts of "items" and "users", none for the encoder `file`; and how each came about, where a language model wrote them.

    Raises:
      UserError: an unknown encoder; there is no text; a template names a field that the data do not have; or the describer raises it.
    """
    if not encoder_class(config.encoder).reads_text:
        return {}, {}
    log, statuses = split.log, {}
    item_prompt, user_prompt = prompts_of(config, split, sources)
    item_texts, statuses["items_status"] = DESCRIBERS[config.describer](
        "items", log.num_items, item_prompt, config
    )
    user_texts: Sequence[str] | None = sources.of_users
    if user_texts is None:
        user_texts, statuses["users_status"] = DESCRIBERS[config.describer](
            "users", log.num_users, user_prompt, config
        )
    texts = {
        "items": corrupt_texts(config.corruption, item_texts, ITEMS),
        "users": corrupt_texts(config.corruption, user_texts, USERS),
    }
    return texts, {} if config.describer == "template" else statuses


def dry_run(config: KnowledgeConfig, split: Split, sources: SourceTexts) -> Iterator[str]:
    """Lines that say what `describe` would request from a language model, and at what price; sends no request."""
    if not encoder_class(config.encoder).reads_text:
        yield "describe: vectors come from files; nothing leaves this machine"
        return
    item_prompt, user_prompt = prompts_of(config, split, sources)
    kinds = [("items", split.log.num_items, item_prompt)]
    if sources.of_users is None:
        kinds.append(("users", split.log.num_users, user_prompt))
    for kind, count, prompt in kinds:
        yield what_is_missing(kind, count, prompt, config)
    encoder = make_encoder(config)
    if not (destination := encoder.destination()):
        return
    if config.describer == "template":
        texts, _ = describe(config, split, sources)
        yield from (encoder.what_is_missing(kind, own) for kind, own in texts.items())
    else:
        both = f"{split.log.num_items:,} items and {split.log.num_users:,} users"
        yield f"encode: the descriptions of {both} go to {destination}"


def require_answers(config: KnowledgeConfig, split: Split, sources: SourceTexts) -> None:
    """Checks that `describe` will send no request.

    Raises:
      UserError: a description is not in the cache of answers; or what `prompts_of` raises.
    """
    if not encoder_class(config.encoder).reads_text:
        return
    item_prompt, user_prompt = prompts_of(config, split, sources)
    missing = {"items": count_unanswered(split.log.num_items, item_prompt, config)}
    if sources.of_users is None:
        missing["users"] = count_unanswered(split.log.num_users, user_prompt, config)
    for kind, (count, unused) in missing.items():
        if count:
            raise UserError(
                f"config.knowledge.describe.cache: {config.describe.cache} lacks the answers to {count:,} prompts of {kind}; "
                "run --mode=prepare first, or name the cache that the bank was made with"
                + (f"; {unused}" if unused else "")
            )


def prompts_of(
    config: KnowledgeConfig, split: Split, sources: SourceTexts
) -> tuple[PromptOf, PromptOf]:
    """The prompts of items and of users, by row; personal attributes of users stay out unless `config.share_personal_fields` has them.

    Raises:
      UserError: an unknown encoder; there is no text; or a template names a field that the data lacks.
    """
    encoder_class(config.encoder)
    if sources.items is None:
        raise UserError(
            f"config.knowledge.encoder={config.encoder!r} needs text, but config.data.items_file names no items table; "
            "give one, or bring vectors with encoder 'file', or train --config.model.method=plain"
        )
    (of_items, item_field), (of_users, user_field) = (
        template_of(config, kind) for kind in ("item", "user")
    )
    items = columns.filled_from(sources.items, config.text_columns, of_items)
    users = None if sources.users is None else columns.cleaned(sources.users)
    history = prompts.History(split.train, split.log.items, items)
    return (
        prompts.item_prompt(of_items, items, item_field),
        prompts.user_prompt(of_users, history, users, held_back(config), user_field),
    )


def text_writer(config: KnowledgeConfig, split: Split, sources: SourceTexts) -> TextWriter:
    """The `TextWriter` for items and users that are not in these data; errors as of `prompts_of`."""
    assert sources.items is not None  # `prompts_of` has refused that
    of_items, of_users = (template_of(config, kind)[0] for kind in ("item", "user"))
    truncated = split.train.lengths[split.train.start > split.log.offsets[:-1]]
    people = {} if sources.users is None else sources.users.columns
    return TextWriter(
        item_template=of_items,
        user_template=of_users,
        made_of=tuple(columns.made_of(sources.items, config.text_columns, of_items)),
        item_columns=tuple(columns.columns_read(sources.items, config.text_columns, of_items)),
        history_columns=history_columns(of_users, sources.items),
        user_columns=tuple(name for name in people if name not in held_back(config)),
        longest_history=int(truncated.max()) if len(truncated) else None,
    )


def template_of(config: KnowledgeConfig, kind: str) -> tuple[str, str]:
    """The template of "item" or "user", and what names it in messages; errors as of `load_template`."""
    name = value_of(config, f"{kind}_template")
    where = f"config.knowledge.{kind}_template"
    return prompts.load_template(name, where), f"{where}={name!r}"


def sample_prompts(
    config: KnowledgeConfig, split: Split, sources: SourceTexts, items: int, users: int
) -> tuple[list[str], list[str]]:
    """Lines that show what is encoded or described: the columns that are used and those that are not; and prompts of items and users.

    Personal attributes of users are in none of them, whatever `config.share_personal_fields` says.

    Args:
      config: the `knowledge` section.
      split: of the data.
      sources: texts and attributes.
      items, users: how many prompts of each, spread over the rows.

    Returns:
      Lines on columns, and prompts; both empty if no text is read.

    Raises:
      UserError: what `prompts_of` raises.
    """
    if not encoder_class(config.encoder).reads_text or sources.items is None:
        return [], []
    unshared = dataclasses.replace(config, share_personal_fields=())
    of_items, of_users = prompts_of(unshared, split, sources)
    lines = [_items_usage(config, sources.items)]
    if sources.users is not None and sources.of_users is None:
        lines.append(
            columns.usage(
                "users",
                sources.users,
                columns.field_names(template_of(config, "user")[0]),
                held_back(config),
            )
        )
    item_rows = dict.fromkeys(k * split.log.num_items // items for k in range(items))
    user_rows = dict.fromkeys((k + 1) * split.log.num_users // (users + 1) for k in range(users))
    ready = sources.of_users
    examples = [f"item {split.log.item_ids[row]}: {of_items(row)}" for row in item_rows]
    examples += [f"a user: {of_users(row) if ready is None else ready[row]}" for row in user_rows]
    return lines, [_shortened(example) for example in examples]


def _items_usage(config: KnowledgeConfig, items: AttributeTable) -> str:
    """A line that says which columns of the items table are used, and which of their values are left out or shortened."""
    template, _ = template_of(config, "item")
    fields, made = (
        columns.field_names(template),
        columns.made_of(items, config.text_columns, template),
    )
    remarks = []
    if lacking := [
        name for name in fields if name not in items.columns and not (name == columns.MADE and made)
    ]:
        remarks.append(f"no such column, so left out: {', '.join(lacking)}")
    single = [name for name in prompts.single_fields(template) if name in items.columns]
    if count := columns.count_longer(items, single, prompts.MAX_SINGLE_CHARACTERS):
        remarks.append(
            f"{count:,} values of more than {prompts.MAX_SINGLE_CHARACTERS} characters read as unknown"
        )
    if count := columns.count_longer(items, made, columns.MAX_PART_CHARACTERS):
        remarks.append(f"{count:,} values are cut at {columns.MAX_PART_CHARACTERS} characters")
    return columns.usage(
        "items", items, columns.columns_read(items, config.text_columns, template), remarks=remarks
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 4]} ..."
