"""Adam as a training step uses it: what the step differentiates, what the model is given, and what becomes of the gradient."""

from typing import NamedTuple

import jax
import optax

from grasp_jax.models.batch import Params
from grasp_jax.training.optim.deferred_adam import DeferredTable, Rate
from grasp_jax.training.optim.one_vector import Joined


class Held(NamedTuple):
    """What a model carries from step to step.

    Attributes:
      params: parameters, as the optimiser keeps them.
      adam: Adam's moments and its count of steps.
      table: an ID table that is kept apart, or None.
    """

    params: Params | Joined
    adam: optax.ScaleByAdamState
    table: DeferredTable | None = None


class StepIds(NamedTuple):
    """The item rows that a step computes vectors of (`step_items`).

    Attributes:
      rows: [T] the distinct ones, then V where there are no more.
      places: [T] where each id stands among them.
    """

    rows: jax.Array
    places: jax.Array


class Read(NamedTuple):
    """What a step has read.

    Attributes:
      trained: the tree that the loss is differentiated by.
      rows: of an ID table that is kept apart, [U, 3D] the rows of `StepIds` with their moments; or None.
    """

    trained: Params
    rows: jax.Array | None = None


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980) on all parameters, each in its place.

    `begin` and `end` are of M models at once, whose leaves have a leading axis M; all else is of one model, within `vmap`.
    """

    def __init__(self, epsilon: float, decay: Params | Joined | None = None) -> None:
        """With its constants.

        Args:
          epsilon: what is added to the root of the second moment.
          decay: of one model, a tree like the parameters as `Held` has them, rates of `weight_decay`; None: no decay.
        """
        self.epsilon = epsilon
        self.decay = decay
        self._adam = optax.scale_by_adam(eps=epsilon)

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> Held:
        """Before the first of many steps."""
        return Held(params, adam)

    def end(self, held: Held, learning_rate: jax.Array) -> tuple[Params, optax.ScaleByAdamState]:
        """After the last of them, with [M] rates: parameters and moments, laid out as they came."""
        assert not isinstance(held.params, Joined)
        return held.params, held.adam

    def read(self, held: Held, ids: StepIds | None, learning_rate: Rate) -> Read:
        """What the step differentiates."""
        assert not isinstance(held.params, Joined)
        return Read(held.params)

    def loss_params(
        self, held: Held, trained: Params, ids: StepIds | None
    ) -> tuple[Params, jax.Array | None]:
        """The parameters that the model is given, and the [T, D] ID vectors of the step's items (`StepContext.id_rows`) or None."""
        return trained, None

    def apply(
        self, held: Held, read: Read, gradient: Params, ids: StepIds | None, learning_rate: Rate
    ) -> Held:
        """One step of Adam along the gradient of `read.trained`."""
        return self._move(held, gradient, learning_rate)

    def _move(self, held: Held, gradient: Params | Joined, learning_rate: Rate) -> Held:
        direction, adam = self._adam.update(gradient, held.adam)
        if self.decay is not None:  # decoupled: the moments have not seen it
            direction = jax.tree.map(
                lambda way, leaf, rate: way + rate * leaf, direction, held.params, self.decay
            )
        params = jax.tree.map(lambda leaf, way: leaf - learning_rate * way, held.params, direction)
        return held._replace(params=params, adam=adam)
