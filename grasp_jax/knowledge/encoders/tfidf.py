"""TF-IDF over words and pairs of words: fitted by scikit-learn, applied by NumPy and SciPy alone.

A saved encoder need not import scikit-learn, which takes a second, to encode one text.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from grasp_jax.errors import UserError

MAX_TERMS = 200_000
_WORD = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's default


class TfIdf:
    """Sublinear TF-IDF with rows of length one, as scikit-learn's TfidfVectorizer(sublinear_tf=True).

    Attributes:
      terms: T words and pairs of words; a term's place is its column.
      idf: [T] float32 inverse document frequencies.
    """

    def __init__(self, terms: Sequence[str], idf: np.ndarray) -> None:
        self.terms, self.idf = list(terms), idf
        self._column = {term: column for column, term in enumerate(self.terms)}

    @classmethod
    def fit(cls, texts: Sequence[str]) -> tuple["TfIdf", Any]:
        """Learns terms that stand in two texts or more; also gives the scipy matrix [n, T] of the texts.

        Raises:
          UserError: there are none, so the vectors of all texts would be equal.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        options = {
            "ngram_range": (1, 2),
            "min_df": 2,
            "sublinear_tf": True,
            "max_features": MAX_TERMS,
        }
        vectoriser = TfidfVectorizer(**options, dtype=np.float32)
        try:
            matrix = vectoriser.fit_transform(texts)
        except ValueError as error:  # scikit-learn's "empty vocabulary" and "no terms remain"
            raise UserError(too_little_text(len(texts))) from error
        return cls(
            vectoriser.get_feature_names_out().tolist(), vectoriser.idf_.astype(np.float32)
        ), matrix

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "TfIdf":
        """What `arrays` gave."""
        return cls(arrays["terms"].tobytes().decode().split("\n"), arrays["idf"])

    def arrays(self) -> dict[str, np.ndarray]:
        """The state, for `write_state`; no term holds a line break."""
        return {"terms": np.frombuffer("\n".join(self.terms).encode(), np.uint8), "idf": self.idf}

    def transform(self, texts: Sequence[str]) -> Any:
        """Scipy matrix [n, T] float32 in CSR form; a text without any known term is a row of zeros."""
        from scipy.sparse import csr_matrix

        columns: list[int] = []
        counts: list[int] = []
        ends = [0]
        for text in texts:
            found = Counter(self._column[term] for term in terms_of(text) if term in self._column)
            columns += found.keys()
            counts += found.values()
            ends.append(len(columns))
        shape = len(texts), len(self.terms)
        matrix = csr_matrix(
            (np.array(counts, np.float32), np.array(columns, np.int32), np.array(ends, np.int32)),
            shape=shape,
        )
        matrix.sort_indices()
        matrix.data = (np.log(matrix.data) + np.float32(1)) * self.idf[matrix.indices]
        rows = np.repeat(np.arange(len(texts)), np.diff(matrix.indptr))
        squares = np.bincount(rows, weights=matrix.data * matrix.data, minlength=len(texts))
        matrix.data = (matrix.data / np.sqrt(squares)[rows]).astype(np.float32)
        return matrix


def terms_of(text: str) -> list[str]:
    """Words of two letters or more, in lower case, and pairs of neighbouring words."""
    words = _WORD.findall(text.lower())
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


def too_little_text(count: int) -> str:
    """The message where so many texts cannot be told apart."""
    return (
        f"config.knowledge.encoder: the texts of {count} items share too few words to tell items apart; "
        "give config.data.items_file more attributes, or bring vectors with encoder 'file'"
    )
