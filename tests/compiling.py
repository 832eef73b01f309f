"""Compiling for tests: the programs are small, and compiling them is all the time they take."""

import functools

import jax

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
