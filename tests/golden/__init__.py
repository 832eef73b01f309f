"""Golden values: what small runs of the program computed when they were written, so that a change of its structure changes no number."""
