"""Text for every item or user: the filled template itself, or what a language model makes of it.

A describer is a function (kind, number of rows, prompt of a row, config) -> texts and statuses.
"""

from collections.abc import Callable

import ml_collections
import numpy as np

from grasp_jax.knowledge import chat
from grasp_jax.knowledge.answers import open_answers
from grasp_jax.knowledge.clean import STATUSES
from grasp_jax.knowledge.prompts import PromptOf

Described = tuple[list[str], np.ndarray]  # texts, and [rows] uint8 indices into STATUSES


def by_template(kind: str, num_rows: int, prompt_of: PromptOf, config: ml_collections.ConfigDict) -> Described:
    """The filled template is the text."""
    return [prompt_of(row) for row in range(num_rows)], np.zeros(num_rows, np.uint8)


def by_chat(kind: str, num_rows: int, prompt_of: PromptOf, config: ml_collections.ConfigDict) -> Described:
    """What a chat endpoint answers; the template where it has nothing to say.

    Args:
      kind: "items" or "users".
      num_rows: V or N.
      prompt_of: row -> filled prompt.
      config: `config.knowledge`.
    """
    settings = config.describe
    with open_answers(settings.cache) as cache:
        keys = chat.keys_of(num_rows, prompt_of, settings)
        rows = cache.unanswered(keys)
        print(announcement(kind, num_rows, rows, prompt_of, settings), flush=True)
        chat.ask(rows, keys, prompt_of, cache, settings, f"describe {kind}")
        texts, names = zip(*chat.described(keys, cache, prompt_of), strict=True)
    statuses = np.array([STATUSES.index(name) for name in names], np.uint8)
    counts = np.bincount(statuses, minlength=len(STATUSES))[1:]
    if counts.any():
        said = ", ".join(f"{count:,} {name}" for name, count in zip(STATUSES[1:], counts, strict=True) if count)
        print(f"describe {kind}: the template's text stands in for {counts.sum():,} answers ({said})")
    return list(texts), statuses


def what_is_missing(kind: str, num_rows: int, prompt_of: PromptOf, config: ml_collections.ConfigDict) -> str:
    """What `DESCRIBERS[config.describer]` would ask for; asks for nothing."""
    if config.describer == "template":
        return f"describe {kind}: {num_rows:,} texts from the template; nothing leaves this machine"
    with open_answers(config.describe.cache) as cache:
        keys = chat.keys_of(num_rows, prompt_of, config.describe)
        return announcement(kind, num_rows, cache.unanswered(keys), prompt_of, config.describe)


def count_unanswered(num_rows: int, prompt_of: PromptOf, config: ml_collections.ConfigDict) -> int:
    """How many different prompts `DESCRIBERS[config.describer]` would still ask for; asks for nothing."""
    if config.describer == "template":
        return 0
    with open_answers(config.describe.cache) as cache:
        return len(cache.unanswered(chat.keys_of(num_rows, prompt_of, config.describe)))


def announcement(kind: str, num_rows: int, rows: np.ndarray, prompt_of: PromptOf, settings: ml_collections.ConfigDict) -> str:
    """What is about to leave this machine, where to, and what it may cost; nothing is asked."""
    where = settings.base_url or "OpenAI"
    if not len(rows):
        return f"describe {kind}: all {num_rows:,} are answered already; nothing leaves this machine"
    usage = chat.estimate(rows, prompt_of, settings)
    price = f", cost at most {usage.cost(settings):,.2f}" if settings.price_prompt or settings.price_answer else ""
    example = " ".join(prompt_of(int(rows[0])).split())[:200]
    return (
        f"describe {kind}: {len(rows):,} prompts for {num_rows:,} {kind} go to {where}, model {settings.model}; about "
        f"{usage.prompt_tokens:,} tokens, answers of at most {usage.answer_tokens:,}{price}. The first: {example}"
    )


DESCRIBERS: dict[str, Callable[[str, int, PromptOf, ml_collections.ConfigDict], Described]] = {"template": by_template, "openai": by_chat}
