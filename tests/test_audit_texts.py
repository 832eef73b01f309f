"""The audit's counts in texts (claims, kept words, history groups, draws), compared with counts by hand."""

import numpy as np
import pytest

from grasp_jax.config import AuditConfig
from grasp_jax.knowledge.audit.claims import claims, count_claims, kept_share, words
from grasp_jax.knowledge.audit.groups import history_groups, sampled, wilson
from grasp_jax.knowledge.audit.subjects import Descriptions, Subject
from grasp_jax.knowledge.audit.texts import measure_texts

PROMPT = "The item has the following attributes: name is L'Oréal Elvive Shampoo 1,000ml. It is listed under: Hair Care."


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A gentle wash by Lumora, 250 ml.", {"lumora", "250"}),
        (
            "Lumora makes it. Velvane sells it! Noressa: Calwick keeps it",
            set(),
        ),  # all begin a sentence or follow a colon
        ("Good for hair - Shiny. • Bright (Ariora) and “Solmont” shine", {"ariora", "solmont"}),
        (
            "What it does: 1. Cleans. 2. Cares for 3 weeks. 3) Shines 4.5 times",
            {"3", "4.5"},
        ),  # a numbered list claims no numbers
        (
            "It is the Shampoo's and the SHAMPOOS' and the shampoo",
            {"shampoo"},
        ),  # once, in whatever form
        ("They say that I like the Égalité of 1,000 and 1000", {"egalite", "1000"}),
        ("the Boss glass", {"boss"}),  # ss is no plural
        ("das Ölbad für Kölnisch", {"olbad", "kolnisch"}),
        ("", set()),
    ],
)
def test_claims(text: str, expected: set[str]) -> None:
    """A sentence's first word would count as a name, or one name as two claims: the rate would say nothing."""
    assert claims(text) == expected


def test_claims_without_a_source() -> None:
    """An invented brand or size would go unseen, or what the prompt says in other letters be called invented."""
    assert count_claims("From the house of L’Oreal comes this SHAMPOO of 1000 ml.", PROMPT) == (
        3,
        0,
    )
    assert count_claims(
        "From the house of Lumora comes this Shampoo of 1 litre with 12 Herbs.", PROMPT
    ) == (5, 4)
    assert count_claims("It is vegan.", PROMPT) == (0, 0), (
        "a claim without names and numbers is not seen, as documented"
    )


def test_kept_share() -> None:
    """A description that loses half of what is known of an item would look as good as one that keeps it."""
    assert words("Oils & Gels, 50ml") == ["oil", "gel", "50", "ml"]
    assert kept_share(
        "Lumora, Oils and Gels for the Hair, 50 ml", "A hair oil. 50 of it."
    ) == pytest.approx(3 / 5)
    assert kept_share("of", "anything") is None and kept_share("Lumora", "") == 0.0


def test_history_groups() -> None:
    """A user would be counted in the neighbouring group, and Figure 1(c)'s trend be blurred."""
    groups = history_groups(np.array([0, 1, 2, 3, 4, 5, 9, 10, 500]), (1, 2, 3, 5, 10))
    assert groups.labels == ["0", "1", "2", "3 to 4", "5 to 9", "10 or more"]
    assert groups.of_rows.tolist() == [0, 1, 2, 3, 3, 4, 4, 5, 5]
    some = history_groups(np.array([7, 3, 1]), (3, 5))
    assert [(label, rows.tolist()) for label, rows in some.occupied()] == [
        ("0 to 2", [2]),
        ("3 to 4", [1]),
        ("5 or more", [0]),
    ]
    assert [rows.tolist() for _, rows in history_groups(np.array([9, 9]), (3, 5)).occupied()] == [
        [0, 1]
    ], "an empty group is none"


def test_draws_are_reproducible() -> None:
    """A sheet would hold other rows at each call, or one row twice."""
    rows = np.arange(100, 200)
    once = sampled(rows, 10, 0, 3)
    assert once.tolist() == sampled(rows, 10, 0, 3).tolist() != sampled(rows, 10, 1, 3).tolist()
    assert (
        len(set(once.tolist())) == 10
        and set(once.tolist()) <= set(rows.tolist())
        and (np.diff(once) > 0).all()
    )
    assert sampled(rows[:5], 10, 0).tolist() == rows[:5].tolist()


@pytest.mark.parametrize(
    "hits, trials, low, high",
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_wilson(hits: int, trials: int, low: float, high: float) -> None:
    """An interval would be of another kind than is said, or leave 0 to 1 for rare claims (values of R's prop.test, uncorrected)."""
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_groups_of_texts() -> None:
    """Refusals would be read as descriptions, or a template be praised for inventing nothing."""
    prompts = ["Item: Lumora Soap"] * 3 + ["Item: Velvane Oil"] * 3
    texts = [
        "This is by Lumora",
        "This is by Noressa",
        "NA",
        "Item: Velvane Oil",
        "I'm sorry",
        "Item: Velvane Oil",
    ]
    described = Descriptions(texts, np.array([0, 0, 1, 0, 2, 4], np.uint8), prompts.__getitem__)
    subject = Subject(
        "items",
        np.arange(6),
        history_groups(np.array([0, 0, 0, 4, 4, 4]), (3,)),
        prompts.__getitem__,
        described,
    )
    first, second = measure_texts(subject, AuditConfig())
    assert (first.group, first.rows, first.read, first.compared) == ("0 to 2", 3, 2, 2)
    assert (first.na, first.refused, first.unanswered) == (pytest.approx(1 / 3), 0.0, 0.0)
    assert (first.claims, first.unsupported, first.with_unsupported) == (1.0, 0.5, 0.5)
    assert first.words == (4.0, 4.0, 4.0) and (first.kept, first.mostly_lost) == (
        pytest.approx(1 / 6),
        1.0,
    )
    assert first.interval == pytest.approx(wilson(1, 2))
    assert (second.refused, second.unanswered, second.read) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        1,
    )
    assert (second.kept, second.mostly_lost) == (1.0, 0.0)
    assert (
        second.compared,
        second.claims,
        second.unsupported,
        second.with_unsupported,
        second.interval,
    ) == (0, None, None, None, None)
