"""Random parameters for tests of formulas: flax's own first values take longer to compile than most of these tests."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from grasp_jax.models.backbones.towers import PART_WEIGHTS

ONES = ("scale", "temperature", PART_WEIGHTS)  # lie around one, all others around zero


def random_params(
    model: Any, *given: Any, spread: float = 0.5, method: str | Callable[..., Any] | None = None
) -> Any:
    """Parameters with the names and shapes that `model.init` gives them, as NumPy arrays.

    Args:
      model: a flax module.
      given: what `init` takes after the key.
      spread: standard deviation of every value.
      method: what `init` calls: the name of a method, or a function of the module; None: `__call__`.
    """
    init = functools.partial(model.init, method=method)
    shapes = jax.eval_shape(init, jax.random.key(0), *given)["params"]
    rng = np.random.default_rng(3)

    def drawn(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        middle = float(path[-1].key in ONES)
        return (middle + spread * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map_with_path(drawn, shapes)
