"""What a service allows, and how it is reached."""

import dataclasses
import ipaddress
import os
import pathlib
from collections.abc import Mapping

from grasp_jax.core.errors import UserError

TOKEN = "GRASP_SERVE_TOKEN"  # environment variable with the bearer token
SHORTEST_TOKEN = 16  # characters; a shorter one can be guessed


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the number of waiting requests.

    Attributes:
      k: items in an answer.
      people: users or histories of a request, and items of `/similar`.
      history: items of a history.
      listed: ids in all lists of `candidates` or `exclude` together.
      new_items: items of a `PUT /items`.
      body_bytes: size of a body.
      body_seconds: time within which the head of a request must have arrived, and then its body.
      queue: people who wait for an answer, over all requests; also the number of requests in progress.
      searches: searches of titles that run or wait.
      changes: waiting requests that change items.
      seconds: time from the end of the body to the answer.
    """

    k: int = 100
    people: int = 256
    history: int = 1000
    listed: int = 20_000
    new_items: int = 1000
    body_bytes: int = 1 << 20
    body_seconds: float = 5.0
    queue: int = 512
    searches: int = 32
    changes: int = 16
    seconds: float = 5.0

    def __post_init__(self) -> None:
        """Raises UserError if a limit is below 1, a time is not above 0, or a request may have more people than the queue has room for."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf") or (field.type is int and value < 1):
                raise UserError(
                    f"--{field.name.replace('_', '-')}: {value}; expected a number above 0, the limit of the service"
                )
        if self.people > self.queue:
            raise UserError(
                f"--people={self.people} with --queue={self.queue}: a request with more people than the queue has room for is never "
                "answered; lower --people, or raise --queue"
            )


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a service.

    Attributes:
      limits: limits of requests.
      batch_sizes: numbers of people in a batch, ascending; smaller batches are padded. None: as `fixed_programs.batch_sizes_for` has it.
      lengths: lengths to which histories are padded, in addition to the longest that the model reads.
      token: bearer token that requests must send; None: none is needed.
      models: folder below which `POST /reload` may name a model; None: it may not name a path.
      log_requests: whether each request writes a line to the log.
      recall: share of the best items that approximate search must find; None: exact search.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    batch_sizes: tuple[int, ...] | None = None
    lengths: tuple[int, ...] = (16, 64)
    token: str | None = dataclasses.field(default=None, repr=False)
    models: pathlib.Path | None = None
    log_requests: bool = True
    recall: float | None = None


def read_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """The token from the environment; None if there is none. Error messages do not contain it.

    Raises:
      UserError: the token is too short, or has characters that a header cannot contain.
    """
    token = environment.get(TOKEN)
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"{TOKEN}: {len(token)} characters; expected at least {SHORTEST_TOKEN}, for example from `openssl rand -hex 24`; unset it to "
            "serve without a token"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{TOKEN}: has blanks or characters that are not printable ASCII; set another, for example from `openssl rand -hex 24`"
        )
    return token


def check_reach(host: str, token: str | None, insecure: bool) -> None:
    """Refuses to start a service without a token that other machines can reach.

    Raises:
      UserError: there is no such host, or it is not the loopback address and there is no token.
    """
    if not host.strip():
        raise UserError("--host: empty; expected an address such as 127.0.0.1 or 0.0.0.0")
    if is_loopback(host) or token is not None or insecure:
        return
    raise UserError(
        f"--host={host}: other machines could send requests without a token; set {TOKEN} in the environment, or add --insecure where "
        "something else keeps strangers out"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
