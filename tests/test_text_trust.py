"""Trust in texts: right ones, wrong ones and none, in a shop whose users keep to one subject each."""

import numpy as np
import pytest

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.company import companions, company_text, company_without_own
from grasp_jax.models.text_trust import text_trust

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
    found = text_trust(text, companions(split))
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
    rows = text / np.linalg.norm(text, axis=1, keepdims=True)
    before = company_without_own(rows, companions(split))[5]
    rows[5] = -rows[5]
    np.testing.assert_allclose(company_without_own(rows, companions(split))[5], before, atol=1e-5)


def test_company_text_is_that_of_one_hop_and_of_two() -> None:
    """The graph would be another one, or its rows of another length than those of the items."""
    split, text = shop(np.random.default_rng(2))
    near = companions(split).toarray()
    expected = near @ text + 2.0 * near @ near @ text
    expected *= 3.0 / np.sqrt((expected**2).sum(axis=1).mean())
    np.testing.assert_allclose(
        company_text(text, companions(split), 3.0), expected, rtol=1e-4, atol=1e-4
    )
