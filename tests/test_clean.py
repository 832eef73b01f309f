"""Whether an answer of a language model says something about an item."""

import pytest

from grasp_jax.knowledge.text.clean import split_reference, status_of

KNOWS_NOTHING = (
    "NA",
    "N/A.",
    "NA. The request supports nothing.",
    "NA: not enough attributes",
    "**NA** - the title says nothing",
    "NA (no information)",
    "NA The request supports nothing.",
    "There is not enough information to describe this item.",
    "There isn't any specific information about it.",
    "Not enough information.",
    "I do not have enough information about this product.",
    "The request does not support a description.",
    "Es gibt nicht genügend Informationen über diesen Artikel.",
    "Keine Angaben",
    "Leider liegen keine Informationen vor.",
    "Keine ausreichenden Informationen vorhanden.",
    "NA\nThe item has no attributes.",
    "NA due to missing data",
    "N.A.",
    "The title does not provide enough information.",
    "Not available: no attributes",
)
REFUSALS = (
    "I'm sorry, but I can't help with that request.",
    "I cannot assist with that.",
    "As a language model, I do not have information about this product.",
    "As a large language model I cannot browse.",
    "As an AI assistant, I must decline.",
    "My apologies, this is not possible.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Tut mir leid, das geht nicht.",
    "Als KI-Sprachmodell kenne ich diesen Artikel nicht.",
    "Leider kann ich dazu nichts sagen.",
    "Ich kann diese Anfrage leider nicht beantworten.",
)
DESCRIPTIONS = (
    "NA-free cream for dry skin.",
    "Na, the symbol of sodium, stands on this salt.",
    "Nas, a rapper, on vinyl.",
    "NA beer with citrus hops.",
    "NARS lipstick, red.",
    "A soap. NA. Nothing more is known of its scent.",
    "Apologies That Never Came is a novel.",
    "No details spared: a model train.",
    "There is a small brush in the lid.",
    "Unknown Pleasures is an album.",
    "Ich kann kochen: a cookbook for children.",
    "Leider geil is a song by Deichkind.",
    "The Information is a novel by Martin Amis.",
    "As an assistant's gift, a mug.",
    "As an assistant, this kitchen tool chops onions.",
    "There is no data loss with this backup drive.",
    "No information overload: this planner shows a day on a page.",
    "There are no details too small for this macro lens.",
    "NA - North American version of the controller.",
    "N/A (NTSC) console.",
    "Keine Informationen gehen verloren mit dieser Festplatte.",
    "Als KI-Roboter verkleidet: ein Kostüm.",
    "Ich kann nicht schlafen ist ein Kinderbuch.",
    "My Apologies is an album of 2019.",
)


@pytest.mark.parametrize("text", KNOWS_NOTHING)
def test_an_answer_that_knows_nothing(text: str) -> None:
    """Its vector would say that items that no one knows are alike."""
    assert status_of(text) == "na"


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal(text: str) -> None:
    """The words of a refusal would be taken for those of the item."""
    assert status_of(text) == "refused"


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_a_description_stays(text: str) -> None:
    """A description that was paid for would be thrown away."""
    assert status_of(text) == "ok"


@pytest.mark.parametrize(
    ("raw", "rest"),
    [
        ('[deadbeef] "Blue" mug', '"Blue" mug'),
        ("[deadbeef] **Blue mug** is", "**Blue mug** is"),
        ("**[deadbeef]** a mug", "a mug"),
    ],
)
def test_marks_of_the_text_behind_a_reference_stay(raw: str, rest: str) -> None:
    """A text would begin in the middle of a quotation."""
    assert split_reference(raw) == ("deadbeef", rest)
