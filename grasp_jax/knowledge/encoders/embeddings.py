"""Text vectors from any OpenAI-compatible embeddings endpoint, in batches, each text paid for once."""

import base64
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import EmbedConfig
from grasp_jax.config.address import OTHER_CACHE_BY, of_key, resolved
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.knowledge.encoders.base import RejectedText
from grasp_jax.knowledge.endpoint.cache import (
    AnswerCache,
    StoredAnswer,
    answer_key,
    as_keys,
    open_answers,
)
from grasp_jax.knowledge.endpoint.client import (
    CHARACTERS_PER_TOKEN,
    Endpoint,
    FirstRejected,
    NoAnswer,
    Rejected,
    Usage,
    send_all,
)
from grasp_jax.knowledge.endpoint.unanswered import rows_to_request

VECTOR = np.dtype("<f4")  # in the cache


def announcement(kind: str, texts: Sequence[str], rows: np.ndarray, config: EmbedConfig) -> str:
    """A line that says how many of `texts` would be sent, to which server, and at what cost; sends nothing."""
    usage = Usage(len(rows), sum(len(texts[row]) for row in rows) // CHARACTERS_PER_TOKEN)
    price = f", cost about {usage.cost(config):,.2f}" if config.price_prompt else ""
    return (
        f"encode {kind}: {len(rows):,} texts for {len(texts):,} {kind} go to {resolved(config).in_words}, model {config.model}; "
        f"about {usage.prompt_tokens:,} tokens{price}"
    )


def what_is_missing(kind: str, texts: Sequence[str], config: EmbedConfig) -> str:
    """What encoding would send, as one line; sends nothing. `config` is `config.knowledge.embed`."""
    with open_answers(config.cache) as cache:
        _, rows, unused = _unanswered(texts, cache, config, copy=False)
    if not len(rows):
        return f"encode {kind}: the vectors of all {len(texts):,} are there already; nothing leaves this machine"
    return announcement(kind, texts, rows, config) + (f"; {unused}" if unused else "")


def vectors_of(texts: Sequence[str], cache: AnswerCache, config: EmbedConfig) -> np.ndarray:
    """[n, E] float32 vectors of texts; vectors that are not in the cache are requested.

    Raises:
      EndpointError: what `request_vectors` raises, or the vectors have several widths.
      UserError: what `to_send` raises.
    """
    keys, rows = to_send(texts, cache, config, "encode")
    request_vectors(texts, keys, rows, cache, config, "encode")
    vectors = [np.frombuffer(base64.b64decode(answer.text), VECTOR) for answer in cache.read(keys)]
    if len(widths := sorted({len(vector) for vector in vectors})) > 1:
        raise EndpointError(
            f"{config.cache}: has vectors of {' and '.join(map(str, widths))} numbers by the model {config.model!r}, so another server had "
            "another model of this name; set config.knowledge.embed.cache to a new folder, and all vectors are requested there",
            resolved(config).url,
        )
    return np.stack(vectors)


def as_answer(vector: np.ndarray) -> StoredAnswer:
    """[E] numbers as an entry of the cache."""
    return StoredAnswer(base64.b64encode(vector.astype(VECTOR).tobytes()).decode())


def keys_of(texts: Sequence[str], config: EmbedConfig) -> np.ndarray:
    """[n, 2] keys of the vectors of texts."""
    parameters = {"dimensions": config.dimensions} | of_key(resolved(config), config.cache_by)
    return as_keys([answer_key(text, config.model, parameters) for text in texts])


def to_send(
    texts: Sequence[str], cache: AnswerCache, config: EmbedConfig, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """[n, 2] keys of texts, and the rows whose vectors must be requested.

    Raises:
      UserError: the cache has some of the vectors without an address (`unanswered.unused_answers_message`).
    """
    keys, rows, unused = _unanswered(texts, cache, config)
    if unused:
        raise UserError(f"{label}: {unused}")
    return keys, rows


def _unanswered(
    texts: Sequence[str], cache: AnswerCache, config: EmbedConfig, copy: bool = True
) -> tuple[np.ndarray, np.ndarray, str]:
    """[n, 2] keys of texts, and what `rows_to_request` returns."""
    keys = keys_of(texts, config)
    other = dataclasses.replace(config, cache_by=OTHER_CACHE_BY[config.cache_by])
    return keys, *rows_to_request(
        cache, keys, lambda rows: keys_of([texts[row] for row in rows], other), config, copy
    )


def request_vectors(
    texts: Sequence[str],
    keys: np.ndarray,
    rows: np.ndarray,
    cache: AnswerCache,
    config: EmbedConfig,
    label: str,
) -> Usage:
    """Requests the vectors of `rows` and writes them to the cache under their `keys`; both come from `to_send`.

    Raises:
      EndpointError: the server refuses, or answers with something else.
    """
    usage = Usage()

    async def send(endpoint: Endpoint, batch: np.ndarray, retries: int) -> int:
        wanted = [texts[row] or " " for row in batch]
        options: dict[str, Any] = {"dimensions": config.dimensions} if config.dimensions else {}

        def read(response: Any) -> np.ndarray:
            vectors: list[list[float] | None] = [None] * len(wanted)
            for entry in response.data:  # in any order: the index says which text it belongs to
                if not 0 <= entry.index < len(wanted):
                    raise NoAnswer(f"a vector of text {entry.index}, and {len(wanted)} were sent")
                vectors[entry.index] = entry.embedding
            if any(not vector for vector in vectors):
                raise NoAnswer(f"{len(response.data)} vectors for {len(wanted)} texts")
            widths = sorted({len(vector or ()) for vector in vectors})
            if len(widths) > 1 or (config.dimensions and widths != [config.dimensions]):
                wide = f"vectors of {' and '.join(map(str, widths))} numbers"
                raise EndpointError(
                    f"{endpoint.where}: {wide}; config.knowledge.embed.dimensions asks for {config.dimensions or 'one width'}",
                    endpoint.where,
                )
            numbers = np.array(vectors, VECTOR)
            if not np.isfinite(numbers).all():
                raise NoAnswer("a vector that holds no finite number")
            counted = getattr(getattr(response, "usage", None), "prompt_tokens", None)
            usage.add(len(batch), counted if isinstance(counted, int) else 0)
            return numbers

        try:
            found = await endpoint.call(
                lambda client: client.embeddings.create(
                    model=config.model, input=wanted, encoding_format="float", **options
                ),
                sum(map(len, wanted)) / CHARACTERS_PER_TOKEN,
                retries,
                read,
            )
        except (Rejected, FirstRejected) as error:
            if len(batch) > 1:  # so that the text is found, and vectors of others are stored
                for half in np.array_split(batch, 2):
                    await send(endpoint, half, retries)
                return len(batch)
            row, said = int(batch[0]), str(error).removeprefix(f"{endpoint.where}: ")
            first = "" if endpoint.answered else "; no text was accepted before it"
            raise RejectedText(
                endpoint.where,
                label.removeprefix("encode").strip(),
                row,
                f"({len(texts[row]):,} characters) is rejected: {said}{first}",
            ) from None
        for row, vector in zip(batch, found, strict=True):
            cache.add(keys[row].tobytes(), as_answer(vector))
        return len(batch)

    if len(rows):
        send_all(
            config,
            batches(rows, texts, config.batch_texts, config.batch_tokens),
            send,
            usage,
            len(rows),
            label,
        )
    return usage


def batches(
    rows: np.ndarray, texts: Sequence[str], max_texts: int, max_tokens: int
) -> Iterator[np.ndarray]:
    """Rows in order, in batches of at most `max_texts` texts and about `max_tokens` tokens; a longer text has a batch of its own."""
    batch: list[int] = []
    tokens = 0.0
    for row in rows:
        own = len(texts[row]) / CHARACTERS_PER_TOKEN
        if batch and (len(batch) == max_texts or tokens + own > max_tokens):
            yield np.array(batch)
            batch, tokens = [], 0.0
        batch.append(int(row))
        tokens += own
    if batch:
        yield np.array(batch)
