"""Adam as a training step uses it: which parameters the step differentiates, which ones the model gets, and the update."""

from typing import NamedTuple

import jax
import optax

from grasp_jax.models.batch import Params
from grasp_jax.training.optim.deferred_adam import DeferredTable, Rate
from grasp_jax.training.optim.one_vector import JoinedLeaves


class ScanState(NamedTuple):
    """The state of a model between the steps of a dispatch (the carry of `lax.scan`).

    Attributes:
      params: parameters, in the optimiser's form.
      adam: Adam's moments and its count of steps.
      table: an ID table with deferred updates, or None.
    """

    params: Params | JoinedLeaves
    adam: optax.ScaleByAdamState
    table: DeferredTable | None = None


class StepIds(NamedTuple):
    """The item rows whose vectors a step computes (`step_items`).

    Attributes:
      rows: [T] the distinct rows, padded with V.
      inverse: [T] position of each id in `rows`.
    """

    rows: jax.Array
    inverse: jax.Array


class ReadParams(NamedTuple):
    """The parameters that a step has read.

    Attributes:
      trainable: the tree with respect to which the loss is differentiated.
      table_rows: [U, 3D] the rows of `StepIds` with their moments, from an ID table with deferred updates; or None.
    """

    trainable: Params
    table_rows: jax.Array | None = None


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980) on all parameters, each as a separate array.

    `begin` and `end` work on M models at once, whose leaves have a leading axis M; all other methods work on one model, within `vmap`.
    """

    def __init__(self, epsilon: float, decay: Params | JoinedLeaves | None = None) -> None:
        """Sets the constants.

        Args:
          epsilon: added to the root of the second moment.
          decay: rates of `weight_decay` for one model, a tree like the parameters in `ScanState`; None: no decay.
        """
        self.epsilon = epsilon
        self.decay = decay
        self._adam = optax.scale_by_adam(eps=epsilon)

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> ScanState:
        """Called before the first of many steps."""
        return ScanState(params, adam)

    def end(
        self, state: ScanState, learning_rate: jax.Array
    ) -> tuple[Params, optax.ScaleByAdamState]:
        """Called after the last step, with [M] rates: returns parameters and moments in their original form."""
        assert not isinstance(state.params, JoinedLeaves)
        return state.params, state.adam

    def read(self, state: ScanState, ids: StepIds | None, learning_rate: Rate) -> ReadParams:
        """Returns the values with respect to which the step differentiates."""
        assert not isinstance(state.params, JoinedLeaves)
        return ReadParams(state.params)

    def loss_params(
        self, state: ScanState, trainable: Params, ids: StepIds | None
    ) -> tuple[Params, jax.Array | None]:
        """The parameters for the model, and the [T, D] ID vectors of the step's items (`StepContext.id_rows`) or None."""
        return trainable, None

    def apply(
        self,
        state: ScanState,
        read: ReadParams,
        gradient: Params,
        ids: StepIds | None,
        learning_rate: Rate,
    ) -> ScanState:
        """One step of Adam with the gradient of `read.trainable`."""
        return self._update(state, gradient, learning_rate)

    def _update(
        self, state: ScanState, gradient: Params | JoinedLeaves, learning_rate: Rate
    ) -> ScanState:
        updates, adam = self._adam.update(gradient, state.adam)
        if self.decay is not None:  # decoupled: the decay does not enter the moments
            updates = jax.tree.map(
                lambda update, param, rate: update + rate * param, updates, state.params, self.decay
            )
        params = jax.tree.map(
            lambda param, update: param - learning_rate * update, state.params, updates
        )
        return state._replace(params=params, adam=adam)
