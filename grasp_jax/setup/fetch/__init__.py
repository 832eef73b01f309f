"""Public data sets: where they are, how they come here, and what becomes of them."""
