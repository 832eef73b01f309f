"""What a result was measured on: hardware, versions and commit."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

from grasp_jax.core.cores import cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")


def machine() -> dict[str, Any]:
    """Hardware, versions and commit."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": cores(),
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in _PACKAGES},
        "commit": commit(),
    }


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the working tree, with "-dirty" where tracked files differ; None outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return described.stdout.strip() or None
