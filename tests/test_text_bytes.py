"""Texts as bytes, against Python's strings."""

import numpy as np
import pyarrow as pa
import pytest

from grasp_jax.data import text_bytes
from grasp_jax.data.text_bytes import are_plain_ascii, ascii_strings, bytes_of_texts, lexical_order


def made(rng: np.random.Generator, alphabet: str, prefix: str, most: int, rows: int) -> list[str]:
    """Texts of one letter to `most` after a prefix; some are alike, and some begin as others do."""
    texts = ["".join(rng.choice(list(alphabet), rng.integers(1, most))) for _ in range(rows)]
    longer = [text + "".join(rng.choice(list(alphabet), 9)) for text in texts[: rows // 3]]
    return [prefix + text for text in (*texts, *longer, *texts[:5])]


@pytest.mark.parametrize("prefix", ["", "A0000000", "https://shop.example/p/"])
@pytest.mark.parametrize(
    ("alphabet", "most"), [("ab", 40), ("ab", 9), ("0123xyZ~!", 14), ("aéß語\U0001f600", 12)]
)
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_sorted_as_python_does(
    alphabet: str, most: int, prefix: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a log would be in another order than in earlier versions, whose banks and models would be refused."""
    monkeypatch.setattr(text_bytes, "BLOCK", block)
    texts = made(np.random.default_rng(most), alphabet, prefix, most, 300)
    array = pa.array(["skipped", *texts], pa.large_string()).slice(1)
    found = bytes_of_texts(array)
    order = lexical_order(found)
    assert sorted(order.tolist()) == list(range(len(texts)))
    assert [texts[row] for row in order] == sorted(texts)
    assert are_plain_ascii(found) == alphabet.isascii()
    if alphabet.isascii():
        strings = ascii_strings(found, order)
        expected = np.asarray(sorted(texts), dtype=str)
        assert strings.dtype == expected.dtype and strings.tolist() == expected.tolist()


@pytest.mark.parametrize("odd", ['"', " ", "\t", "\n", "\x00", "\x1f", "\x7f", "\u00a0", "é"])
def test_only_visible_ascii_is_plain(odd: str) -> None:
    """Blanks around ids would stay, or line breaks and quotation marks pass without a word."""
    for place in range(3):
        texts = ["abc", "de", "f"]
        texts[place] += odd
        assert not are_plain_ascii(bytes_of_texts(pa.array(texts, pa.large_string())))
    assert are_plain_ascii(bytes_of_texts(pa.array(["!", "~", "A0"], pa.large_binary())))
