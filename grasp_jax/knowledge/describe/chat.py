"""Descriptions from any OpenAI-compatible chat endpoint (OpenAI, vLLM, Ollama, llama.cpp), many at once and each paid for once.

The client cannot see whether an answer belongs to another item's request. So each prompt has a reference that the model must repeat.
"""

from typing import Any

import numpy as np

from grasp_jax.config import DescribeConfig, KnowledgeConfig
from grasp_jax.config.address import Address, resolved
from grasp_jax.knowledge.describe.language_model import SYSTEM, LanguageModel
from grasp_jax.knowledge.endpoint.cache import AnswerSink, StoredAnswer
from grasp_jax.knowledge.endpoint.client import (
    CHARACTERS_PER_TOKEN,
    CUT_BY,
    Endpoint,
    NoAnswer,
    Rejected,
    Usage,
    send_all,
)
from grasp_jax.knowledge.text.clean import clean, split_reference, status_of, without_thoughts
from grasp_jax.knowledge.text.prompts import PromptOf

OTHER_ITEM = "the answer is another item's"


def described_by(config: KnowledgeConfig) -> dict[str, Any]:
    """Model, and everything besides the prompt that an answer of it depends on; the settings are `config.describe`."""
    settings = config.describe
    # OpenAI's own models know only the second
    limit = "max_tokens" if settings.base_url else "max_completion_tokens"
    return {
        "model": settings.model,
        "system": SYSTEM,
        "temperature": settings.temperature,
        limit: settings.max_tokens,
        "max_characters": settings.max_characters,
    }


def request_answers(
    rows: np.ndarray,
    keys: np.ndarray,
    prompt_of: PromptOf,
    cache: AnswerSink,
    config: KnowledgeConfig,
    label: str,
) -> Usage:
    """As `LanguageModel.request_answers`, with the endpoint in `config.describe`.

    Raises:
      UserError: no key or a wrong one, an unknown model, an endpoint that is down. What was answered is in the cache.
    """
    usage = Usage()
    options = {
        name: value
        for name, value in described_by(config).items()
        if name not in ("system", "max_characters")
    }

    async def send(endpoint: Endpoint, row: int, retries: int) -> int:
        key = keys[row].tobytes()
        answer = await _answer(
            endpoint, config.describe, prompt_of(int(row)), key.hex()[:8], options, retries, usage
        )
        cache.add(key, answer)
        usage.add(1, answer.prompt_tokens, answer.answer_tokens)
        return 1

    if len(rows):
        send_all(config.describe, rows, send, usage, len(rows), label)
    return usage


async def _answer(
    endpoint: Endpoint,
    config: DescribeConfig,
    prompt: str,
    reference: str,
    options: dict[str, Any],
    retries: int,
    usage: Usage,
) -> StoredAnswer:
    """One answer, or the reason why there is none; answers that were cut are counted in `usage`."""
    messages = [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": f"{prompt}\n\nBegin your answer with the reference [{reference}].",
        },
    ]
    body = {"messages": messages, **options}

    def read(response: Any) -> StoredAnswer:
        choice = response["choices"][0]
        message = choice["message"]
        named, text = split_reference(without_thoughts(_text_of(message["content"])))
        if named and named != reference:
            raise NoAnswer(OTHER_ITEM)
        text, counted = clean(text, config.max_characters), response.get("usage")
        ended = choice.get("finish_reason")
        refused = not text and (ended == "content_filter" or message.get("refusal"))
        if ended in CUT_BY:
            usage.cut[ended] += 1
        return StoredAnswer(
            text,
            "refused" if refused else status_of(text),
            *(_count(counted, name) for name in ("prompt_tokens", "completion_tokens")),
        )

    tokens = (len(prompt) + len(SYSTEM)) / CHARACTERS_PER_TOKEN + config.max_tokens
    try:
        # Not by `chat.completions.create`, which takes as long again to check what is sent and to build what came back.
        request = lambda client: client.post("/chat/completions", body=body, cast_to=dict[str, Any])  # noqa: E731
        answer: StoredAnswer = await endpoint.call(request, tokens, retries, read)
        return answer
    except Rejected:
        return StoredAnswer("", "rejected")
    except NoAnswer as error:
        if OTHER_ITEM in str(error):
            return StoredAnswer("", "mismatch")
        raise


def _text_of(content: Any) -> str:
    """The text of a message's content: a string, a list of parts, or nothing.

    Raises:
      NoAnswer: it is something else.
    """
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(
            str(part.get("text") or "") for part in content if part.get("type", "text") == "text"
        )
    if content is None or isinstance(content, str):
        return content or ""
    raise NoAnswer(f"choices[0].message.content is {str(content)[:40]!r}; expected text")


def _count(usage: Any, name: str) -> int:
    """A number of tokens of "usage"; 0 where the server does not count them."""
    number = usage.get(name) if isinstance(usage, dict) else None
    return int(number) if isinstance(number, int | float) else 0


def address(config: KnowledgeConfig) -> Address:
    """The endpoint's address."""
    return resolved(config.describe)


CHAT = LanguageModel(described_by, request_answers, address)
