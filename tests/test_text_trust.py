"""Trust in texts: right ones, wrong ones and none, in a shop whose users keep to one subject each."""

import numpy as np
import pytest

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.text_trust import believed_text, companions, text_trust

SUBJECTS, ITEMS, USERS, LENGTH, WIDTH = (
    16,
    400,
    900,
    9,
    24,
)  # a wrong text is of the right subject by chance once in 16


def shop(rng: np.random.Generator) -> tuple[Split, np.ndarray]:
    """Users buy within a subject, and texts tell the subject, and the item."""
    subject = rng.integers(0, SUBJECTS, ITEMS)
    centre = rng.standard_normal((SUBJECTS, WIDTH))
    text = (centre[subject] + 0.7 * rng.standard_normal((ITEMS, WIDTH))).astype(np.float32)
    items = []
    for _ in range(USERS):
        of_subject = np.flatnonzero(subject == rng.integers(SUBJECTS))
        items.append(rng.choice(of_subject, LENGTH, replace=False))
    log = InteractionLog(
        "shop",
        np.arange(USERS),
        np.arange(ITEMS),
        np.concatenate(items).astype(np.int32),
        np.arange(USERS + 1) * LENGTH,
    )
    return leave_one_out(log, LENGTH), text - text.mean(axis=0)


@pytest.mark.parametrize("wrong_share", [0.0, 0.4, 1.0])
def test_trust_is_low_where_texts_are_wrong(wrong_share: float) -> None:
    """A wrong text would be believed, or right ones would not; wrong texts alone would vouch for each other."""
    rng = np.random.default_rng(0)
    split, text = shop(rng)
    wrong = rng.random(ITEMS) < wrong_share
    rows = np.flatnonzero(wrong)
    text[rows] = text[rng.permutation(rows)]
    found = text_trust(text, split)
    assert abs(found.share_right - (1 - wrong_share)) < 0.2  # of 400 items, two standard deviations
    if wrong_share < 1:
        assert found.trust[~wrong].mean() > 0.75
    if wrong_share > 0:
        assert found.trust[wrong].mean() < 0.3
    if 0 < wrong_share < 1:
        pairs = found.trust[~wrong][:, None] - found.trust[wrong]
        assert ((pairs > 0) + 0.5 * (pairs == 0)).mean() > 0.9  # the area under the curve


def test_company_is_of_training_alone_and_never_the_item_itself() -> None:
    """Held-out purchases would tell which text is right, or a text would vouch for itself by way of its company."""
    rng = np.random.default_rng(1)
    split, text = shop(rng)
    near = companions(split).toarray()
    np.testing.assert_allclose(near, near.T, rtol=1e-12)
    expected = np.zeros((ITEMS, ITEMS))
    for user in range(USERS):
        history = split.log.items[user * LENGTH : (user + 1) * LENGTH - 2]
        for k, item in enumerate(history):
            for distance in (1, 2, 3):
                if k + distance < len(history):
                    expected[item, history[k + distance]] += 1.0 / distance
                    expected[history[k + distance], item] += 1.0 / distance
    np.fill_diagonal(expected, 0.0)
    root = 1.0 / np.sqrt(np.maximum(expected.sum(axis=1), 1e-12))
    np.testing.assert_allclose(near, root[:, None] * expected * root, rtol=1e-6, atol=1e-9)
    before = text_trust(text, split).company[5]
    text[5] = rng.standard_normal(WIDTH) * np.linalg.norm(text[5])
    np.testing.assert_allclose(text_trust(text, split).company[5], before, atol=1e-5)


def test_believed_text_is_between_the_text_and_its_company() -> None:
    """An item that nobody believes would keep its wrong text, or lose its length."""
    rng = np.random.default_rng(2)
    split, text = shop(rng)
    found = text_trust(text, split)
    believed = believed_text(text, found._replace(trust=np.zeros(ITEMS, np.float32)))
    np.testing.assert_allclose(
        np.linalg.norm(believed, axis=1), np.linalg.norm(text, axis=1), rtol=1e-4
    )
    believed = believed_text(text, found._replace(trust=np.ones(ITEMS, np.float32)))
    np.testing.assert_allclose(believed, text, rtol=1e-6)
