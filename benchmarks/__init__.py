"""Measurements; results are JSON files in `benchmarks/results`, and every number in a document comes from one of them."""
