"""Metrics of one's own: what they read is what the package's metrics read, no metric spoils another, and what cannot be is refused."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.ranking_metrics import Ranking, length_of_lists, measured
from tests.refusal import assert_names, refusal
from tests.trained import small_shop, trained


def ranking_of(**given: Any) -> Ranking:
    """Three users and five items."""
    arrays = {"ranks": [0, 3, 4], "users": [0, 1, 2], "targets": [4, 1, 0], "item_counts": [1] * 5}
    top = lambda k: np.zeros((3, k), np.int64)  # noqa: E731
    return Ranking(**{name: np.array(values) for name, values in arrays.items()}, top=top, **given)


def test_lists_and_ranks_agree(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A user's hit rate of lists would be below Recall@10 by `full_unseen`: lists left out targets that the user had had before."""
    shop = small_shop()
    model = gj.Recommender.load(trained(tmp_path_factory, "gru4rec"), shop)
    offsets, items_of_log = shop.log.offsets, shop.log.items
    bought_again = []

    def had(user: int) -> np.ndarray:
        return items_of_log[offsets[user] : offsets[user + 1] - 1]

    def hits(ranking: Ranking) -> float:
        own = zip(ranking.users, ranking.targets, strict=True)
        bought_again.append(sum(item in had(user) for user, item in own))
        return float((ranking.top(10) == ranking.targets[:, None]).any(axis=1).mean())

    def places(ranking: Ranking) -> float:
        """Of the targets in the lists, the share that is at the place of its rank."""
        rows, columns = np.nonzero(ranking.top(np.int64(10)) == ranking.targets[:, None])
        return float((ranking.ranks[rows] == columns).mean())

    def seen(ranking: Ranking) -> float:
        """Share of the lists with an item that is not the target and that the user has had."""
        lists = zip(ranking.users, ranking.top(10), ranking.targets, strict=True)
        shares = [np.isin(items[items != own], had(user)).any() for user, items, own in lists]
        return float(np.mean(shares))

    rows = model.evaluate(metrics=["Recall@10", hits, places, seen])
    extra = rows[rows["hits"].notna()].set_index("protocol")
    assert bought_again[0] > 5
    np.testing.assert_array_equal(extra["hits"], extra["Recall@10"])
    np.testing.assert_array_equal(extra["places"], 1.0)
    assert extra["seen"]["full"] > 0 == extra["seen"]["full_unseen"]


def test_one_metric_cannot_change_what_the_next_one_reads() -> None:
    """`ranking.ranks += 1` in one metric would lower all that follow it, and the counts of the run itself."""
    ranking = ranking_of()
    for name in ("ranks", "users", "targets", "item_counts"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(ranking, name)[0] += 1
    counts = np.ones(5)
    Ranking(np.zeros(1), np.zeros(1), np.zeros(1), counts, ranking.top)
    counts[0] = 2  # the array of the run stays as it was


def test_a_metric_does_not_replace_another_column() -> None:
    """The rows would lose their protocol, or "n" hold something else than the number of users."""

    def protocol(_: Ranking) -> float:
        return 1.0

    message = refusal(measured, ranking_of(), [protocol], taken=("protocol", "n"))
    assert_names(message, ("'protocol' is another column", "another name"))


def test_names_that_can_be_given() -> None:
    """Two partial functions, or two objects of a class, could not be measured together."""

    class Beyond:
        def __init__(self, place: int) -> None:
            self.place = place

        def __call__(self, ranking: Ranking) -> float:
            return float((ranking.ranks > self.place).mean())

    first, second = Beyond(0), Beyond(3)
    message = refusal(measured, ranking_of(), [first, second])
    assert_names(message, ("'Beyond'", "wrap each in a function"))
    first.__name__, second.__name__ = "beyond_0", "beyond_3"  # type: ignore[attr-defined]
    third = functools.partial(lambda ranking, k: ranking.ranks[k], k=2)
    third.__name__ = "of_2"  # type: ignore[attr-defined]
    found = measured(ranking_of(), [first, second, third])
    assert found == {"beyond_0": 2 / 3, "beyond_3": 1 / 3, "of_2": 4.0}


def test_numbers_of_numpy_and_jax() -> None:
    """A metric written with JAX would be refused, although what it returns is a number."""
    for value in (
        3,
        3.0,
        np.float32(3),
        np.array(3),
        jnp.mean(jnp.full(4, 3.0)),
        jnp.int32(3),
        jnp.bfloat16(3),
    ):
        assert measured(ranking_of(), [lambda _, value=value: value]) == {"<lambda>": 3.0}
    for value in (
        None,
        True,
        np.bool_(1),
        "3",
        [3.0],
        np.full(1, 3.0),
        jnp.full(1, 3.0),
        3j,
        np.complex64(1),
        np.str_("3"),
    ):
        assert_names(
            refusal(measured, ranking_of(), [lambda _, value=value: value]),
            ("<lambda> returns", "expected a number"),
        )


def test_what_a_wrong_metric_returns_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A message would have all numbers of an array, and NaN become a column of the results without a word."""
    for value, said in (
        (np.zeros(400), "an array of shape (400,)"),
        ([0.5] * 99, "[0.5, 0.5, "),
    ):
        message = refusal(measured, ranking_of(), [lambda _, value=value: value])
        assert said in message and len(message) < 140
    with caplog.at_level("WARNING", "grasp_jax"):
        assert np.isnan(measured(ranking_of(), [lambda _: float("nan")])["<lambda>"])
    assert caplog.messages == ["warning: metrics: <lambda> is nan, not a finite number"]


@pytest.mark.parametrize("k", [0, -1, 6, 2.0, "3", None])
def test_lists_of_a_length_that_cannot_be(k: Any) -> None:
    """The message named config.recommend.top_n, which nobody had set, or was an error from within the package."""
    with pytest.raises(
        UserError, match=r"expected a whole number from 1 to 5, the number of items"
    ):
        length_of_lists(k, 5)
    assert length_of_lists(np.int64(5), 5) == 5
