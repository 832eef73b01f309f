"""Kernels that are no part of the package, because none was faster than XLA on a GPU; benchmarks time them as rivals of XLA's form."""
