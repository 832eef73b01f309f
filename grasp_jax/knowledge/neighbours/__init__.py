"""Top-K neighbours by cosine and their mean (Eq. 2)."""

NONE = -1  # in place of a neighbour that there is not
