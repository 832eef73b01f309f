"""The encoder of an OpenAI-compatible embeddings endpoint; `embeddings` sends the requests."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from grasp_jax.config import EmbedConfig, KnowledgeConfig
from grasp_jax.config.address import resolved
from grasp_jax.core.log import logger
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state

if TYPE_CHECKING:  # it needs pyarrow, which training on ids does not
    from grasp_jax.knowledge.endpoint.cache import AnswerCache


class OpenAiEncoder(TextEncoder):
    """Vectors from an endpoint; each text is sent once. The settings are those of `config.embed`."""

    per_text = True

    def __init__(self, settings: EmbedConfig) -> None:
        self.settings = settings
        self._cache: AnswerCache | None = None  # open in a session
        self._width = 0  # of the vectors of a session, once it is known

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """With `config.embed`."""
        return cls(config.embed)

    def recipe(self) -> dict[str, object]:
        """The model and the width; the same model has the same vectors wherever it runs."""
        return {"embed": {"model": self.settings.model, "dimensions": self.settings.dimensions}}

    @contextlib.contextmanager
    def session(self, texts: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Logs what is sent, and requests all vectors at once.

        Raises:
          UserError: what `Endpoint` raises; a text that the endpoint rejects; or vectors of several widths.
        """
        from grasp_jax.knowledge.encoders.embeddings import (
            announcement,
            request_vectors,
            stored_width,
            to_send,
        )
        from grasp_jax.knowledge.endpoint.cache import open_answers

        with open_answers(self.settings.cache) as self._cache:
            try:
                for kind, own in texts.items():
                    label = f"encode {kind}"
                    keys, rows = to_send(own, self._cache, self.settings, label)
                    if len(rows):
                        logger.info(announcement(kind, own, rows, self.settings))
                    self._width = self._width or stored_width(keys, self._cache)
                    request_vectors(own, keys, rows, self._cache, self.settings, label, self._width)
                    self._width = self._width or stored_width(keys, self._cache)
                yield
            finally:
                self._cache, self._width = None, 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32; errors as of `session`. Several threads may call it at once."""
        from grasp_jax.knowledge.describe.shared_answers import shared_answers
        from grasp_jax.knowledge.encoders.embeddings import vectors_of

        if self._cache is not None:
            return vectors_of(texts, self._cache, self.settings, self._width)
        with shared_answers(self.settings.cache) as cache:
            return vectors_of(texts, cache, self.settings)

    def save(self, folder: pathlib.Path) -> None:
        """The settings: of the key, the name of the variable alone."""
        write_state(folder, "openai", {"embed": self.settings.to_dict()})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        return cls(EmbedConfig.from_dict(read_state(folder, "openai").settings["embed"]))

    def destination(self) -> str:
        """The address and the model."""
        return f"{resolved(self.settings).in_words}, model {self.settings.model}"

    def what_is_missing(self, kind: str, texts: Sequence[str]) -> str:
        """How many texts would be sent where, and at what cost."""
        from grasp_jax.knowledge.encoders.embeddings import what_is_missing

        return what_is_missing(kind, texts, self.settings)
