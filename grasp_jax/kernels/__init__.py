"""Pallas kernels, each with a reference in plain JAX."""
