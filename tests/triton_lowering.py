"""Lowers kernels for a GPU on a machine without one, which checks Triton's rules about shapes and operations."""

from collections.abc import Callable
from typing import Any

import jax
import pytest

from grasp_jax.kernels import backend


def kernels_lowered(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], *arguments: Any
) -> int:
    """How many kernels of `function` Triton takes; raises what it objects to."""
    monkeypatch.setattr(backend, "interpret", lambda: False)
    try:
        text = (
            jax.jit(lambda *given: function(*given))
            .trace(*arguments)
            .lower(lowering_platforms=("cuda",))
            .as_text()
        )
    except RuntimeError as error:
        # Newer versions of JAX go on from Triton's module to machine code, which needs the GPU's package.
        if "compilation handler" in str(error):
            pytest.skip(str(error))
        raise
    return text.count("xla.gpu.triton") + text.count("triton_kernel_call_ffi")
