"""LLMInit (Harte et al., 2023; Hu et al., 2024): the ID table starts as the first D principal components of the item text vectors.

Apart from the initial ID table it is the plain backbone. The components are those of scikit-learn's PCA without scaling, as in LLM-ESR's
public code (https://github.com/liuqidong07/LLM-ESR, data/pca.ipynb). `model.start_components` selects the input of the PCA: the bank's
rows, or, like that code, the raw vectors of the encoder. The bank's rows are scaled to length one before and after their mean is
subtracted; raw vectors are only centred, by scikit-learn.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from grasp_jax.config import ModelConfig
from grasp_jax.core.errors import UserError
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.frozen import Bank, FrozenTable
from grasp_jax.models.id_table_params import id_table, put_id_table
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.plain import Plain
from grasp_jax.models.new_items import NewTexts, ReadOfNew

START = "start"  # frozen table [V, D]
NOTHING = 1e-5  # times the largest component, or 1 if that is larger: rounding of components whose true value is 0
# what decides E
WIDTHS = "config.knowledge.width of lsa and tfidf_projection, config.knowledge.reduction.width, or another encoder"


def principal_components(
    items: np.ndarray, features: int, padded: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """[V, E] item vectors -> [V, D] components, and "start_mean" [E] and "start_directions" [E, D] by which they were computed.

    Args:
      items: [V, E].
      features: D.
      padded: allows a D above V or E, for which the last components and directions are zeros; without it this is an error.

    Raises:
      UserError: there are fewer items or text dimensions than components.
    """
    from sklearn.decomposition import PCA

    items = np.asarray(items, np.float32)
    if padded and features > min(items.shape):
        components, fitted = principal_components(items, min(items.shape))
        zeros = ((0, 0), (0, features - components.shape[1]))
        directions = np.pad(fitted["start_directions"], zeros)
        return np.pad(components, zeros), {**fitted, "start_directions": directions}

    if features > min(items.shape):
        raise too_few_components(features, *items.shape)
    analysis = PCA(features, svd_solver="covariance_eigh")
    with np.errstate(invalid="ignore"):  # the share of a total variance of 0, if all rows are alike
        components = analysis.fit_transform(items).astype(np.float32)
    return components, {
        "start_mean": analysis.mean_,
        "start_directions": analysis.components_.T,
    }


def too_few_components(features: int, items: int, width: int, method: str = "") -> UserError:
    """The error of more features than there are principal components of [V, E] text vectors.

    Args:
      features: D.
      items: V.
      width: E.
      method: whose ID vectors start from them; "" if it is not known.
    """
    if items <= width:
        limit, remedies = f"there are {items:,} items", ["lower it"]
    else:
        limit = f"a text vector has {width:,} numbers"
        remedies = ["lower it", f"take longer text vectors ({WIDTHS})"]
    if method:
        remedies.append(f"leave {method} out of config.model.method")
    of = f"for {method}, whose" if method else "because"
    return UserError(
        f"config.model.features: {features}; expected at most {min(items, width)} {of} ID vectors start from the principal components of "
        f"text vectors: {limit}, so there are no more; {', or '.join(remedies)}"
    )


def components_to_start_from(bank: Bank, facts: Facts, padded: bool = False) -> FrozenTable:
    """The table "start" [V, D], from the bank's rows or from raw vectors, as `model.start_components` says; `padded` as in
    `principal_components`.

    Raises:
      UserError: as in `principal_components`, or there are no raw vectors.
    """
    vectors = _vectors(bank, facts)
    if facts.start is not None:
        return FrozenTable(START, _project(vectors, **facts.start))
    components, facts.learned[START] = principal_components(vectors, facts.config.features, padded)
    return FrozenTable(START, components)


def fitted_components(bank: Bank, facts: Facts, padded: bool = False) -> dict[str, np.ndarray]:
    """ "start_mean" [E] and "start_directions" [E, D] of the same components, which `start_of_new` needs for new items; the same arguments
    and errors.
    """
    if facts.start is not None:
        return dict(facts.start)
    features = facts.config.features
    return facts.once(
        START, lambda: principal_components(_vectors(bank, facts), features, padded)[1]
    )


def start_of_new(texts: NewTexts) -> np.ndarray:
    """[n, D] the ID vectors from which training would have started for new items.

    Raises:
      UserError: an earlier version saved the model.
    """
    fitted = {name: texts.fitted_array(name) for name in ("start_mean", "start_directions")}
    raw = texts.config.start_components == "raw"
    vectors = texts.raw[:, : len(fitted["start_mean"])] if raw else texts.items
    return _project(vectors, **fitted)


def _project(
    vectors: np.ndarray, start_mean: np.ndarray, start_directions: np.ndarray
) -> np.ndarray:
    """[n, E] vectors -> [n, D] components along directions [E, D]."""
    start: np.ndarray = (np.asarray(vectors, np.float32) - start_mean) @ start_directions
    return start.astype(np.float32)


def _vectors(bank: Bank, facts: Facts) -> np.ndarray:
    """[V, E] the vectors whose components are computed."""
    if facts.config.start_components != "raw":
        return bank["items"]
    assert facts.raw_items is not None
    return facts.raw_items()


def start_from_components(params: Params, tables: Tables) -> Params:
    """Parameters whose ID table is the frozen "start". Columns of zeros, which say nothing of any item, stay random."""
    start = tables[START]
    largest = jnp.abs(start).max(axis=0)
    says = largest > NOTHING * jnp.maximum(largest.max(), 1.0)
    return put_id_table(params, jnp.where(says, start, id_table(params)))


class LLMInit(Plain):
    """The plain backbone with an ID table that starts from text."""

    needs_bank: ClassVar[bool] = True

    def starts_from_text(self, config: ModelConfig) -> bool:
        """Always."""
        return True

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """The principal components."""
        return [components_to_start_from(bank, facts)]

    def start(self, params: Params, tables: Tables) -> Params:
        """Starts the ID table from text."""
        return start_from_components(params, tables)

    def fitted(self, bank: Bank, facts: Facts) -> Mapping[str, np.ndarray]:
        """`fitted_components`."""
        return fitted_components(bank, facts)

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """The ID vectors from which training would start; errors as in `start_of_new`."""
        return ReadOfNew({}, start_of_new(texts))
