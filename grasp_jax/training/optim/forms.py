"""Two forms of Adam besides the plain one: on parameters joined into one vector, and with an ID table whose updates are deferred."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.batch import Params
from grasp_jax.models.id_table_params import pop_id_table, put_id_table
from grasp_jax.training.optim import deferred_adam, one_vector
from grasp_jax.training.optim.adam import Adam, ReadParams, ScanState, StepIds
from grasp_jax.training.optim.deferred_adam import Rate
from grasp_jax.training.optim.one_vector import JoinedLeaves
from grasp_jax.training.optim.weight_decay import decay_rates


class AdamInOneVector(Adam):
    """Adam on the small parameters, joined into one vector (`one_vector`)."""

    def __init__(self, epsilon: float, like: Params, decay: Params | None = None) -> None:
        """Sets the structure of the parameters and the constants.

        Args:
          epsilon: of Adam.
          like: shapes of the parameters of one model.
          decay: rate of weight decay for each of them; None: no decay.
        """
        rate_of_entries = None
        if decay is not None:
            rate_of_entries = one_vector.join(
                jax.tree.map(lambda leaf, rate: jnp.full(leaf.shape, rate), like, decay)
            )
        super().__init__(epsilon, rate_of_entries)
        self.like = like

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> ScanState:
        """Joins parameters and moments."""
        return _map_all(jax.vmap(one_vector.join), params, adam)

    def end(
        self, state: ScanState, learning_rate: jax.Array
    ) -> tuple[Params, optax.ScaleByAdamState]:
        """Splits parameters and moments again."""
        split = jax.vmap(functools.partial(one_vector.split, like=self.like))
        return super().end(_map_all(split, state.params, state.adam), learning_rate)

    def read(self, state: ScanState, ids: StepIds | None, learning_rate: Rate) -> ReadParams:
        """Splits the parameters."""
        assert isinstance(state.params, JoinedLeaves)
        return ReadParams(one_vector.split(state.params, self.like))

    def apply(
        self,
        state: ScanState,
        read: ReadParams,
        gradient: Params,
        ids: StepIds | None,
        learning_rate: Rate,
    ) -> ScanState:
        """One step of Adam with the joined gradient."""
        return self._update(state, one_vector.join(gradient), learning_rate)


class AdamWithDeferredTable(Adam):
    """Adam with deferred updates of the ID table (`deferred_adam`), and another form of Adam for all other parameters."""

    def __init__(self, rest: Adam) -> None:
        """`rest`: the optimiser of the other parameters."""
        super().__init__(rest.epsilon)
        self.rest = rest

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> ScanState:
        """Removes the table from the parameters."""
        with jax.named_scope("update"):
            params, adam, table = jax.vmap(deferred_adam.without_table)(params, adam)
        return self.rest.begin(params, adam)._replace(table=table)

    def end(
        self, state: ScanState, learning_rate: jax.Array
    ) -> tuple[Params, optax.ScaleByAdamState]:
        """Puts it back, all its rows up to date."""
        assert state.table is not None
        params, adam = self.rest.end(state, learning_rate)
        with_table = jax.vmap(functools.partial(deferred_adam.with_table, epsilon=self.epsilon))
        with jax.named_scope("update"):
            return with_table(params, adam, state.table, learning_rate)

    def read(self, state: ScanState, ids: StepIds | None, learning_rate: Rate) -> ReadParams:
        """The other parameters, and the rows of the table that the step reads, brought up to date."""
        assert state.table is not None and ids is not None
        trainable = self.rest.read(state, ids, learning_rate).trainable
        with jax.named_scope("gather"):
            rows = deferred_adam.read_rows(
                state.table, ids.rows, state.adam.count, learning_rate, self.epsilon
            )
        return ReadParams(put_id_table(trainable, deferred_adam.parameters(rows)), rows)

    def loss_params(
        self, state: ScanState, trainable: Params, ids: StepIds | None
    ) -> tuple[Params, jax.Array | None]:
        """The model reads only the ID vectors of the step's items."""
        assert state.table is not None and ids is not None
        params, vectors = pop_id_table(trainable)
        with jax.named_scope("gather"):
            id_rows = vectors[ids.inverse]
        # flax requires the parameter, but it is not read
        return put_id_table(params, deferred_adam.parameters(state.table.rows)), id_rows

    def apply(
        self,
        state: ScanState,
        read: ReadParams,
        gradient: Params,
        ids: StepIds | None,
        learning_rate: Rate,
    ) -> ScanState:
        """One step of Adam on the rows that were read, and on all other parameters."""
        assert state.table is not None and read.table_rows is not None and ids is not None
        gradient, row_gradient = pop_id_table(gradient)
        steps = state.adam.count + 1
        table = deferred_adam.update_rows(
            state.table, ids.rows, read.table_rows, row_gradient, steps, learning_rate, self.epsilon
        )
        return self.rest.apply(state, read, gradient, ids, learning_rate)._replace(table=table)


def choose_optimiser(
    params: Params, epsilon: float, in_one_vector: bool, defers: bool, weight_decay: float = 0.0
) -> Adam:
    """The form of Adam for parameters of M models.

    Args:
      params: leaves [M, ...].
      epsilon: of Adam.
      in_one_vector: join the small parameters.
      defers: defer the updates of the ID table; there must be one.
      weight_decay: rate for matrices and tables (`weight_decay`); with it no updates are deferred.

    Raises:
      ValueError: deferred updates with weight decay.
    """
    if defers and weight_decay:
        raise ValueError(
            "weight decay changes every row of the ID table in every step, so updates cannot be deferred"
        )
    rest = pop_id_table(params)[0] if defers else params
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rest)
    decay = decay_rates(like, weight_decay) if weight_decay else None
    adam = AdamInOneVector(epsilon, like, decay) if in_one_vector else Adam(epsilon, decay)
    return AdamWithDeferredTable(adam) if defers else adam


def _map_all(
    change: Callable[[Any], Any], params: Params | JoinedLeaves, adam: optax.ScaleByAdamState
) -> ScanState:
    """Applies the same change to the parameters and to both moments."""
    return ScanState(change(params), adam._replace(mu=change(adam.mu), nu=change(adam.nu)))
