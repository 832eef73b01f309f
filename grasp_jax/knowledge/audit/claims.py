"""What a text claims and what it keeps, by rules that need no language model.

A claim is a number, or a word with a capital that does not begin a sentence: a stand-in for named entities, word by word. It has a source
if the prompt holds the same word or number in whatever case. So an invented brand or size is seen, an invented property in small letters
("vegan") or a relation that is wrong is not, nor anything in a script without capitals but its numbers; and a name that the model rightly
spells out ("SPF" as "Sun Protection Factor") counts against it.
"""

import re
import unicodedata
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<begins>(?:^|[.!?:;•*\n]|(?<=\d)\)|\s[-–]\s)[\s\"'“‘(\[*•–-]*)?"  # of a sentence, a clause after a colon, or an entry of a list
    r"(?P<token>\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*)"
)
_LIST_NUMBER = re.compile(r"[.)](\s|$)")
_COMMON = frozenset({"and", "for", "the", "with"})
_SHORT = 3  # shortest word, in letters, that is searched in the attributes


class Claims(NamedTuple):
    """Counts of one text: different claims, and those of them without a source."""

    made: int
    unsupported: int


def count_claims(text: str, source: str) -> Claims:
    """Claims of `text`, each counted once, against the words and numbers of `source`."""
    made = claims(text)
    return Claims(len(made), len(made - set(words(source))))


def claims(text: str) -> set[str]:
    """Numbers and capitalised words, in the form of `words`; numbers of a numbered list and single letters are left out."""
    found = set()
    for match in _TOKEN.finditer(text):
        token, begins = match["token"], match["begins"] is not None
        if token[0].isdigit():
            claimed = not (begins and _LIST_NUMBER.match(text, match.end()))
        else:
            claimed = token[0].isupper() and not begins and len(token) > 1
        if claimed:
            found.add(_plain(token))
    return found


def words(text: str) -> list[str]:
    """Words and numbers in order, without case, accents, possessive and plural endings; "1,000" is 1000, and "50ml" two of them."""
    return [_plain(match["token"]) for match in _TOKEN.finditer(text)]


def kept_share(attributes: str, text: str) -> float | None:
    """Share of the distinct words and numbers of `attributes` that `text` has; None if `attributes` has none.

    Words of fewer than three letters and the commonest English ones do not count.
    """
    wanted = {
        word
        for word in words(attributes)
        if word[0].isdigit() or (len(word) >= _SHORT and word not in _COMMON)
    }
    return len(wanted & set(words(text))) / len(wanted) if wanted else None


def _plain(token: str) -> str:
    if token[0].isdigit():
        return token.replace(",", "")
    decomposed = unicodedata.normalize("NFKD", token.replace("’", "'").casefold())
    word = "".join(
        letter for letter in decomposed if not unicodedata.combining(letter)
    ).removesuffix("'s")
    return (
        word[:-1] if len(word) > _SHORT and word.endswith("s") and not word.endswith("ss") else word
    )
