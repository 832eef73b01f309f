"""Pallas kernels, each beside the plain form that it must agree with."""
