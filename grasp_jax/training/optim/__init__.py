"""Adam, in the forms in which a step runs it."""
