"""How every kernel is compiled: by Triton on a GPU, and interpreted elsewhere."""

import jax
from jax.experimental.pallas import triton


def interpret() -> bool:
    """Whether kernels are interpreted: everywhere but on a GPU."""
    return jax.default_backend() != "gpu"


def compiler_params(num_warps: int, num_stages: int) -> triton.CompilerParams:
    """Triton's parameters. Always passed, because Pallas' default backend on a GPU differs between versions of JAX."""
    return triton.CompilerParams(num_warps=num_warps, num_stages=num_stages)
