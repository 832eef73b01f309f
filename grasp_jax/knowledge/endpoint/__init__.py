"""The client of OpenAI-compatible endpoints, for descriptions and for vectors, and the cache of their answers."""
