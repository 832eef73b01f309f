"""Items that a model was not trained with: their texts, and the arrays that an item encoder reads for them.

A new item has a text and no training interactions, so it has no trained ID vector. Its ID vector is zero (docs/deviations.md), unless the
method computes initial ID vectors from texts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from grasp_jax.config import ModelConfig
from grasp_jax.core.errors import UserError


class NewTexts(NamedTuple):
    """What is known about n new items.

    Attributes:
      items: [n, E] float32 rows, in the space of `bank.items`.
      items_similar: [n, E] float32 means of their neighbours among the items that the model was trained with; None for methods that read no
        neighbours.
      raw: [n, at least E] float32 vectors as the encoder returned them.
      fitted: the arrays of `Method.fitted`.
      config: the `model` section.
    """

    items: np.ndarray
    items_similar: np.ndarray | None
    raw: np.ndarray
    fitted: Mapping[str, np.ndarray]
    config: ModelConfig

    def fitted_array(self, name: str) -> np.ndarray:
        """One of `fitted`.

        Raises:
          UserError: an earlier version saved the model without this array.
        """
        if name not in self.fitted:
            raise UserError(
                f"add_items: the saved model lacks {name!r}, which add_items needs, because an earlier version saved it; load the "
                "workdir of its run with this version and save it again"
            )
        return self.fitted[name]


class ReadOfNew(NamedTuple):
    """The arrays that an item encoder reads for n new items.

    Attributes:
      tables: frozen tables by name, [n, ...], like those of `Method.tables` for the catalogue.
      ids: [n, D] ID vectors; None: zeros.
    """

    tables: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
