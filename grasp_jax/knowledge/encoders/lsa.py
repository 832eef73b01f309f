"""Latent semantic analysis: TF-IDF and truncated SVD. Real, deterministic, without a download: the default encoder."""

import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.knowledge.encoders.state import read_state, write_state
from grasp_jax.knowledge.encoders.tfidf import TfIdf, TfIdfEncoder, too_little_text


class LsaEncoder(TfIdfEncoder):
    """TF-IDF over words and pairs of words, then the directions of largest variance of the items' texts.

    Args:
      width: E, at most; there are fewer directions where there are fewer texts or terms.
      seed: of the randomised SVD.
    """

    def _directions_of(self, items: Any) -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD

        width = min(self.width, min(items.shape) - 1)
        if width < 1:
            raise UserError(too_little_text(items.shape[0]))
        if width < self.width:
            logger.info(
                f"encoder lsa: {width} numbers for each text instead of {self.width} (config.knowledge.width), because the texts of "
                f"{items.shape[0]:,} items share only {items.shape[1]:,} words and pairs of words"
            )
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a share of no variance, if all texts are equal
            svd = TruncatedSVD(n_components=width, random_state=self.seed, n_iter=4).fit(items)
        return np.ascontiguousarray(svd.components_.T)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32."""
        tfidf, directions = self.fitted
        return np.asarray(tfidf.transform(texts) @ directions, np.float32)

    def save(self, folder: pathlib.Path) -> None:
        """Settings, terms, frequencies and directions."""
        tfidf, directions = self.fitted
        write_state(folder, "lsa", self.recipe(), {**tfidf.arrays(), "directions": directions})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        state = read_state(folder, "lsa")
        encoder = cls(state.settings["width"], state.settings["seed"])
        encoder._fitted = TfIdf.from_arrays(state.arrays), state.arrays["directions"]
        return encoder
