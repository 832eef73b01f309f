"""Text vectors from any OpenAI-compatible embeddings endpoint, in batches, each text paid for once."""

import base64
import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import EmbedConfig
from grasp_jax.config.address import OTHER_CACHE_BY, of_key, resolved
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
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
LOOKED_AT = 64  # stored vectors, to know their width


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


def vectors_of(
    texts: Sequence[str], cache: AnswerCache, config: EmbedConfig, width: int = 0
) -> np.ndarray:
    """[n, E] float32 vectors of texts; vectors that are not in the cache, or have another width there, are requested.

    Args:
      texts: n of them.
      cache: open.
      config: `config.knowledge.embed`.
      width: E; 0: as `config.dimensions` says, or as most of these vectors have.

    Raises:
      EndpointError: what `request_vectors` raises.
      UserError: what `to_send` raises.
    """
    keys, rows = to_send(texts, cache, config, "encode")
    width = config.dimensions or width
    request_vectors(texts, keys, rows, cache, config, "encode", width)
    vectors = _stored(keys, cache)
    width = width or _most_common(map(len, vectors))
    wrong = np.flatnonzero([len(vector) != width for vector in vectors])
    if len(wrong):
        # An earlier version stored them, or another model of this name made them.
        _, first = np.unique(keys[wrong], axis=0, return_index=True)
        logger.info(
            f"{config.cache}: {len(first):,} of {len(texts):,} vectors by the model {config.model!r} do not have {width} numbers as the "
            "others; only these are requested again"
        )
        request_vectors(texts, keys, wrong[np.sort(first)], cache, config, "encode", width)
        vectors = _stored(keys, cache)
    return np.stack(vectors)


def stored_width(keys: np.ndarray, cache: AnswerCache) -> int:
    """The width of most of the first vectors that the cache has for [n, 2] keys; 0 if it has none."""
    known = keys[~cache.missing(keys)][:LOOKED_AT]
    return _most_common(map(len, _stored(known, cache)))


def _stored(keys: np.ndarray, cache: AnswerCache) -> list[np.ndarray]:
    return [np.frombuffer(base64.b64decode(answer.text), VECTOR) for answer in cache.read(keys)]


def _most_common(widths: Iterable[int]) -> int:
    found = collections.Counter(widths).most_common(1)
    return found[0][0] if found else 0


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
    width: int = 0,
) -> Usage:
    """Requests the vectors of `rows` and writes them to the cache under their `keys`; both come from `to_send`.

    Args:
      texts, keys, rows, cache, config: as of `to_send` and `vectors_of`.
      label: "encode", and "items" or "users" if that is known.
      width: E of other vectors of this model; 0: that of the first batch. A batch with another width is requested again.

    Raises:
      EndpointError: the server refuses, or answers with something else.
    """
    usage, wide = Usage(), config.dimensions or width

    async def send(endpoint: Endpoint, batch: np.ndarray, retries: int) -> int:
        wanted = [texts[row] or " " for row in batch]
        options: dict[str, Any] = {"dimensions": config.dimensions} if config.dimensions else {}

        def read(response: Any) -> np.ndarray:
            nonlocal wide
            numbers = _vectors_in(response, len(wanted), config, wide)
            wide = numbers.shape[1]
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
            first = (
                ""
                if endpoint.answered
                else "; no text was accepted before it, so a setting such as config.knowledge.embed.dimensions may be at fault"
            )
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


def _vectors_in(response: Any, count: int, config: EmbedConfig, width: int) -> np.ndarray:
    """[count, E] the vectors of a response, in the order of the texts that were sent.

    Raises:
      NoAnswer: they are too few or too many, of another width than `width` (0: any) or each other, or not finite.
    """
    vectors: list[list[float] | None] = [None] * count
    for entry in response.data:  # in any order: the index says which text it belongs to
        if not 0 <= entry.index < count:
            raise NoAnswer(f"a vector of text {entry.index}, and {count} were sent")
        vectors[entry.index] = entry.embedding
    if any(not vector for vector in vectors):
        raise NoAnswer(f"{len(response.data)} vectors for {count} texts")
    widths = sorted({len(vector or ()) for vector in vectors})
    if widths != [width or widths[0]]:
        raise NoAnswer(
            f"vectors of {' and '.join(map(str, widths))} numbers; {_expected_width(config, width)}"
        )
    numbers = np.array(vectors, VECTOR)
    if not np.isfinite(numbers).all():
        raise NoAnswer("a vector that holds no finite number")
    return numbers


def _expected_width(config: EmbedConfig, width: int) -> str:
    """What is expected in place of vectors of another width, and what the user may do."""
    if config.dimensions:
        return f"config.knowledge.embed.dimensions asks for {config.dimensions}"
    if not width:
        return "expected one width"
    return (
        f"the other vectors of the model {config.model!r} have {width}; run the same command again to request only these, or, if the "
        "server has another model of this name now, set config.knowledge.embed.cache to a new folder"
    )


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
