"""Sections of docs/performance.md: a function from a benchmark's record to its tables, grouped by subject."""
