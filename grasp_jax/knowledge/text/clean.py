"""Cleans the answers of a language model: they are data, whatever they contain."""

import re
import unicodedata

# only the text of the first is used; "rejected" is the endpoint's doing
STATUSES = ("ok", "na", "refused", "rejected", "mismatch")
_NOTHING = {
    "",
    "na",
    "n/a",
    "n.a",
    "none",
    "null",
    "not available",
    "not applicable",
    "unknown",
    "k.a",
    "k. a",
    "keine angabe",
    "keine angaben",
    "nicht verfügbar",
    "unbekannt",
}
# "NA" in capitals as a word of its own, with a reason behind it: "NA. The request supports nothing." But "NA-free cream" and "NA - North
# American version" say something, and so does "Na" (sodium).
_LEADING_NA = re.compile(
    r"""["'*_(\[]*N/?A["'*_)\]]*(?:[.,:;!?]|\s*\n|\s+[-–—(]?\s*(?:"""
    r"[Tt]he (?:request|prompt|attributes|title|data|information)|[Tt]here|[Nn]o|[Nn]ot|[Nn]othing|[Bb]ecause|[Dd]ue to|[Aa]s the"
    r"|[Ii]nsufficient|[Uu]nknown)\b)"
)
# what may follow "no information": "no information overload" describes a planner
_END = r"(?: (?:about|on|to|for|regarding|concerning|available|given|provided|was|is|über|zu|vor|vorhanden|verfügbar)\b|\s*[.,;:!?]|\s*$)"
_NO_INFORMATION = re.compile(
    r"not available[:.,]"
    r"|(?:unfortunately,? |sorry,? |leider )?(?:"
    r"(?:(?:there (?:is|are|was)(?:n't| not| no)|i (?:do not|don't) have|i have no)"
    r"(?: enough| sufficient| any| specific| reliable| further)* (?:information|details|data)"
    rf"|no(?:t enough| specific)? information|insufficient (?:information|details|data)){_END}"
    r"|the (?:request|prompt|given information|provided information|information provided) (?:does not|doesn't|is (?:not|in)) ?"
    r"(?:support|contain|include|provide|give|enough|sufficient)"
    r"|the title (?:does not|doesn't) (?:provide|give|contain) (?:enough|sufficient|any)\b"
    r"|(?:es |mir |ich |gibt |liegen |habe )*(?:keine|nicht gen[uü]gend|nicht genug|zu wenig|unzureichende)"
    rf"(?: ausreichenden?| weiteren?| genauen?)* (?:informationen|angaben){_END})",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(i'?m|i am) (so )?(sorry|unable|not able)|sorry[,.]|(unfortunately, )?i (cannot|can'?t|won'?t)|my apologies[,.;:!]|i apologi[sz]e"
    r"|apologies[,.]|as an ai\b|as a (large |ai )?language model(,| i\b)|as an? (ai )?assistant,? i\b"
    r"|(es )?tut mir (sehr )?leid|entschuldigung[,.]|als (ki\b(?!-)|(gro(ß|ss)es )?(ki-?)?sprachmodell)"
    r"|leider kann ich\b"
    r"|ich kann (\w+ ){0,4}(nicht|keine[nr]?)( \w+){0,3} (helfen|beantworten|beschreiben|sagen|erstellen|geben|liefern|finden)\b"
    r"|ich bin (leider )?nicht in der lage",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"<(think(?:ing)?)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_END_OF_THOUGHT = re.compile(r".*</think(?:ing)?>", re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r"\s*```\w*[ \t]*\n(.*?)(?:\n?[ \t]*```\s*)?\Z", re.DOTALL)
_MARKS = r"[\s*_`#>\"']*"
_REFERENCE = re.compile(
    rf"{_MARKS}(?:refere(?:nce|nz)(?: id)?{_MARKS}:{_MARKS}\[?([0-9a-f]{{8}})\b\]?|\[([0-9a-f]{{8}})\])[*_`\"']*[\s:.,-]*",
    re.IGNORECASE,
)


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
    if text.strip(" .'\"*[]()").casefold() in _NOTHING or _LEADING_NA.match(text):
        return "na"
    text = text.lstrip(" \"'*_").replace("’", "'")
    if _REFUSAL.match(text):
        return "refused"
    return "na" if _NO_INFORMATION.match(text) else "ok"


def without_thoughts(raw: str) -> str:
    """An answer without what a reasoning model thought before it, nor the fence of a block of code around it; empty if it only thought."""
    if "</think" in raw.lower() or "<think" in raw.lower():
        raw = _THOUGHT.sub("", raw)
        raw = _END_OF_THOUGHT.sub("", raw)  # of a model whose prompt opens the thought
    found = _FENCE.match(raw)
    return found.group(1) if found else raw


def split_reference(raw: str) -> tuple[str, str]:
    """A leading reference in brackets or behind "Reference:", in lower case and without marks around it, or "", and the rest."""
    found = _REFERENCE.match(raw)
    return ((found.group(1) or found.group(2)).lower(), raw[found.end() :]) if found else ("", raw)
