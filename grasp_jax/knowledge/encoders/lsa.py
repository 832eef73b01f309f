"""Latent semantic analysis: TF-IDF and truncated SVD. Real, deterministic, without a download: the default encoder."""

import pathlib
from collections.abc import Sequence
from typing import Self

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.errors import UserError
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state
from grasp_jax.knowledge.encoders.tfidf import TfIdf, too_little_text


class LsaEncoder(TextEncoder):
    """TF-IDF over words and pairs of words, then the directions of largest variance of the items' texts.

    Args:
      width: E, at most; there are fewer directions where there are fewer texts or terms.
      seed: of the randomised SVD.
    """

    def __init__(self, width: int = 256, seed: int = 0) -> None:
        self.width, self.seed = width, seed
        self._tfidf: TfIdf | None = None
        self._directions: np.ndarray | None = None  # [T, E] float32

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """With `config.width` and `config.seed`."""
        return cls(config.width, config.seed)

    def recipe(self) -> dict[str, object]:
        """Both settings."""
        return {"width": self.width, "seed": self.seed}

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns terms, their frequencies and the directions.

        Raises:
          UserError: the texts share too few words.
        """
        from sklearn.decomposition import TruncatedSVD

        self._tfidf, items = TfIdf.fit(texts)
        width = min(self.width, min(items.shape) - 1)
        if width < 1:
            raise UserError(too_little_text(len(texts)))
        svd = TruncatedSVD(n_components=width, random_state=self.seed, n_iter=4).fit(items)
        self._directions = np.ascontiguousarray(svd.components_.T)
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32."""
        if self._tfidf is None or self._directions is None:
            raise RuntimeError("fit or load the encoder first")
        return np.asarray(self._tfidf.transform(texts) @ self._directions, np.float32)

    def save(self, folder: pathlib.Path) -> None:
        """Settings, terms, frequencies and directions."""
        if self._tfidf is None or self._directions is None:
            raise RuntimeError("fit the encoder before it is saved")
        write_state(
            folder, "lsa", self.recipe(), {**self._tfidf.arrays(), "directions": self._directions}
        )

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        state = read_state(folder, "lsa")
        encoder = cls(state.settings["width"], state.settings["seed"])
        encoder._tfidf, encoder._directions = (
            TfIdf.from_arrays(state.arrays),
            state.arrays["directions"],
        )
        return encoder
