"""The synthetic shop: the properties on which results and the tutorial rely."""

import numpy as np
import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.split import leave_one_out
from grasp_jax.data.synthetic import (
    CATEGORIES,
    MAX_LENGTH,
    MIN_LENGTH,
    STYLES,
    Shop,
    ShopSpec,
    make_shop,
)

NUM_USERS, NUM_ITEMS = 600, 3000


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop(ShopSpec(NUM_USERS, NUM_ITEMS))


def test_same_seed_same_shop(shop: Shop) -> None:
    """A draw outside the seed would make two runs of one config train on different data."""
    again, other = (
        make_shop(ShopSpec(NUM_USERS, NUM_ITEMS)),
        make_shop(ShopSpec(NUM_USERS, NUM_ITEMS, seed=1)),
    )
    assert again.log.fingerprint == shop.log.fingerprint != other.log.fingerprint
    np.testing.assert_array_equal(again.log.timestamps, shop.log.timestamps)
    assert again.items.columns == shop.items.columns
    assert again.user_texts == shop.user_texts


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_corruption_swaps_the_share_and_leaves_interactions(shop: Shop, share: float) -> None:
    """A study of wrong text is void if the interactions move with it, or if a marked user keeps their own text."""
    wrong = make_shop(ShopSpec(NUM_USERS, NUM_ITEMS, corrupted_share=share))
    assert wrong.log.fingerprint == shop.log.fingerprint
    np.testing.assert_array_equal(wrong.log.timestamps, shop.log.timestamps)
    assert wrong.items.columns == shop.items.columns
    assert not shop.corrupted.any()
    assert wrong.corrupted.shape == (NUM_USERS,) and wrong.corrupted.dtype == bool
    assert wrong.corrupted.sum() == round(share * NUM_USERS)
    changed = np.array(
        [before != after for before, after in zip(shop.user_texts, wrong.user_texts, strict=True)]
    )
    assert not changed[~wrong.corrupted].any()
    # Short histories can share a text, and a swap between those does not show.
    unique = np.array([shop.user_texts.count(text) == 1 for text in shop.user_texts])
    assert unique.mean() > 0.8
    assert changed[wrong.corrupted & unique].all()
    assert sorted(wrong.user_texts) == sorted(shop.user_texts)


def test_long_tail(shop: Shop) -> None:
    """Were the catalogue evenly bought, an ID model would learn every item and text could not help."""
    split = leave_one_out(shop.log, 50)
    counts = np.sort(split.item_counts)[::-1]
    assert (counts < 4).mean() > 0.5
    assert (split.item_counts[split.test.target] < 4).mean() > 0.1  # rare items are also asked for
    assert counts[: NUM_ITEMS // 100].sum() > 0.1 * counts.sum()


def test_user_text_is_of_the_training_part_alone(shop: Shop) -> None:
    """A held-out title, kind, style or brand in a description would hand the model its own test target."""
    titles, attributes = shop.items.columns["title"], shop.items.columns["attributes"]
    log, newest_is_new = shop.log, 0
    for user, text in enumerate(shop.user_texts):
        history = log.items[log.offsets[user] : log.offsets[user + 1]]
        training = set(history[:-2].tolist())
        summary, listed = text.rstrip(".").split(" Bought lately: ")
        assert set(listed.split(", ")) <= {titles[item] for item in training}
        kind, rest = summary.removeprefix("This shopper mostly buys ").split(", likes ")
        style, brand = rest.rstrip(".").split(" and trusts ")
        assert kind in {attributes[item][2] for item in training}
        assert brand in {attributes[item][0] for item in training}
        assert any(f" {style} " in titles[item] for item in training)
        held_out = {titles[item] for item in history[-2:].tolist() if item not in training}
        newest_is_new += bool(held_out)
        assert not any(title in text for title in held_out)
    assert newest_is_new > NUM_USERS / 2  # else the check above saw next to nothing


def test_lengths_and_times(shop: Shop) -> None:
    """A user below three interactions is never evaluated; times that do not increase would leave the order to chance."""
    lengths = make_shop(ShopSpec(5000, NUM_ITEMS, mean_length=12.0)).log.lengths
    assert len(lengths) == 5000
    assert lengths.min() >= MIN_LENGTH and lengths.max() <= MAX_LENGTH
    assert abs(lengths.mean() - 12.0) < 1.0
    log = shop.log
    assert log.timestamps is not None and log.timestamps.dtype == np.int64
    assert (np.diff(log.timestamps)[np.diff(log.users) == 0] > 0).all()


def test_items_are_readable_and_aligned(shop: Shop) -> None:
    """A title that does not name its brand, kind and style carries no signal; shifted ids would give items each other's text."""
    np.testing.assert_array_equal(shop.items.ids, np.arange(1, NUM_ITEMS + 1))
    np.testing.assert_array_equal(shop.log.item_ids, shop.items.ids)
    assert shop.items.ids.dtype == np.int64
    columns = shop.items.columns
    assert set(columns) == {"title", "attributes", "price"}
    for title, (brand, category, kind), price in zip(
        columns["title"], columns["attributes"], columns["price"], strict=True
    ):
        assert (
            title.startswith(f"{brand} ") and f" {kind} " in title and kind in CATEGORIES[category]
        )
        assert any(f" {style} " in title for style in STYLES)
        assert price > 0


def test_repeat_rate_repeats() -> None:
    """Without the repeats that the rate asks for, re-purchase behaviour is not exercised at all."""

    def repeated(rate: float) -> float:
        log = make_shop(ShopSpec(NUM_USERS, NUM_ITEMS, repeat_rate=rate)).log
        pairs = log.users.astype(np.int64) * log.num_items + log.items
        return (log.num_interactions - len(np.unique(pairs))) / (
            log.num_interactions - log.num_users
        )

    assert repeated(0.5) - repeated(0.0) > 0.3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_users", 1),
        ("num_items", 0),
        ("mean_length", 2.0),
        ("mean_length", float("nan")),
        ("repeat_rate", 1.0),
        ("repeat_rate", -0.1),
        ("corrupted_share", 1.1),
        ("seed", -1),
    ],
)
def test_bad_spec_is_one_line(name: str, value: float) -> None:
    """Unchecked, a bad number surfaces as a NumPy traceback far from the config key that holds it."""
    with pytest.raises(UserError) as caught:
        Dataset.synthetic(**{name: value})  # type: ignore[arg-type]
    message = str(caught.value)
    assert (
        "\n" not in message and name in message and str(value) in message and "expected" in message
    )
