"""TF-IDF and a sparse random projection: the cheap encoder for any width, such as an industrial 4096."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from grasp_jax.knowledge.encoders.state import read_state, write_state
from grasp_jax.knowledge.encoders.tfidf import TfIdf, TfIdfEncoder

DENSITY = 1 / 16
SPARSE = ("data", "indices", "indptr")  # arrays of a scipy matrix in CSR form


class ProjectionEncoder(TfIdfEncoder):
    """TF-IDF over words and pairs of words, then random directions (Johnson-Lindenstrauss: cosines survive).

    Args:
      width: E, exactly; it may be beyond the number of terms.
      seed: of the directions.
    """

    def _directions_of(self, items: Any) -> Any:
        from sklearn.exceptions import DataDimensionalityWarning
        from sklearn.random_projection import SparseRandomProjection

        projection = SparseRandomProjection(self.width, density=DENSITY, random_state=self.seed)
        with warnings.catch_warnings():
            # A fixed E may be larger than the vocabulary.
            warnings.simplefilter("ignore", DataDimensionalityWarning)
            projection.fit(items)
        return projection.components_.T.tocsr()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32."""
        tfidf, directions = self.fitted
        return np.asarray((tfidf.transform(texts) @ directions).toarray(), np.float32)

    def save(self, folder: pathlib.Path) -> None:
        """Settings, terms, frequencies and directions."""
        tfidf, directions = self.fitted
        sparse = {name: getattr(directions, name) for name in SPARSE}
        write_state(folder, "tfidf_projection", self.recipe(), {**tfidf.arrays(), **sparse})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        from scipy.sparse import csr_matrix

        state = read_state(folder, "tfidf_projection")
        encoder = cls(state.settings["width"], state.settings["seed"])
        tfidf = TfIdf.from_arrays(state.arrays)
        sparse = tuple(state.arrays[name] for name in SPARSE)
        shape = len(tfidf.terms), encoder.width
        encoder._fitted = tfidf, csr_matrix(sparse, shape=shape, copy=False)
        return encoder
