"""Random parameters for tests of formulas: flax's own first values take longer to compile than most of these tests."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from grasp_jax.models.backbones.towers import PART_WEIGHTS
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.replicas import Replica
from grasp_jax.training.snapshot import Snapshot, copied, snapshot_like

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
    return _drawn(jax.eval_shape(init, jax.random.key(0), *given)["params"], spread)


def random_snapshot(
    model: Any, replicas: Sequence[Replica], data: TrainingData, spread: float = 0.1
) -> Snapshot:
    """In place of `initial_snapshot`: random parameters, on the device. Vectors that a method starts from text do so here too."""
    like = snapshot_like(model, replicas, data)
    drawn = _drawn(like.best_params, spread)
    each = [jax.tree.map(lambda leaf, m=m: leaf[m], drawn) for m in range(len(replicas))]
    started = [data.start(params, data.tables) for params in each]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *started)
    rest = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like.state)
    state = jax.device_put(rest._replace(params=params))
    return Snapshot(state, copied(state.params), like.progress)


def _drawn(shapes: Any, spread: float) -> Any:
    rng = np.random.default_rng(3)

    def drawn(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        middle = float(path[-1].key in ONES)
        return (middle + spread * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map_with_path(drawn, shapes)
