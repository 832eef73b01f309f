"""Public data sets: their sources, their download, and their conversion to tables."""
