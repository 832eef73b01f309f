"""Ids as text: blanks around them, and characters that none of them has. Nothing here needs pyarrow, which not every program has."""

import numpy as np

_SPACES = (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
BLANKS = "".join(map(chr, _SPACES))  # within a line
_CONTROL_BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
NOT_IN_IDS = "[\\x00-\\x1f\\x7f]"  # a pattern for Arrow and for `re`: line breaks and other control characters


def trimmed(text: str) -> str:
    """An id without the blanks around it. Other characters that Python takes for blanks, such as U+2028, may be part of an id."""
    # no id of the data has control characters, so those around an id that somebody sends mean nothing
    return text.strip(BLANKS + _CONTROL_BLANKS)


def rows_by_text(ids: np.ndarray) -> dict[str, int]:
    """Row of each id ([n] int64 or str) by its text without blanks around it, which ids of files from earlier versions may have. If two
    ids differ only in these blanks, the row is that of the id without blanks.
    """
    texts = list(map(str, ids.tolist()))
    rows = {trimmed(text): row for row, text in enumerate(texts)}
    if len(rows) < len(texts):
        rows |= {text: row for row, text in enumerate(texts) if trimmed(text) == text}
    return rows
