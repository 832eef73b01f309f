"""A full disk and a folder that cannot be written, in calls from Python."""

import pathlib
import types
from typing import Any

import pytest

import grasp_jax as gj
from grasp_jax.core.failed_writes import refusing_failed_writes
from tests.refusal import assert_names, refusal


def failing(error: Exception) -> Any:
    def fails(*_: object) -> None:
        raise error

    return fails


@pytest.mark.parametrize("call", ["save", "export", "represent"])
def test_a_full_disk_is_no_bug(
    call: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare `[Errno 28]` names no folder and no remedy, and by the documentation it would be a bug of ours."""
    model = gj.Recommender(method="plain")
    model._artifact = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setattr(model, "representing", lambda: None)
    module = "grasp_jax.answering" if call == "represent" else "grasp_jax.api"
    function = {"save": "save_artifact", "export": "export_artifact", "represent": "represent"}[
        call
    ]
    refused = PermissionError(13, "Permission denied", str(tmp_path / "model"))
    for error, parts in (
        (
            OSError(28, "No space left on device"),
            ("disk is full", "free space", f"call {call} again"),
        ),
        (refused, ("Permission denied", "expected a path that can be read and written")),
    ):
        monkeypatch.setattr(f"{module}.{function}", failing(error))
        message = refusal(getattr(model, call), tmp_path / "model")
        assert_names(message, (f"{call}: ", str(tmp_path / "model"), *parts))


def test_a_device_without_memory_is_no_full_disk(tmp_path: pathlib.Path) -> None:
    """An export that a GPU cannot hold would ask for free space on the disk."""

    class JaxRuntimeError(RuntimeError):
        """Called as JAX's own."""

    with pytest.raises(JaxRuntimeError), refusing_failed_writes(tmp_path, "export"):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte")


def test_other_errors_stay_as_they_are(tmp_path: pathlib.Path) -> None:
    """A bug of ours would look like a fault of the user's disk."""
    with pytest.raises(KeyError), refusing_failed_writes(tmp_path, "save"):
        raise KeyError("x")
