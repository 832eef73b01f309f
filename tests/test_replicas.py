"""Models along one array axis do not mix."""

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.training.replicas import (
    Replica,
    one_replica,
    per_replica,
    put_replicas,
    take_replicas,
)


def test_each_model_has_its_key_and_its_rates() -> None:
    """Seeds would not give the runs that they gave alone, or a model be trained with the rate of another."""
    replicas = [Replica(0, 0.5, 1e-3), Replica(2**31 + 5, 0.2, 3e-3), Replica(42, 0.0, 1e-4)]
    keys, dropout, learning_rate = per_replica(replicas)
    for key, replica in zip(keys, replicas, strict=True):
        np.testing.assert_array_equal(
            jax.random.key_data(key), jax.random.key_data(jax.random.key(replica.seed))
        )
    assert dropout.dtype == learning_rate.dtype == jnp.float32
    np.testing.assert_array_equal(dropout, np.float32([0.5, 0.2, 0.0]))
    np.testing.assert_array_equal(learning_rate, np.float32([1e-3, 3e-3, 1e-4]))


def test_models_that_stopped_stay_as_they_are() -> None:
    """A model's best would be lost when it leaves the axis, or come back as another's."""
    tree = {"a": jnp.arange(12.0).reshape(4, 3), "b": jnp.arange(4)}
    rows = jnp.array([1, 3])
    part = take_replicas(tree, rows)
    np.testing.assert_array_equal(part["a"], tree["a"][rows])
    np.testing.assert_array_equal(one_replica(tree, 2)["a"], tree["a"][2])
    whole = put_replicas(tree, jax.tree.map(lambda leaf: leaf + 100, part), rows)
    np.testing.assert_array_equal(whole["b"], [0, 101, 2, 103])
    np.testing.assert_array_equal(whole["a"][jnp.array([0, 2])], tree["a"][jnp.array([0, 2])])
    assert take_replicas(tree, None) is tree and put_replicas(tree, part, None) is part
