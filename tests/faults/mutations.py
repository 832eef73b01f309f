"""Random changes of a file's content."""

import random
from collections.abc import Callable

ODD = (
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xff\xfe",
    b'"',
    b"''",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    b",",
    b";",
    b" ",
    b"\xc2\xa0",
    b"nan",
    b"inf",
    b"-inf",
    b"NA",
    b"null",
    b"true",
    b"1e400",
    b"-1",
    b"0",
    b"007",
    b"1.0",
    b"0x10",
    b"9" * 19,
    b"9" * 40,
    b"9" * 400,
    b"a" * 70_000,
    b"[" * 10_000,
    b'{"a":' * 10_000,
    b"{}",
    b"[]",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    "é日本".encode(),
    "\u2028".encode(),
    b"=1+1",
    b"\x1a",
    b"#",
    b"\x1b[31m",
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to three changes, the first of any kind."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        content = chance.choice(_MUTATIONS)(content, chance)
    return content


def _flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(max(1, len(content)))
    return (
        content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        if content
        else b"\0"
    )


def _cut(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + content[at + chance.choice((1, 2, 5, 30)) :]


def _twice(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[: at + chance.choice((1, 7, 60))] + content[at:]


def _odd(content: bytes, chance: random.Random) -> bytes:
    at = chance.choice((0, len(content), chance.randrange(len(content) + 1)))
    return content[:at] + chance.choice(ODD) + content[at:]


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _field(content: bytes, chance: random.Random) -> bytes:
    """An odd value in place of a whole field."""
    separator = max((b"\t", b",", b" "), key=content.count)
    lines = content.split(b"\n")
    row = chance.randrange(len(lines))
    fields = lines[row].split(separator)
    fields[chance.randrange(len(fields))] = chance.choice(ODD)
    lines[row] = separator.join(fields)
    return b"\n".join(lines)


def _swapped(content: bytes, chance: random.Random) -> bytes:
    """Two columns change places, everywhere or but in the header."""
    separator = max((b"\t", b",", b" "), key=content.count)
    rows = [line.split(separator) for line in content.split(b"\n")]
    first, second = chance.randrange(4), chance.randrange(4)
    for row in rows[chance.choice((0, 1)) :]:
        if max(first, second) < len(row):
            row[first], row[second] = row[second], row[first]
    return b"\n".join(separator.join(row) for row in rows)


def _lines(content: bytes, chance: random.Random) -> bytes:
    """A line is dropped, doubled or put elsewhere."""
    lines = content.split(b"\n")
    line = lines.pop(chance.randrange(len(lines)))
    for _ in range(chance.choice((0, 1, 2))):
        lines.insert(chance.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _twice,
    _odd,
    _odd,
    _truncated,
    _field,
    _field,
    _swapped,
    _lines,
)
