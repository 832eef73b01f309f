"""Text encoders: descriptions of items and users -> float32 vectors of one width E.

`lsa` is the embedded default (TF-IDF and truncated SVD: real, deterministic, no download), `tfidf_projection` its cheap form for any
width; `sentence_transformers` and `openai` are models of others; vectors made elsewhere are read by `vector_files`. An encoder is a
context (texts of items, texts of users, config) in which any of those texts can be encoded, a block at a time.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.knowledge.embeddings import endpoint_encoder
from grasp_jax.knowledge.sentences import sentence_encoder

Encode = Callable[[Sequence[str]], np.ndarray]  # n texts -> [n, E] float32
Encoder = Callable[[Sequence[str], Sequence[str], ConfigDict], contextlib.AbstractContextManager[Encode]]


@contextlib.contextmanager
def lsa_encoder(item_texts: Sequence[str], user_texts: Sequence[str], config: ConfigDict) -> Iterator[Encode]:
    """TF-IDF over words and word pairs, fitted on item texts, then truncated SVD to at most `config.width` dimensions."""
    from sklearn.decomposition import TruncatedSVD

    vectoriser, items = _tfidf(item_texts)
    width = min(config.width, min(items.shape) - 1)
    if width < 1:
        raise UserError(_TOO_LITTLE_TEXT.format(count=len(item_texts)))
    svd = TruncatedSVD(n_components=width, random_state=config.seed, n_iter=4).fit(items)
    yield lambda texts: svd.transform(vectoriser.transform(texts)).astype(np.float32)


@contextlib.contextmanager
def projection_encoder(item_texts: Sequence[str], user_texts: Sequence[str], config: ConfigDict) -> Iterator[Encode]:
    """TF-IDF, then a sparse random projection to exactly `config.width` dimensions (Johnson-Lindenstrauss: cosines survive)."""
    from sklearn.exceptions import DataDimensionalityWarning
    from sklearn.random_projection import SparseRandomProjection

    vectoriser, items = _tfidf(item_texts)
    projection = SparseRandomProjection(config.width, density=1 / 16, dense_output=True, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataDimensionalityWarning)  # a width beyond the vocabulary is what a fixed E may ask for
        projection.fit(items)
    yield lambda texts: projection.transform(vectoriser.transform(texts)).astype(np.float32)


def _tfidf(item_texts: Sequence[str]) -> tuple[Any, Any]:  # a vectoriser and a scipy sparse matrix, which carry no useful types
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000, dtype=np.float32)
    try:
        return vectoriser, vectoriser.fit_transform(item_texts)
    except ValueError as error:  # scikit-learn's "empty vocabulary" and "no terms remain"
        raise UserError(_TOO_LITTLE_TEXT.format(count=len(item_texts))) from error


_TOO_LITTLE_TEXT = (
    "config.knowledge.encoder: the texts of {count} items share too few words to tell items apart; "
    "give config.data.items_file more attributes, or bring vectors with encoder 'file'"
)

ENCODERS: dict[str, Encoder] = {
    "lsa": lsa_encoder,
    "tfidf_projection": projection_encoder,
    "sentence_transformers": sentence_encoder,
    "openai": endpoint_encoder,
}
PER_TEXT = ("sentence_transformers", "openai")  # whose vector of a text depends on nothing else
