"""Text encoders: descriptions of items and users -> float32 vectors of one width E.

`lsa` is the embedded default (TF-IDF and truncated SVD: real, deterministic, no download), `tfidf_projection` its cheap form for any
width; `sentence_transformers` and `openai` are models of others, and `file` brings vectors made elsewhere. An encoder is a function
(texts of items, texts of users, config) -> two tables.
"""

import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.knowledge.embeddings import encode_endpoint
from grasp_jax.knowledge.sentences import encode_sentences

Encoded = tuple[np.ndarray, np.ndarray]


def encode_lsa(item_texts: Sequence[str], user_texts: Sequence[str], config: ml_collections.ConfigDict) -> Encoded:
    """TF-IDF over words and word pairs, fitted on item texts, then truncated SVD to at most `config.width` dimensions."""
    from sklearn.decomposition import TruncatedSVD

    items, users = _tfidf(item_texts, user_texts)
    width = min(config.width, min(items.shape) - 1)
    if width < 1:
        raise UserError(_TOO_LITTLE_TEXT.format(count=len(item_texts)))
    svd = TruncatedSVD(n_components=width, random_state=config.seed, n_iter=4).fit(items)
    return svd.transform(items).astype(np.float32), svd.transform(users).astype(np.float32)


def encode_tfidf_projection(item_texts: Sequence[str], user_texts: Sequence[str], config: ml_collections.ConfigDict) -> Encoded:
    """TF-IDF, then a sparse random projection to exactly `config.width` dimensions (Johnson-Lindenstrauss: cosines survive)."""
    from sklearn.exceptions import DataDimensionalityWarning
    from sklearn.random_projection import SparseRandomProjection

    items, users = _tfidf(item_texts, user_texts)
    projection = SparseRandomProjection(config.width, density=1 / 16, dense_output=True, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataDimensionalityWarning)  # a width beyond the vocabulary is what a fixed E may ask for
        projection.fit(items)
    return projection.transform(items).astype(np.float32), projection.transform(users).astype(np.float32)


def _tfidf(item_texts: Sequence[str], user_texts: Sequence[str]) -> tuple[Any, Any]:  # scipy sparse matrices, which carry no useful type
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000, dtype=np.float32)
    try:
        return vectoriser.fit_transform(item_texts), vectoriser.transform(user_texts)
    except ValueError as error:  # scikit-learn's "empty vocabulary" and "no terms remain"
        raise UserError(_TOO_LITTLE_TEXT.format(count=len(item_texts))) from error


_TOO_LITTLE_TEXT = (
    "config.knowledge.encoder: the texts of {count} items share too few words to tell items apart; "
    "give config.data.items_file more attributes, or bring vectors with encoder 'file'"
)


def load_vectors(path: str, ids: np.ndarray, ids_path: str, kind: str) -> np.ndarray:
    """Vectors made elsewhere, brought into row order.

    Args:
      path: `.npy` [rows, E] or `.safetensors` (tensor `embeddings`, or the only one); never a pickle.
      ids: [rows] ids of the log (users or items) in row order.
      ids_path: text file with one id per line for each vector; empty if the vectors already stand in row order.
      kind: "item" or "user", for messages.

    Returns:
      [rows, E] float32.

    Raises:
      UserError: missing or unreadable file, a number of rows that does not fit, an id without a vector, or a value that is not finite.
    """
    vectors = _read_vectors(path, kind)
    rows = _rows_of(ids, ids_path, path, len(vectors), kind) if ids_path else np.arange(len(vectors))
    if len(rows) != len(ids):
        raise UserError(
            f"{path}: {len(rows)} rows, but the data has {len(ids)} {kind}s; expected one row per {kind} in id order, "
            f"or the ids of the rows in config.knowledge.{kind}_ids_file"
        )
    table = np.array(vectors[rows], np.float32)
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        first = bad[0]
        value = table[first][~np.isfinite(table[first])][0]
        raise UserError(f"{path}: row {rows[first]} ({kind} {ids[first]}) holds {value}; expected finite numbers; {len(bad)} such rows")
    return table


def _read_vectors(path: str, kind: str) -> np.ndarray:
    if not path:
        raise UserError(f"config.knowledge.{kind}_file is empty; the encoder 'file' needs a .npy or .safetensors file of {kind} vectors")
    if not pathlib.Path(path).is_file():
        raise UserError(f"config.knowledge.{kind}_file: {path} does not exist; expected a .npy or .safetensors file")
    try:
        if path.endswith(".safetensors"):
            from safetensors.numpy import load_file

            tensors = load_file(path)
            vectors = tensors["embeddings"] if "embeddings" in tensors or len(tensors) != 1 else next(iter(tensors.values()))
        else:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except KeyError:
        raise UserError(f"{path}: several tensors and none is called 'embeddings'") from None
    except Exception as error:  # numpy and safetensors raise a dozen kinds for a damaged file
        raise UserError(f"{path}: not a readable .npy or .safetensors array: {' '.join(str(error).split())[:160]}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(f"{path}: shape {vectors.shape} and type {vectors.dtype}; expected a 2-d array of floats, one row per {kind}")
    return vectors


def _rows_of(ids: np.ndarray, ids_path: str, path: str, num_vectors: int, kind: str) -> np.ndarray:
    """The row of each id in the file of vectors."""
    if not pathlib.Path(ids_path).is_file():
        raise UserError(f"config.knowledge.{kind}_ids_file: {ids_path} does not exist; expected one id per line")
    given = pathlib.Path(ids_path).read_text(encoding="utf-8").split("\n")
    given = given[:-1] if given and given[-1] == "" else given
    if len(given) != num_vectors:
        raise UserError(f"{ids_path}: {len(given)} ids for the {num_vectors} rows of {path}; expected one each")
    row_of: dict[str, int] = {}
    for row, name in enumerate(given):
        if row_of.setdefault(name, row) != row:
            raise UserError(
                f"{ids_path}: {kind} {name} stands twice, on lines {row_of[name] + 1} and {row + 1}; remove one, and its vector"
            )
    missing = [name for name in ids.astype(str) if name not in row_of]
    if missing:
        raise UserError(f"{ids_path}: no line for {kind} {missing[0]} ({len(missing)} such {kind}s); every {kind} needs a vector")
    return np.array([row_of[name] for name in ids.astype(str)])


ENCODERS: dict[str, Callable[[Sequence[str], Sequence[str], ml_collections.ConfigDict], Encoded]] = {
    "lsa": encode_lsa,
    "tfidf_projection": encode_tfidf_projection,
    "sentence_transformers": encode_sentences,
    "openai": encode_endpoint,
}
