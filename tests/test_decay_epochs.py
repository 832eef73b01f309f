"""Learning rates that fall linearly to 0: each step's, from a config to the parameters, over dispatches and epochs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.core.errors import UserError
from grasp_jax.data.log import InteractionLog
from grasp_jax.training import training_set
from grasp_jax.training.replicas import PerReplica
from grasp_jax.training.step import Step, make_train_steps
from tests.assembly import assembled
from tests.trained import SMALL, small_shop


def rate(decay_steps: int, number: int) -> float:
    step = Step(None, None, None, None, decay_steps)  # type: ignore[arg-type]
    own = PerReplica(jnp.zeros(2), jnp.zeros(2), jnp.float32([0.1, 0.5]))
    rates = step.rates(own, jnp.int32(number)).learning_rate
    np.testing.assert_allclose(rates[1], 5 * rates[0], rtol=1e-6)
    return float(rates[0])


def test_rates_fall_linearly() -> None:
    """A training would end with the wrong rate, or a rate below 0 climb its loss."""
    for number in range(8):
        assert rate(8, number) == pytest.approx(0.1 * (8 - number) / 8, rel=1e-6)
        assert rate(0, number) == pytest.approx(0.1)
    assert rate(8, 8) == rate(8, 20) == 0


def fitted(shop: gj.Dataset, **fields: Any) -> Any:
    model = gj.Recommender(method="plain", backbone="gru4rec", **{**SMALL, **fields}).fit(shop)
    assert model._fitted is not None
    return model._fitted.validated.snapshot


def test_the_field_reaches_every_step() -> None:
    """Steps would be counted again from 0 in each dispatch, or not over all epochs."""
    shop = small_shop()
    whole = fitted(shop, max_epochs=2, decay_epochs=2, steps_per_dispatch=512)
    parts = fitted(shop, max_epochs=2, decay_epochs=2, steps_per_dispatch=1)
    constant = fitted(shop, max_epochs=2)
    one, other, same = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(x.state.params)])
        for x in (whole, parts, constant)
    )
    change = np.linalg.norm(one - same)
    assert change > 0.01 and np.linalg.norm(one - other) < 0.05 * change


def test_the_id_table_is_not_deferred(
    small_log: InteractionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were put off would move by the rate of the step that reads them."""
    monkeypatch.setattr(training_set, "defers", lambda items, ids: True)
    fields: dict[str, Any] = {"train.loss": "bce", "model.projection": "token"}
    for epochs in (0, 200):
        made = assembled(small_log, {}, "plain", "sasrec", fields | {"train.decay_epochs": epochs})
        assert made.data.shape.deferred == (epochs == 0)
        if not epochs:
            with pytest.raises(ValueError, match="one learning rate"):
                make_train_steps(made.model, made.data.shape, made.data.loss, decay_steps=5)


def test_no_epochs_without_a_learning_rate() -> None:
    """Epochs after the last would train nothing, and nobody would be told."""
    with pytest.raises(
        UserError, match=r"max_epochs: 30 with train.decay_epochs=20, .* at most 20"
    ):
        gj.Recommender(max_epochs=30, decay_epochs=20)
    gj.Recommender(max_epochs=12, decay_epochs=20)
