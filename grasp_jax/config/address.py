"""The address of an endpoint and the name of its key, checked before anything is written; possible keys are never shown.

A config is written into the workdir, and so is the command line; both are printed, too.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from grasp_jax.core.errors import UserError

OPENAI = "https://api.openai.com/v1"
OF_ENVIRONMENT = "OPENAI_BASE_URL"  # used by the official client if no address is given
EXAMPLE = "http://localhost:8000/v1"
LONGEST_NAME = 64
OTHER_CACHE_BY = {"address": "model", "model": "address"}  # values of `cache_by`

_ADDRESS = re.compile(
    r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?(/[A-Za-z0-9._~%+:/-]*)?"
)
_NO_SCHEME = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._/-]*)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|ghp|github_pat)[-_][A-Za-z0-9_-]{6,}|\bAIza[A-Za-z0-9_-]{20,}|(?P<before>\bbearer[\s:]+)\S+"
    r"|(?P<name>(?:api[-_]?key|(?:access|auth|api|bearer)[-_]?token|password|secret)=)[^&\s]+|(?<=://)[^/\s@]+@",
    re.IGNORECASE,
)


class EndpointSettings(Protocol):
    """A section of the config about an endpoint: `config.knowledge.describe` or `config.knowledge.embed`."""

    @property
    def base_url(self) -> str: ...

    @property
    def key_variable(self) -> str: ...


class Address(NamedTuple):
    """An endpoint.

    Attributes:
      url: what requests go to.
      in_words: the same for the user, with where it was named.
      is_openai: whether it is OpenAI's own, which answers nobody without a key.
    """

    url: str
    in_words: str
    is_openai: bool


def check_endpoint(
    settings: EndpointSettings, where: str, environment: Mapping[str, str] = os.environ
) -> None:
    """Checks a section of the config about an endpoint; its errors never show a possible key.

    Args:
      settings: where the endpoint is and what its key is called.
      where: the section, for messages: "config.knowledge.describe".
      environment: whose variables are names beyond doubt.

    Raises:
      UserError: the value is not an address, or has more than an address; or the variable's name does not look like one.
    """
    if settings.base_url:
        check_address(settings.base_url, f"{where}.base_url")
    check_variable(settings.key_variable, f"{where}.key_variable", environment)


def check_variable(name: Any, where: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raises UserError unless `name` may be an environment variable's; shows nothing of it, for it may be a key.

    Args:
      name: what a config says; empty for a server that wants no key.
      where: the field, for messages: "config.knowledge.describe.key_variable".
      environment: whose variables are names beyond doubt.
    """
    if not _is_name(name, environment):
        raise UserError(
            f"{where}: not the name of an environment variable, such as OPENAI_API_KEY; the value is not shown, because it "
            "may be a key: put the key into the environment, and the name of its variable here"
        )


def check_address(address: Any, where: str) -> None:
    """Raises UserError unless `address` is scheme, host, perhaps a port, and perhaps a path; `where` names it."""
    expected = f"expected an address such as {EXAMPLE}"
    text = str(address)
    if "@" in text:
        raise UserError(
            f"{where}: an address with a name or a password, which is not shown; {expected}, and the key in the environment"
        )
    if "?" in text or "#" in text:
        raise UserError(
            f"{where}: an address with a query or a fragment, not shown; {expected}, and the key in the environment"
        )
    if _KEY.search(text):
        raise UserError(
            f"{where}: holds what looks like a key, which is not shown; {expected}, and the key in the environment"
        )
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found["port"] or 80) < 65_536:
        raise UserError(
            f"{where}: {repr(text[:60]) if found or _NO_SCHEME.fullmatch(text) else 'no address'}; {expected}"
        )


def resolved(settings: EndpointSettings) -> Address:
    """Where requests go: to `base_url`, or as the official client has it, to the environment's OPENAI_BASE_URL, or to OpenAI.

    Raises:
      UserError: the value in the environment is not an address.
    """
    if settings.base_url:
        return Address(settings.base_url, settings.base_url, settings.base_url.startswith(OPENAI))
    if given := os.environ.get(OF_ENVIRONMENT, "").strip():
        check_address(given, f"the environment's {OF_ENVIRONMENT}")
        return Address(given, f"{OF_ENVIRONMENT}={given}", given.startswith(OPENAI))
    return Address(OPENAI, f"OpenAI ({OPENAI})", True)


def of_key(address: Address | None, cache_by: str) -> dict[str, str]:
    """The server's part of the cache key of an answer, because two servers may have different models of one name.

    Args:
      address: of the server; None for a model on this machine.
      cache_by: the field of the section.
    """
    if address is None or cache_by == "model":
        return {}
    return {"address": address.url.rstrip("/")}


def redacted(text: str) -> str:
    """`text` with three stars in place of whatever looks like a key or a password."""
    return _KEY.sub(lambda found: f"{found['before'] or found['name'] or ''}***", text)


def _is_name(given: Any, environment: Mapping[str, str]) -> bool:
    """Whether this is the name of a variable and not a key: the environment has it, or it is in capitals."""
    name = str(given)
    if not name:  # of a server that wants no key
        return True
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return False
    # as the keys of some clouds are
    mixed = any(map(str.isdigit, name)) and "_" not in name and len(name) >= 16
    return name in environment or (name == name.upper() and not mixed)
