"""From texts to vectors, and from vectors to the rows of a bank.

`ENCODERS` has the encoders by the name that `config.knowledge.encoder` gives them. A program adds its own
with `ENCODERS["mine"] = MyEncoder`, a subclass of `base.TextEncoder`. Importing this package imports none
of the libraries that encoders need.
"""

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.file import FileEncoder
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.openai import OpenAiEncoder
from grasp_jax.knowledge.encoders.random_projection import ProjectionEncoder
from grasp_jax.knowledge.encoders.sentences import SentenceEncoder

ENCODERS: dict[str, type[TextEncoder]] = {
    "lsa": LsaEncoder,
    "tfidf_projection": ProjectionEncoder,
    "sentence_transformers": SentenceEncoder,
    "openai": OpenAiEncoder,
    "file": FileEncoder,
}


def encoder_class(name: str) -> type[TextEncoder]:
    """The encoder of a name.

    Raises:
      UserError: there is no such encoder.
    """
    if name not in ENCODERS:
        raise UserError(
            f"config.knowledge.encoder: {name!r}; expected one of {', '.join(ENCODERS)}"
        )
    return ENCODERS[name]


def make_encoder(config: KnowledgeConfig) -> TextEncoder:
    """The encoder that `config.knowledge` selects, not fitted yet; errors as in `encoder_class`."""
    return encoder_class(config.encoder).from_config(config)


def is_fitted(name: str) -> bool:
    """Whether the vectors of an encoder depend on the texts that it was fitted to."""
    return name in ENCODERS and ENCODERS[name].reads_text and not ENCODERS[name].per_text


def per_text_encoders() -> list[str]:
    """Names of the encoders whose vector of a text depends on nothing else."""
    return [name for name, encoder in ENCODERS.items() if encoder.per_text]
