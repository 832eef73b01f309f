"""The one line that a user reads when the program refuses an input."""

from collections.abc import Callable
from typing import Any

import pytest

from grasp_jax.core.errors import UserError


def refusal(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The message of the UserError that the call must raise; fails on another exception and on more than one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert message.strip() and len(message.splitlines()) == 1, repr(message)
    return message


def assert_names(message: str, parts: tuple[str, ...]) -> None:
    """Every part (file, row, value, expectation) stands in the message."""
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"
