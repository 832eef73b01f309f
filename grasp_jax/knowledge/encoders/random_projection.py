"""TF-IDF and a sparse random projection: the cheap encoder for any width, such as an industrial 4096."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state
from grasp_jax.knowledge.encoders.tfidf import TfIdf

DENSITY = 1 / 16


class ProjectionEncoder(TextEncoder):
    """TF-IDF over words and pairs of words, then random directions (Johnson-Lindenstrauss: cosines survive).

    Args:
      width: E, exactly; it may be beyond the number of terms.
      seed: of the directions.
    """

    def __init__(self, width: int = 256, seed: int = 0) -> None:
        self.width, self.seed = width, seed
        self._tfidf: TfIdf | None = None
        self._directions: Any = None  # scipy matrix [T, E] float32 in CSR form

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """With `config.width` and `config.seed`."""
        return cls(config.width, config.seed)

    def recipe(self) -> dict[str, object]:
        """Both settings."""
        return {"width": self.width, "seed": self.seed}

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns terms and their frequencies, and draws the directions.

        Raises:
          UserError: the texts share too few words.
        """
        from sklearn.exceptions import DataDimensionalityWarning
        from sklearn.random_projection import SparseRandomProjection

        self._tfidf, items = TfIdf.fit(texts)
        projection = SparseRandomProjection(self.width, density=DENSITY, random_state=self.seed)
        with warnings.catch_warnings():
            # A fixed E may be larger than the vocabulary.
            warnings.simplefilter("ignore", DataDimensionalityWarning)
            projection.fit(items)
        self._directions = projection.components_.T.tocsr()
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32."""
        if self._tfidf is None:
            raise RuntimeError("fit or load the encoder first")
        return np.asarray((self._tfidf.transform(texts) @ self._directions).toarray(), np.float32)

    def save(self, folder: pathlib.Path) -> None:
        """Settings, terms, frequencies and directions."""
        if self._tfidf is None:
            raise RuntimeError("fit the encoder before it is saved")
        sparse = {name: getattr(self._directions, name) for name in ("data", "indices", "indptr")}
        write_state(folder, "tfidf_projection", self.recipe(), {**self._tfidf.arrays(), **sparse})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        from scipy.sparse import csr_matrix

        state = read_state(folder, "tfidf_projection")
        encoder = cls(state.settings["width"], state.settings["seed"])
        encoder._tfidf = TfIdf.from_arrays(state.arrays)
        sparse = tuple(state.arrays[name] for name in ("data", "indices", "indptr"))
        shape = len(encoder._tfidf.terms), encoder.width
        encoder._directions = csr_matrix(sparse, shape=shape, copy=False)
        return encoder
