"""TF-IDF over words and pairs of words: fitted by scikit-learn, applied by NumPy and SciPy alone.

A saved encoder need not import scikit-learn, which takes a second, to encode one text.
"""

import abc
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.encoders.base import TextEncoder

MAX_TERMS = 200_000
_WORD = re.compile(r"\w{2,}")  # finds what scikit-learn's default \b\w\w+\b does, in less time


class TfIdf:
    """Sublinear TF-IDF with rows of length one, as scikit-learn's TfidfVectorizer(sublinear_tf=True).

    Attributes:
      terms: T words and pairs of words; a term's place is its column.
      idf: [T] float32 inverse document frequencies.
    """

    def __init__(self, terms: Sequence[str], idf: np.ndarray) -> None:
        self.terms, self.idf = list(terms), idf
        self._columns = _Columns.of(self.terms)

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
        """The TF-IDF from its `arrays`."""
        return cls(arrays["terms"].tobytes().decode().split("\n"), arrays["idf"])

    def arrays(self) -> dict[str, np.ndarray]:
        """The state, for `write_state`; no term holds a line break."""
        return {"terms": np.frombuffer("\n".join(self.terms).encode(), np.uint8), "idf": self.idf}

    def transform(self, texts: Sequence[str]) -> Any:
        """Scipy matrix [n, T] float32 in CSR form; a text without any known term is a row of zeros."""
        from scipy.sparse import csr_matrix

        rows, columns = self._columns.of_texts(texts)
        shape = len(texts), len(self.terms)
        # SciPy sorts the columns of a row, and adds up the ones of a term that the text repeats.
        matrix = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        matrix.data = (np.log(matrix.data) + np.float32(1)) * self.idf[matrix.indices]
        rows = np.repeat(np.arange(len(texts)), np.diff(matrix.indptr))
        squares = np.bincount(rows, weights=matrix.data * matrix.data, minlength=len(texts))
        matrix.data = (matrix.data / np.sqrt(squares)[rows]).astype(np.float32)
        return matrix


class _Columns(NamedTuple):
    """The columns of terms, for many words at a time: a pair of words is looked up as a number, not as a string.

    Attributes:
      numbers: word -> number below W, for the W words of all terms; every other word has the number W.
      of_word: [W + 1] int32 column of each word, by its number; -1 for a word that is no term by itself.
      codes: [P + 1] int64 codes of the P pairs that are terms, ascending, and a larger number that is no code. The code of a pair is
        (W + 1) * first number + second number.
      of_pair: [P + 1] int32 column of each of `codes`; the last is -1.
    """

    numbers: dict[str, int]
    of_word: np.ndarray
    codes: np.ndarray
    of_pair: np.ndarray

    @classmethod
    def of(cls, terms: Sequence[str]) -> "_Columns":
        """For terms of one word or two."""
        words = " ".join(terms).split(" ")
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        numbered = np.array([numbers[word] for word in words], np.int64)
        base, columns = len(numbers) + 1, np.arange(len(terms), dtype=np.int32)
        is_pair = np.array([" " in term for term in terms], bool)
        starts = columns + np.cumsum(is_pair) - is_pair  # of the terms, in `words`
        of_word = np.full(base, -1, np.int32)
        of_word[numbered[starts[~is_pair]]] = columns[~is_pair]
        codes = numbered[starts[is_pair]] * base + numbered[starts[is_pair] + 1]
        order = np.argsort(codes)
        largest, none = np.iinfo(np.int64).max, np.int32(-1)
        of_pair = np.append(columns[is_pair][order], none)
        return cls(numbers, of_word, np.append(codes[order], largest), of_pair)

    def of_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column, each [m] int32, of every occurrence of a term in a text."""
        words = [_WORD.findall(text.lower()) for text in texts]
        other, find = len(self.numbers), self.numbers.get
        numbers = np.array([find(word, other) for own in words for word in own], np.int64)
        rows = np.repeat(np.arange(len(words), dtype=np.int32), [len(own) for own in words])
        firsts = np.flatnonzero(rows[1:] == rows[:-1])  # words that the same text continues after
        codes = numbers[firsts] * (other + 1) + numbers[firsts + 1]
        places = np.searchsorted(self.codes, codes)
        of_pairs = np.where(self.codes[places] == codes, self.of_pair[places], -1)
        columns = np.concatenate([self.of_word[numbers], of_pairs])
        known = columns >= 0
        return np.concatenate([rows, rows[firsts]])[known], columns[known]


class TfIdfEncoder(TextEncoder):
    """TF-IDF over words and pairs of words, along directions that are computed from the texts of the items.

    Args:
      width: E, or the most that E may be.
      seed: of what is drawn at random for the directions.
    """

    def __init__(self, width: int = 256, seed: int = 0) -> None:
        self.width, self.seed = width, seed
        self._fitted: tuple[TfIdf, Any] | None = (
            None  # the terms, and the directions [T, E] float32
        )

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
        tfidf, items = TfIdf.fit(texts)
        self._fitted = tfidf, self._directions_of(items)
        return self

    @abc.abstractmethod
    def _directions_of(self, items: Any) -> Any:
        """[T, E] float32 from the scipy matrix [V, T] of the items' texts."""

    @property
    def fitted(self) -> tuple[TfIdf, Any]:
        """Terms and directions.

        Raises:
          RuntimeError: the encoder was neither fitted nor loaded.
        """
        if self._fitted is None:
            raise RuntimeError("fit or load the encoder first")
        return self._fitted


def too_little_text(count: int) -> str:
    """The message if too many texts are indistinguishable."""
    return (
        f"config.knowledge.encoder: the texts of {count} items share too few words to tell items apart; "
        "give config.data.items_file more attributes, or bring vectors with encoder 'file'"
    )
