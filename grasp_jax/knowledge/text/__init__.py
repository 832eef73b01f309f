"""Templates, and attributes as templates read them."""
