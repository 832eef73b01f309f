"""Item encoders: what the vector of an item is, for a user."""
