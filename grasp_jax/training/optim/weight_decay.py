"""Decoupled weight decay (AdamW): which parameters it draws towards zero.

A step subtracts lr * (adam + decay * parameter) from a parameter, so the moments do not depend on the decay (Loshchilov and Hutter, 2019,
arXiv 1711.05101, Algorithm 2; their schedule multiplier is 1, and the decay is multiplied by the learning rate, as in PyTorch and optax).
Matrices and tables of vectors decay. Parameters that shift or scale a whole layer do not: a large value of these is no sign of overfitting.
"""

from typing import Any

import jax

from grasp_jax.models.batch import Params

# endings of the names of parameters that are a single vector for each model or layer
SHIFTS = ("bias", "scale", "centre", "temperature")


def decay_rates(params: Params, decay: float) -> Params:
    """A tree like the parameters of one model: `decay` for matrices and tables, 0.0 for biases, norms and single vectors.

    Args:
      params: arrays, or the shapes of arrays.
      decay: `train.weight_decay`.
    """

    def of_leaf(path: tuple[Any, ...], leaf: Any) -> float:
        shifts = str(getattr(path[-1], "key", path[-1])).endswith(SHIFTS)
        return 0.0 if shifts or len(leaf.shape) < 2 else decay

    rates: Params = jax.tree_util.tree_map_with_path(of_leaf, params)
    return rates
