"""Compiles for an H100 on a machine without one: the compiler of jax's CUDA plugin needs only a description of the GPU.

    python -m pip install --no-deps jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2    # of the version of jax in use, 180 MB

There is no autotuning, which would time kernels on the device, so the library chooses the kernels of matrix products. Everything else is as
on the device: which operations are fused, how many kernels there are, and how much memory they need. Their times are not known.
"""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grasp_jax.core.errors import UserError

PLUGIN, PLATFORM = "jax_plugins.xla_cuda12", "cuda"
TARGET = pathlib.Path(__file__).with_name("h100.txtpb")
OPTIONS: dict[str, Any] = {  # turns off the two ways to choose a kernel that would run it
    "xla_gpu_autotune_level": 0,
    "xla_gpu_enable_triton_gemm": False,
}


def problem() -> str:
    """The reason why nothing can be compiled for an H100 here; "" if it can."""
    try:
        found = importlib.util.find_spec(PLUGIN)
    except ModuleNotFoundError:  # the package that contains the plugin is missing
        found = None
    if found is None:
        version = jax.__version__
        return f"jax-cuda12-plugin=={version} and jax-cuda12-pjrt=={version} are not installed"
    return ""


@functools.cache
def device() -> NamedSharding:
    """The device of a compilation's arguments: an H100 that does not exist.

    Raises:
      UserError: the plugin is not installed.
    """
    if missing := problem():
        raise UserError(f"{missing}; the compiler for an H100 is in them: pip install --no-deps")
    jax.devices()  # so that jax finds its plugins
    target = {"topology": "1 x 1 x 1", "target_config": TARGET.read_text(encoding="ascii")}
    topology = topologies.get_topology_desc("", PLATFORM, **target)
    return NamedSharding(Mesh(np.array(topology.devices[:1]), ("device",)), PartitionSpec())


def compile_for(function: Callable[..., Any], *arguments: Any, **jit: Any) -> Any:
    """The executable of a function, compiled as the package would compile it on a GPU.

    Args:
      function: not jitted.
      arguments: its arguments, trees of arrays or of shapes.
      jit: arguments of `jax.jit`.
    """
    on_device = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device()), arguments
    )
    # The package chooses kernels, for example, by the kind of its device; here it must choose as on a GPU.
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):
        return jax.jit(function, **jit).lower(*on_device).compile(OPTIONS)
