"""Tests, and what they share. What stands here is done before anything else is imported, in each of their processes."""

import gc

# Imports and tracing make many objects and little garbage: collected at Python's usual pace they take a tenth longer.
gc.set_threshold(100_000, 50, 100)
