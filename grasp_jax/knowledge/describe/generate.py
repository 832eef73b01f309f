"""Descriptions from a model folder on this machine, in batches of like length; nothing leaves it, and each answer is made once.

Sampled answers (`describe.temperature` above 0) depend on the batch that they are made in; greedy ones only by rounding.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.progress import progress_bar
from grasp_jax.knowledge.describe.language_model import SYSTEM, LanguageModel
from grasp_jax.knowledge.describe.local_model import Generate, Generated, loaded
from grasp_jax.knowledge.describe.model_folder import fingerprint, model_folder
from grasp_jax.knowledge.endpoint.cache import AnswerSink, StoredAnswer
from grasp_jax.knowledge.endpoint.client import Usage
from grasp_jax.knowledge.text.clean import clean, status_of, without_thoughts
from grasp_jax.knowledge.text.prompts import PromptOf

WINDOW = (
    64  # batches among which prompts are sorted by length, so that little of a batch is padding
)

Load = Callable[[KnowledgeConfig], contextlib.AbstractContextManager[Generate]]


def described_by(config: KnowledgeConfig) -> dict[str, Any]:
    """The folder's name and content, and everything besides the prompt that an answer of it depends on.

    Raises:
      UserError: `config.local.model` is not the folder of a model.
    """
    folder, settings = model_folder(config.local.model), config.describe
    return {
        "model": folder.name,
        "content": fingerprint(folder),
        "dtype": config.local.dtype,
        "system": SYSTEM,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "max_characters": settings.max_characters,
    }


def request_answers(
    rows: np.ndarray,
    keys: np.ndarray,
    prompt_of: PromptOf,
    cache: AnswerSink,
    config: KnowledgeConfig,
    label: str,
    load: Load = loaded,
) -> Usage:
    """As `LanguageModel.request_answers`, with the model in `config.local`; a prompt that is too long for it is "rejected".

    Args:
      load: gives the model for as long as it is needed.

    Raises:
      UserError: the packages are not there, or the model cannot be loaded or does not fit. What was answered is in the cache.
    """
    usage = Usage()
    if not len(rows):
        return usage
    with load(config) as generate, progress_bar(len(rows), label, "text") as bar:
        for batch in batches(rows, prompt_of, config.local.batch_size):
            made = generate([prompt_of(row) for row in batch])
            for row, own in zip(batch, made, strict=True):
                answer = _answer(own, config.describe.max_characters)
                cache.add(keys[row].tobytes(), answer)
                usage.add(1, answer.prompt_tokens, answer.answer_tokens)
                usage.cut["length"] += own is not None and own.cut
            bar.update(len(batch))
            bar.set_postfix_str(
                f"{usage.prompt_tokens + usage.answer_tokens:,} tokens", refresh=False
            )
    return usage


def _answer(made: Generated | None, max_characters: int) -> StoredAnswer:
    if made is None:
        return StoredAnswer("", "rejected")
    text = clean(without_thoughts(made.text), max_characters)
    return StoredAnswer(text, status_of(text), made.prompt_tokens, made.answer_tokens)


def batches(
    rows: Sequence[int] | np.ndarray, prompt_of: PromptOf, batch_size: int
) -> Iterator[list[int]]:
    """Rows, `batch_size` at a time, in windows sorted by length: the longest first, so that memory runs out at once or not at all."""
    for start in range(0, len(rows), WINDOW * batch_size):
        window = sorted(
            map(int, rows[start : start + WINDOW * batch_size]),
            key=lambda row: len(prompt_of(row)),
            reverse=True,
        )
        for first in range(0, len(window), batch_size):
            yield window[first : first + batch_size]


def address(config: KnowledgeConfig) -> None:
    """None: prompts stay on this machine."""


GENERATE = LanguageModel(described_by, request_answers, address)
