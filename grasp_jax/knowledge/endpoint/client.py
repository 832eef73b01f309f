"""An OpenAI-compatible endpoint: bounded concurrency, rate limits, and error messages for the user.

One loop repeats a request, after transient errors (408, 409, 429, 5xx, dropped connections, time-outs) and malformed answers alike: every
attempt passes the rate limits, and waits as long as Retry-After says, or with back-off and jitter.
"""

import asyncio
import collections
import dataclasses
import email.utils
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from grasp_jax.config import DescribeConfig, EmbedConfig
from grasp_jax.config.address import check_endpoint, redacted, resolved
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.core.progress import progress_bar

# "finish_reason" of an answer that is not whole -> in words
CUT_BY = {"length": "cut at max_tokens", "content_filter": "cut by the server's content filter"}
CHARACTERS_PER_TOKEN = 4  # of English text, for estimates before the endpoint has counted
TRANSIENT = (408, 409, 429)  # and 5xx
LONGEST_BACK_OFF, LONGEST_RETRY_AFTER = 8.0, 60.0  # seconds; a longer Retry-After is not believed
FIRST_RETRIES = 2  # of the very first request, so that a wrong address is reported within seconds


@dataclasses.dataclass
class Usage:
    """Requests and tokens of a run so far.

    Attributes:
      cut: reason of `CUT_BY` -> how many answers ended with it.
    """

    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cut: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, requests: int, prompt_tokens: int, answer_tokens: int = 0) -> None:
        self.requests += requests
        self.prompt_tokens += prompt_tokens
        self.answer_tokens += answer_tokens

    def cost(self, config: DescribeConfig | EmbedConfig) -> float:
        """By the prices of the config, for a million tokens each."""
        return (
            float(
                self.prompt_tokens * config.price_prompt + self.answer_tokens * config.price_answer
            )
            / 1e6
        )


class Rejected(Exception):
    """The endpoint rejects this one request (status 400 or 422); the message is the server's own reason, without the key."""


class FirstRejected(EndpointError):
    """The same of the very first request, where more than the one text may be at fault."""


class NoAnswer(Exception):
    """The response does not follow the protocol; worth another attempt."""


# Errors of reading a response that is HTML, is truncated, lacks a field or is nested absurdly deep.
MALFORMED = (NoAnswer, ValueError, AttributeError, TypeError, LookupError, RecursionError)


class Endpoint:
    """The client with its limits.

    Attributes:
      config: "base_url", "key_variable", "model", "timeout", "retries", "concurrency" and the two rate limits.
      answered: whether any request has succeeded.
    """

    def __init__(self, config: DescribeConfig | EmbedConfig) -> None:
        try:
            import aiohttp  # noqa: F401  # which the client imports later
            import aiolimiter
            import openai
        except ImportError as error:
            raise UserError(
                f"an OpenAI-compatible endpoint needs the package {error.name}: pip install 'grasp-jax[text]'"
            ) from error
        check_endpoint(config, f"config.{config.SECTION}")
        address = resolved(config)
        self.where = address.url
        self.config, self.answered, self._errors = config, False, openai
        key = os.environ.get(config.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                f"the environment's {config.key_variable} holds characters that no key has; set it to your key",
                self.where,
            )
        if not key and address.is_openai:
            raise EndpointError(
                f"the environment has no {config.key_variable}; set it to your key, or base_url to a server of your own",
                self.where,
            )
        self._key = key
        # With aiohttp a request costs half the processor time of the default transport. A redirect would carry the prompts to a host
        # that nobody named.
        http_client = openai.DefaultAioHttpClient(follow_redirects=False)
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=address.url,
            timeout=config.timeout,
            max_retries=0,  # `call` repeats requests
            http_client=http_client,
        )
        per_second = config.requests_per_minute / 60
        self._requests = (
            aiolimiter.AsyncLimiter(max(per_second, 1.0), max(1.0, 1 / per_second))
            if per_second
            else None
        )
        self._tokens = (
            aiolimiter.AsyncLimiter(config.tokens_per_minute / 6, 10)
            if config.tokens_per_minute
            else None
        )

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def call(
        self,
        request: Callable[[Any], Awaitable[Any]],
        tokens: float,
        retries: int,
        read: Callable[[Any], Any],
    ) -> Any:
        """Sends a request until it is answered.

        Args:
          request: client -> response.
          tokens: how many it will take, for the rate limit.
          retries: attempts beyond the first.
          read: response -> the part that the caller needs; if something is missing, or on `NoAnswer`, the request is sent again.

        Raises:
          Rejected: status 400 or 422, after other requests succeeded.
          NoAnswer: no attempt was answered properly.
          EndpointError: no request can succeed: a wrong key, model or address, or an endpoint that is down; or status 400 or 422 for the
            first request.
        """
        errors, wait, reason, malformed = self._errors, 0.0, "", True
        for attempt in range(retries + 1):
            if attempt:
                await asyncio.sleep(wait)
            if self._requests:
                await self._requests.acquire()
            if self._tokens:
                await self._tokens.acquire(min(tokens, self._tokens.max_rate))
            wait = min(LONGEST_BACK_OFF, 0.5 * 2**attempt) * random.uniform(0.75, 1.0)
            try:
                response = await request(self._client)
                if said := _error_in(response):
                    raise NoAnswer(f"status 200 with the error {said!r}")
                found = read(response)
                self.answered = True
                return found
            except (errors.APIConnectionError, errors.APIStatusError) as error:
                if isinstance(error, errors.APIStatusError) and not _transient(error.status_code):
                    raise self._refusal(error) from None
                reason, malformed = self._message(error), False
                wait = _retry_after(getattr(error, "response", None)) or wait
            except (*MALFORMED, errors.APIResponseValidationError) as error:
                malformed = True
                reason = (
                    self._message(error)
                    if isinstance(error, NoAnswer)
                    else f"{type(error).__name__}, not the protocol's JSON"
                )
        if malformed:
            raise NoAnswer(f"{self.where}: {retries + 1} times no answer to one request ({reason})")
        kept = "all answers so far are kept; run the same command again to continue"
        raise EndpointError(
            f"{self.where}: no answer after {retries + 1} attempts: {reason}; {kept}", self.where
        )

    def _refusal(self, error: Any) -> Exception:
        """What to raise for a status that no other attempt would change."""
        errors = self._errors
        match error:
            case errors.AuthenticationError() | errors.PermissionDeniedError():
                text = (
                    f"the key in {self.config.key_variable} is refused (status {error.status_code}); set another key. No more requests "
                    "were sent"
                )
            case errors.NotFoundError():
                text = f"no model {self.config.model!r} here, or no such endpoint: {self._message(error)}"
            case errors.BadRequestError() | errors.UnprocessableEntityError():
                if self.answered:
                    return Rejected(self._message(error))
                return FirstRejected(
                    f"{self.where}: refused the first request: {self._message(error)}", self.where
                )
            case _ if error.status_code // 100 == 3:
                text = _redirected(error.status_code, error.response)
            case _:
                text = f"no answer: {self._message(error)}"
        return EndpointError(f"{self.where}: {text}", self.where)

    def _message(self, error: Exception) -> str:
        """The error in one line, without the key; if it has a cause, that: the client calls every failure to connect a time-out."""
        text = str(error.__cause__ or "") or str(error)
        text = text.replace(self._key, "***") if self._key else text
        return redacted(" ".join(text.split()))[:400]


def _error_in(response: Any) -> str:
    """What an error object says that comes with status 200, as from some gateways; "" without one."""
    said = response.get("error") if isinstance(response, dict) else getattr(response, "error", None)
    if isinstance(said, dict):
        return str(said.get("message") or said) if any(said.values()) else ""
    return str(said or "")


def _transient(status: int) -> bool:
    """Whether another attempt may succeed."""
    return status in TRANSIENT or status >= 500


def _retry_after(response: Any) -> float:
    """Seconds for which the server asks to wait, by its headers; 0 if it does not say, or asks for more than `LONGEST_RETRY_AFTER`."""
    if response is None:
        return 0.0
    said = response.headers.get("retry-after", "")
    try:
        if milliseconds := response.headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif ":" in said:  # a date
            seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        else:
            seconds = float(said)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds <= LONGEST_RETRY_AFTER else 0.0


def _redirected(status: int, response: Any) -> str:
    """An error message about a redirect; of its target only the host, because the rest may contain a key."""
    try:
        target = (
            urlsplit(response.headers.get("location", "")).hostname
            or "another path of the same host"
        )
    except ValueError:
        target = "an address that is none"
    return f"redirects to {target} (status {status}), which is not followed, because prompts go where the config says alone; mend base_url"


def send_all(
    config: DescribeConfig | EmbedConfig,
    batches: Iterable[Any],
    send: Callable[[Endpoint, Any, int], Awaitable[int]],
    usage: Usage,
    total: int,
    label: str,
) -> None:
    """Runs `send(endpoint, batch, retries)` for all batches, `config.concurrency` at a time, under a progress bar.

    Args:
      config: of the endpoint.
      batches: of requests; read one by one.
      send: returns how much of `total` it has done.
      usage: counts that `send` updates, shown next to the progress bar.
      total, label: of the bar.

    Raises:
      UserError: the first error of any batch (`EndpointError` if the endpoint is at fault); other requests in progress are cancelled.
    """

    async def run() -> None:
        pending = iter(batches)
        async with Endpoint(config) as endpoint:
            with progress_bar(total, label, "text") as bar:

                async def work(retries: int, limit: int | None = None) -> None:
                    for count, batch in enumerate(pending, start=1):
                        bar.update(await send(endpoint, batch, retries))
                        tokens = usage.prompt_tokens + usage.answer_tokens
                        bar.set_postfix_str(
                            f"{tokens:,} tokens, cost {usage.cost(config):.2f}", refresh=False
                        )
                        if count == limit:
                            return

                await work(min(FIRST_RETRIES, config.retries), limit=1)
                async with asyncio.TaskGroup() as group:
                    for _ in range(config.concurrency):
                        group.create_task(work(config.retries))

    try:
        asyncio.run(run())
    except* (UserError, NoAnswer) as errors:
        first = _first(errors)
        if isinstance(first, UserError):
            raise first from None
        raise EndpointError(str(first), resolved(config).url) from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
