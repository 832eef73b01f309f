"""Cleans the answers of a language model: they are data, whatever they contain."""

import re
import unicodedata

# only the text of the first is used; "rejected" is the endpoint's doing
STATUSES = ("ok", "na", "refused", "rejected", "mismatch")
_NOTHING = {"", "na", "n/a", "none", "null", "not available", "not applicable", "unknown"}
_REFUSAL = re.compile(
    r"(i'?m|i am) (so )?(sorry|unable|not able)|sorry[,.]|(unfortunately, )?i (cannot|can'?t|won'?t)|as an ai\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\s*\[([0-9a-f]{8})\][\s:.,-]*")


def clean(raw: str, max_characters: int) -> str:
    """One line of visible characters, cut at a word: no control, formatting or private characters, and no lone surrogate."""
    head = raw[: 4 * max_characters]  # of an endless answer no more is looked at
    whole = unicodedata.normalize("NFC", head)
    # What is not printable is what Unicode calls Other or Separator, but for the space itself.
    visible = (
        whole
        if whole.isprintable()
        else "".join(character if character.isprintable() else " " for character in whole)
    )
    text = " ".join(visible.split())
    if len(text) <= max_characters:
        return text
    return text[:max_characters].rsplit(" ", 1)[0]


def status_of(text: str) -> str:
    """ "ok", "na" where the model says that it knows nothing, or "refused"."""
    if text.strip(" .'\"*[]()").casefold() in _NOTHING:
        return "na"
    return "refused" if _REFUSAL.match(text.replace("’", "'")) else "ok"


def split_reference(raw: str) -> tuple[str, str]:
    """A leading reference in brackets, or "", and the rest."""
    found = _REFERENCE.match(raw)
    return (found.group(1), raw[found.end() :]) if found else ("", raw)
