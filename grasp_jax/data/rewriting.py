"""Command lines that rewrite a file so that it can be read: in UTF-8, or as JSON lines."""

import itertools
import pathlib
import re
import shlex

# to standard output; zcat is not here, which on macOS expects another ending than .gz
UNPACKING = {".gz": "gzip -dc", ".zst": "zstd -dc"}
WINDOW = 1 << 19  # bytes before and after a place that are looked at
# Both read bytes: a mark of the byte order at the begin, as Windows writes it, is no part of the text.
OF_ARRAY = "python -c 'import json,sys; [print(json.dumps(row)) for row in json.loads(sys.stdin.buffer.read())]'"
OF_LITERALS = (
    'python -c \'import ast,json,sys; [print(json.dumps(ast.literal_eval(row.decode("utf-8-sig").strip()))) '
    "for row in sys.stdin.buffer if row.strip()]'"
)
# Some versions of iconv -c end with an error if they drop a byte, and then no file is written.
DROPPING = 'python -c \'import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().decode("utf-8", "ignore").encode())\''
_KANA, _HANGUL = re.compile("[\u3041-\u30fe]"), re.compile("[\uac00-\ud7a3]")
_HAN = re.compile("[\u4e00-\u9fff]")


def into(command: str, new: pathlib.Path | str) -> str:
    """The line that writes what a command prints to a file, if the command succeeds: half of a table would be read as a whole one.

    Args:
      command: for a shell; prints the content.
      new: the file.
    """
    part = shlex.quote(f"{new}.part")
    return f"{command} > {part} && mv {part} {shlex.quote(str(new))}"


def unpacked(path: pathlib.Path, program: str) -> str:
    """The command that sends a file, unpacked, through a program that reads standard input."""
    source = shlex.quote(str(path))
    if path.suffix in UNPACKING:
        return f"{UNPACKING[path.suffix]} {source} | {program}"
    return f"{program} < {source}"


def rewritten(path: pathlib.Path, program: str, ending: str = "") -> str:
    """The line that sends a file, unpacked, through a program into a new file next to it.

    Args:
      path: the file.
      program: reads standard input.
      ending: that of the new file; empty: as the old one.
    """
    packing = path.suffix if path.suffix in UNPACKING else ""
    old = pathlib.Path(path.name.removesuffix(packing))
    new = old.with_suffix(ending or old.suffix)
    if new.name in (old.name, path.name):
        new = old.with_name(f"{old.stem}-new{new.suffix}")
    line = into(unpacked(pathlib.Path(path.name), program), new)
    # the folder stands once, since a message leaves out its middle if it is long
    return line if path.name == str(path) else f"(cd {shlex.quote(str(path.parent))} && {line})"


def as_utf8(path: pathlib.Path, content: bytes | memoryview, place: int = 0) -> str:
    """How to make a file UTF-8 that is not.

    Args:
      path: the file.
      content: its bytes.
      place: where in them the first other byte is.
    """
    near = bytes(content[max(0, place - WINDOW) : place + WINDOW])
    replaced = near.decode("utf-8", "replace")
    others = sum(character > "\x7f" for character in replaced)
    if others > 2 * replaced.count("\ufffd"):
        line = rewritten(path, DROPPING)
        return f"the rest is UTF-8, so correct these bytes, or drop them: {line}"
    found = likely_encoding(near)
    line = rewritten(path, f"iconv -f {found} -t UTF-8")
    return f"save the file as UTF-8: {line} ({found} is guessed from the bytes: look at the result)"


def likely_encoding(content: bytes) -> str:
    """The name that `iconv` has for the encoding of a text which is not UTF-8; Windows-1252 if nothing speaks for another one."""
    if _share(content, "cp932", _KANA) > 0.2:
        return "CP932"
    if _share(content, "euc_jp", _KANA) > 0.2:
        return "EUC-JP"
    runs = [
        len(list(run))
        for is_high, run in itertools.groupby(content, lambda byte: byte > 127)
        if is_high
    ]
    if runs and sum(runs) >= 2 * len(runs):  # letters with accents stand alone
        if sum(byte >= 0xE0 for byte in content) > 0.7 * sum(runs):
            return "CP1251"
        if _share(content, "cp949", _HANGUL) > 0.9:
            return "CP949"
        if _share(content, "gb18030", _HAN) > 0.9:
            return "GB18030"
    return "ISO-8859-1" if "\ufffd" in content.decode("cp1252", "replace") else "CP1252"


def _share(content: bytes, encoding: str, script: re.Pattern[str]) -> float:
    """The share of the characters beyond ASCII that are of a script, if a text is in this encoding."""
    text = content.decode(encoding, "replace")
    others = sum(character > "\x7f" for character in text)
    return len(script.findall(text)) / others if others else 0.0
