"""Text for every item or user: the filled template itself, or what a language model makes of it.

A describer is a function (kind, number of rows, prompt of a row, config) -> texts and statuses.
"""

from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.config import DescribeConfig, KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.knowledge.describe.chat import CHAT
from grasp_jax.knowledge.describe.generate import GENERATE
from grasp_jax.knowledge.describe.language_model import (
    LanguageModel,
    described,
    estimate,
    keys_of,
    other_keys,
)
from grasp_jax.knowledge.endpoint.cache import AnswerCache, open_answers
from grasp_jax.knowledge.endpoint.client import CUT_BY, Usage
from grasp_jax.knowledge.endpoint.unanswered import rows_to_request
from grasp_jax.knowledge.text.clean import STATUSES
from grasp_jax.knowledge.text.prompts import Filled, PromptOf

Described = tuple[Sequence[str], np.ndarray]  # texts, and [rows] uint8 indices into STATUSES
LANGUAGE_MODELS: dict[str, LanguageModel] = {"openai": CHAT, "transformers": GENERATE}


def by_template(
    kind: str, num_rows: int, prompt_of: PromptOf, config: KnowledgeConfig
) -> Described:
    """The filled template is the text; it is filled each time it is read."""
    return Filled(prompt_of, num_rows), np.zeros(num_rows, np.uint8)


def by_language_model(
    kind: str, num_rows: int, prompt_of: PromptOf, config: KnowledgeConfig
) -> Described:
    """The answers of the language model `config.describer`; the template's text where an answer is of no use.

    Args:
      kind: "items" or "users".
      num_rows: V or N.
      prompt_of: row -> filled prompt.
      config: `config.knowledge`.

    Raises:
      UserError: `LanguageModel.request_answers` or `to_send` raises it, or the cache cannot be opened or written. All answers so far are
        in the cache.
    """
    model = LANGUAGE_MODELS[config.describer]
    with open_answers(config.describe.cache) as cache:
        keys, rows = to_send(kind, num_rows, prompt_of, config, cache)
        usage = model.request_answers(rows, keys, prompt_of, cache, config, f"describe {kind}")
        texts, names = zip(*described(keys, cache, prompt_of), strict=True)
    statuses = np.array([STATUSES.index(name) for name in names], np.uint8)
    if text := summary(usage, statuses, config):
        logger.info(f"describe {kind}: {text}")
    return list(texts), statuses


def to_send(
    kind: str, num_rows: int, prompt_of: PromptOf, config: KnowledgeConfig, cache: AnswerCache
) -> tuple[np.ndarray, np.ndarray]:
    """[n, 2] keys of all rows, and the rows whose prompts must be sent; logs which.

    Raises:
      UserError: the cache has some of the answers without an address (`unanswered.unused_answers_message`).
    """
    keys, rows, unused = _unanswered(num_rows, prompt_of, config, cache)
    logger.info(announcement(kind, num_rows, rows, prompt_of, config, unused))
    if unused:
        raise UserError(f"describe {kind}: {unused}")
    return keys, rows


def what_is_missing(kind: str, num_rows: int, prompt_of: PromptOf, config: KnowledgeConfig) -> str:
    """What `DESCRIBERS[config.describer]` would request; sends no request."""
    if config.describer == "template":
        return f"describe {kind}: {num_rows:,} texts from the template; nothing leaves this machine"
    with open_answers(config.describe.cache) as cache:
        _, rows, unused = _unanswered(num_rows, prompt_of, config, cache, copy=False)
    return announcement(kind, num_rows, rows, prompt_of, config, unused)


def count_unanswered(
    num_rows: int, prompt_of: PromptOf, config: KnowledgeConfig
) -> tuple[int, str]:
    """How many distinct prompts `DESCRIBERS[config.describer]` still sends, and `unanswered.unused_answers_message`; sends no request."""
    if config.describer == "template":
        return 0, ""
    with open_answers(config.describe.cache) as cache:
        _, rows, unused = _unanswered(num_rows, prompt_of, config, cache)
    return len(rows), unused


def _unanswered(
    num_rows: int,
    prompt_of: PromptOf,
    config: KnowledgeConfig,
    cache: AnswerCache,
    copy: bool = True,
) -> tuple[np.ndarray, np.ndarray, str]:
    """[n, 2] keys of all rows, and what `rows_to_request` returns."""
    model = LANGUAGE_MODELS[config.describer]
    keys = keys_of(num_rows, prompt_of, model, config)
    return keys, *rows_to_request(
        cache, keys, lambda rows: other_keys(rows, prompt_of, model, config), config.describe, copy
    )


def announcement(
    kind: str,
    num_rows: int,
    rows: np.ndarray,
    prompt_of: PromptOf,
    config: KnowledgeConfig,
    unused: str,
) -> str:
    """Says which requests will be sent, which data leave this machine, what this may cost, and `unused`; sends no request."""
    if not len(rows):
        return (
            f"describe {kind}: all {num_rows:,} are answered already; nothing leaves this machine"
        )
    model = LANGUAGE_MODELS[config.describer]
    usage = estimate(rows, prompt_of, config.describe.max_tokens)
    address = model.address(config)
    place = f"go to {address.in_words}" if address else "stay on this machine"
    price = (
        f", cost at most {usage.cost(config.describe):,.2f}"
        if address and _has_prices(config.describe)
        else ""
    )
    example = one_line(prompt_of(int(rows[0])))
    older = f"{unused}. " if unused else ""
    return (
        f"describe {kind}: {len(rows):,} prompts for {num_rows:,} {kind} {place}, model {model.described_by(config)['model']}; about "
        f"{usage.prompt_tokens:,} tokens, answers of at most {usage.answer_tokens:,}{price}. {older}The first: {example}"
    )


def summary(usage: Usage, statuses: np.ndarray, config: KnowledgeConfig) -> str:
    """Says how many requests were sent and their tokens and cost, and for how many rows the template was used instead; "" if neither."""
    parts = []
    if usage.requests:
        parts.append(
            f"{usage.requests:,} prompts answered, {usage.prompt_tokens:,} tokens of prompts and {usage.answer_tokens:,} of answers"
        )
        cut = [
            f"{usage.cut[reason]:,} {words}"
            for reason, words in CUT_BY.items()
            if usage.cut[reason]
        ]
        if cut:
            parts[-1] += f" ({', '.join(cut)})"
        if LANGUAGE_MODELS[config.describer].address(config) and _has_prices(config.describe):
            parts.append(f"cost {usage.cost(config.describe):,.2f}")
    counts = np.bincount(statuses, minlength=len(STATUSES))[1:]
    if counts.any():
        reasons = ", ".join(
            f"{count:,} {name}" for name, count in zip(STATUSES[1:], counts, strict=True) if count
        )
        parts.append(
            f"the template's text stands in for {counts.sum():,} of {len(statuses):,} ({reasons})"
        )
    return "; ".join(parts)


def _has_prices(settings: DescribeConfig) -> bool:
    return bool(settings.price_prompt or settings.price_answer)


DESCRIBERS: dict[str, Callable[[str, int, PromptOf, KnowledgeConfig], Described]] = {
    "template": by_template,
    **dict.fromkeys(LANGUAGE_MODELS, by_language_model),
}
