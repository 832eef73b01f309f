"""Adam as a training step uses it: what the step differentiates, what the model is given, and what becomes of the gradient."""

from typing import NamedTuple

import jax
import optax

from grasp_jax.models.batch import Params
from grasp_jax.training.optim.deferred_adam import DeferredTable, Rate
from grasp_jax.training.optim.one_vector import Joined


class Held(NamedTuple):
    """The state of a model between steps.

    Attributes:
      params: parameters, in the form that the optimiser keeps.
      adam: Adam's moments and its count of steps.
      table: an ID table with deferred updates, or None.
    """

    params: Params | Joined
    adam: optax.ScaleByAdamState
    table: DeferredTable | None = None


class StepIds(NamedTuple):
    """The item rows whose vectors a step computes (`step_items`).

    Attributes:
      rows: [T] the distinct rows, padded with V.
      places: [T] position of each id in `rows`.
    """

    rows: jax.Array
    places: jax.Array


class Read(NamedTuple):
    """The values that a step has read.

    Attributes:
      trained: the tree with respect to which the loss is differentiated.
      rows: [U, 3D] the rows of `StepIds` with their moments, from an ID table with deferred updates; or None.
    """

    trained: Params
    rows: jax.Array | None = None


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980) on all parameters, each as a separate array.

    `begin` and `end` work on M models at once, whose leaves have a leading axis M; all other methods work on one model, within `vmap`.
    """

    def __init__(self, epsilon: float, decay: Params | Joined | None = None) -> None:
        """Sets the constants.

        Args:
          epsilon: added to the root of the second moment.
          decay: rates of `weight_decay` for one model, a tree like the parameters in `Held`; None: no decay.
        """
        self.epsilon = epsilon
        self.decay = decay
        self._adam = optax.scale_by_adam(eps=epsilon)

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> Held:
        """Called before the first of many steps."""
        return Held(params, adam)

    def end(self, held: Held, learning_rate: jax.Array) -> tuple[Params, optax.ScaleByAdamState]:
        """Called after the last step, with [M] rates: returns parameters and moments in their original form."""
        assert not isinstance(held.params, Joined)
        return held.params, held.adam

    def read(self, held: Held, ids: StepIds | None, learning_rate: Rate) -> Read:
        """Returns the values with respect to which the step differentiates."""
        assert not isinstance(held.params, Joined)
        return Read(held.params)

    def loss_params(
        self, held: Held, trained: Params, ids: StepIds | None
    ) -> tuple[Params, jax.Array | None]:
        """The parameters for the model, and the [T, D] ID vectors of the step's items (`StepContext.id_rows`) or None."""
        return trained, None

    def apply(
        self, held: Held, read: Read, gradient: Params, ids: StepIds | None, learning_rate: Rate
    ) -> Held:
        """One step of Adam with the gradient of `read.trained`."""
        return self._move(held, gradient, learning_rate)

    def _move(self, held: Held, gradient: Params | Joined, learning_rate: Rate) -> Held:
        direction, adam = self._adam.update(gradient, held.adam)
        if self.decay is not None:  # decoupled: the decay does not enter the moments
            direction = jax.tree.map(
                lambda way, leaf, rate: way + rate * leaf, direction, held.params, self.decay
            )
        params = jax.tree.map(lambda leaf, way: leaf - learning_rate * way, held.params, direction)
        return held._replace(params=params, adam=adam)
