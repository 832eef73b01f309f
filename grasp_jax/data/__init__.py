"""Interactions -> validated log -> split -> packed batches and exact negatives."""
