"""GRASP (arXiv 2511.20177): LLM world knowledge for sequential recommendation, in JAX/Flax."""

__version__ = "0.1.0"
