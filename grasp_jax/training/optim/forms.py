"""Adam in one vector; Adam with an ID table that is kept apart; and which of the two a step runs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.batch import Params
from grasp_jax.training.optim import deferred_adam, one_vector
from grasp_jax.training.optim.adam import Adam, Held, Read, StepIds
from grasp_jax.training.optim.deferred_adam import Rate
from grasp_jax.training.optim.one_vector import Joined
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
        filled = None  # a rate for each number
        if decay is not None:
            filled = one_vector.join(
                jax.tree.map(lambda leaf, rate: jnp.full(leaf.shape, rate), like, decay)
            )
        super().__init__(epsilon, filled)
        self.like = like

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> Held:
        """Joins parameters and moments."""
        return _in_each(jax.vmap(one_vector.join), params, adam)

    def end(self, held: Held, learning_rate: jax.Array) -> tuple[Params, optax.ScaleByAdamState]:
        """Takes them apart."""
        part = _in_each(
            jax.vmap(functools.partial(one_vector.part, like=self.like)), held.params, held.adam
        )
        return super().end(part, learning_rate)

    def read(self, held: Held, ids: StepIds | None, learning_rate: Rate) -> Read:
        """The tree, taken apart."""
        assert isinstance(held.params, Joined)
        return Read(one_vector.part(held.params, self.like))

    def apply(
        self, held: Held, read: Read, gradient: Params, ids: StepIds | None, learning_rate: Rate
    ) -> Held:
        """One step of Adam with the joined gradient."""
        return self._move(held, one_vector.join(gradient), learning_rate)


class AdamBesideIdTable(Adam):
    """Adam with deferred updates of an ID table of which a step reads few rows (`deferred_adam`), and another form of Adam on all other
    parameters.
    """

    def __init__(self, rest: Adam) -> None:
        """`rest`: of the other parameters."""
        super().__init__(rest.epsilon)
        self.rest = rest

    def begin(self, params: Params, adam: optax.ScaleByAdamState) -> Held:
        """Takes the table out."""
        with jax.named_scope("update"):
            params, adam, table = jax.vmap(deferred_adam.without_table)(params, adam)
        return self.rest.begin(params, adam)._replace(table=table)

    def end(self, held: Held, learning_rate: jax.Array) -> tuple[Params, optax.ScaleByAdamState]:
        """Puts it back, all its rows up to date."""
        assert held.table is not None
        params, adam = self.rest.end(held, learning_rate)
        together = jax.vmap(functools.partial(deferred_adam.with_table, epsilon=self.epsilon))
        with jax.named_scope("update"):
            return together(params, adam, held.table, learning_rate)

    def read(self, held: Held, ids: StepIds | None, learning_rate: Rate) -> Read:
        """The tree with those rows of the table that the step reads, brought up to date."""
        assert held.table is not None and ids is not None
        trained = self.rest.read(held, ids, learning_rate).trained
        with jax.named_scope("gather"):
            rows = deferred_adam.read_rows(
                held.table, ids.rows, held.adam.count, learning_rate, self.epsilon
            )
        return Read(deferred_adam.put_table(trained, deferred_adam.parameters(rows)), rows)

    def loss_params(
        self, held: Held, trained: Params, ids: StepIds | None
    ) -> tuple[Params, jax.Array | None]:
        """The model reads only the ID vectors of the step's items."""
        assert held.table is not None and ids is not None
        params, vectors = deferred_adam.pop_table(trained)
        with jax.named_scope("gather"):
            id_rows = vectors[ids.places]
        return deferred_adam.put_table(
            params, deferred_adam.parameters(held.table.rows)
        ), id_rows  # flax requires the parameter, but it is not read

    def apply(
        self, held: Held, read: Read, gradient: Params, ids: StepIds | None, learning_rate: Rate
    ) -> Held:
        """One step of Adam on the rows that were read, and on all other parameters."""
        assert held.table is not None and read.rows is not None and ids is not None
        gradient, of_rows = deferred_adam.pop_table(gradient)
        steps = held.adam.count + 1
        table = deferred_adam.update_rows(
            held.table, ids.rows, read.rows, of_rows, steps, learning_rate, self.epsilon
        )
        return self.rest.apply(held, read, gradient, ids, learning_rate)._replace(table=table)


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
    """
    if defers and weight_decay:
        raise ValueError("weight decay moves every row of the ID table at every step")
    rest = deferred_adam.pop_table(params)[0] if defers else params
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rest)
    decay = decay_rates(like, weight_decay) if weight_decay else None
    adam = AdamInOneVector(epsilon, like, decay) if in_one_vector else Adam(epsilon, decay)
    return AdamBesideIdTable(adam) if defers else adam


def _in_each(
    change: Callable[[Any], Any], params: Params | Joined, adam: optax.ScaleByAdamState
) -> Held:
    """Applies the same change to the parameters and to both moments."""
    return Held(change(params), adam._replace(mu=change(adam.mu), nu=change(adam.nu)))
