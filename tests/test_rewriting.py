"""The command lines that messages name do rewrite the file, so that it can be read."""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.rewriting import as_utf8, likely_encoding, rewritten
from tests.logs import read_interactions, read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "", "rating": ""}
ROWS = [
    {"user": "ann", "item": "süß", "text": 'it\'s "ok"'},
    {"user": "bob", "item": "i2", "text": ""},
]


def run(line: str, folder: pathlib.Path) -> None:
    """Runs a command line with this Python."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONUTF8": "1"}
    subprocess.run(["bash", "-c", line], check=True, cwd=folder, env=environment)


NOT_JSON_LINES = {
    "an array in one line": ("log.json", json.dumps(ROWS), 'row 1 is b\'[{"user"', "JSON array"),
    "an array in many lines": (
        "log.jsonl",
        json.dumps(ROWS, indent=1),
        "row 1 is b'['",
        "JSON array",
    ),
    "dictionaries": (
        "log.json",
        "\n".join(map(repr, ROWS)),
        "row 1 is b'{\\'user\\': ",
        "a dictionary of Python",
    ),
    "dictionaries of Python 2": (
        "my log.json.gz",
        "{u'user': u'ann', u'item': u's\\xfc\\xdf', 'ok': True}\n{'user': 'bob', 'item': 'i2', 'path': '\\d'}\n",
        "row 1 is b\"{u'user': u'ann'",
        "a dictionary of Python",
    ),
}
BOM = "\ufeff"
NOT_JSON_LINES |= {
    "an array with a mark of the byte order": (
        "log.json",
        BOM + json.dumps(ROWS),
        "row 1 is b'[{",
        "JSON array",
    ),
    "dictionaries with blank lines between": (
        "log.json",
        BOM + "\n\n".join(map(repr, ROWS)) + "\n\n",
        "row 1 is b'{",
        "a dictionary of Python",
    ),
}


@pytest.mark.parametrize("case", NOT_JSON_LINES)
def test_json_that_is_no_json_lines(tmp_path: pathlib.Path, case: str) -> None:
    """Would break with "expected one JSON object a line" for Steam's reviews, and no way to get there."""
    name, text, *parts = NOT_JSON_LINES[case]
    path, content = tmp_path / name, text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    message = refusal(read_interactions, path, "log", COLUMNS)
    assert_names(message, (f"{path}: not a readable", *parts, "expected one JSON object a line"))
    run(message.split("write it so: ")[1], tmp_path)
    (new,) = set(tmp_path.iterdir()) - {path}
    assert new.suffix == ".jsonl"
    assert read_log(new, "log", COLUMNS).item_ids.tolist() == ["i2", "süß"]


def test_the_command_is_whole_in_a_folder_with_a_long_name(tmp_path: pathlib.Path) -> None:
    """Would break with a command that lacks its middle, as that of a long message does."""
    path = tmp_path / ("long " * 18) / "log.json"
    path.parent.mkdir()
    path.write_text("\n".join(map(repr, ROWS)))
    run(refusal(read_interactions, path, "log", COLUMNS).split("write it so: ")[1], tmp_path)
    assert read_log(path.with_suffix(".jsonl"), "log", COLUMNS).num_interactions == 2


def test_a_command_that_fails_leaves_no_table(tmp_path: pathlib.Path) -> None:
    """Would break with the rows before the fault, which are then read as if they were all."""
    path = tmp_path / "log.json"
    path.write_text("\n".join([*map(repr, ROWS), "{'user': "]))
    message = refusal(read_interactions, path, "log", COLUMNS)
    with pytest.raises(subprocess.CalledProcessError):
        run(message.split("write it so: ")[1], tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def test_lines_that_hold_lists_are_no_array(tmp_path: pathlib.Path) -> None:
    """Would break with the advice for an array where each line is a list of values."""
    path = tmp_path / "log.jsonl"
    path.write_text('["ann", "i1"]\n["bob", "i2"]\n')
    message = refusal(read_log, path, "log", COLUMNS)
    assert_names(message, ('row 1 is b\'["ann"', "one JSON object a line"))
    assert "array" not in message


TEXTS = {
    "CP1252": "Müller, crème brûlée “déjà vu” – naïve café",
    "CP932": "ユーザーID,商品名,購入日時のデータ",
    "EUC-JP": "ユーザーID,商品名,購入日時のデータ",
    "CP949": "사용자,상품,시간,데이터를 읽습니다",
    "GB18030": "用户,商品,时间,数据文件的第一行是列名",
    "CP1251": "Пользователь,товар,время,хорошая книга о природе",
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("case", ["header", "row", "title", "json"])
def test_files_that_are_not_utf8(tmp_path: pathlib.Path, encoding: str, case: str) -> None:
    """Would break with "save the file as UTF-8" and no command, or with one that makes other letters of these."""
    text = TEXTS[encoding]
    assert likely_encoding(text.encode(encoding)) == encoding
    path = tmp_path / ("items.jsonl" if case == "json" else "items.csv")
    content = f'item,title\n1,"{text}"\n'
    if case == "header":
        content = f'item,title,"{text}"\n1,Soap,x\n'
    elif case == "row":
        content = f'item,title\n1,"{text}"\n2\n'
    elif case == "json":
        content = json.dumps({"item": 1, "title": text}, ensure_ascii=False) + "\n"
    path.write_bytes(content.encode(encoding))
    if case == "row":
        path.write_bytes(path.read_bytes().removesuffix(b"2\n"))
    message = refusal(read_attributes, path, "item", "item", "title")
    assert_names(message, (str(path), "not UTF-8 text", f"{encoding} is guessed"))
    if shutil.which("iconv") is None:
        return
    run(message.split("save the file as UTF-8: ")[1].split(" (")[0], tmp_path)
    (new,) = set(tmp_path.iterdir()) - {path}
    table = read_attributes(new, "item", "item", "title")
    found = [*table.columns] if case == "header" else table.columns["title"]
    assert text in found


def test_damaged_utf8_keeps_its_letters(tmp_path: pathlib.Path) -> None:
    """Would break with the advice to take a UTF-8 file for Windows-1252, which makes MÃ¼ller of every Müller."""
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item\n" + "Müller,ü\n".encode() * 5 + b"M\xfcller,i\n")
    message = refusal(read_log, path, "log", COLUMNS)
    assert_names(message, ("row 6 has b'M\\xfcller'", "the rest is UTF-8", "or drop them: (cd "))
    run(message.split("drop them: ")[1], tmp_path)
    assert read_log(tmp_path / "log-new.csv", "log", COLUMNS).num_interactions == 6
    path = tmp_path / "log.jsonl"
    line = '{"user": "Müller", "item": "ü"}\n'.encode()
    path.write_bytes(line * 5 + line.replace("ü".encode(), b"\xfc"))
    message = refusal(read_log, path, "log", COLUMNS)
    assert_names(message, ("row 6: b'\\xfcller", "the rest is UTF-8", "or drop them: (cd "))


def test_utf16(tmp_path: pathlib.Path) -> None:
    """Would break for files that spreadsheets save as "Unicode text"."""
    path = tmp_path / "log.csv"
    path.write_bytes("user,item\nann,i1\n".encode("utf-16"))
    message = refusal(read_log, path, "log", COLUMNS)
    line = rewritten(path, "iconv -f UTF-16 -t UTF-8")
    assert_names(message, ("the file is UTF-16", line))
    if shutil.which("iconv"):
        run(line, tmp_path)
        assert read_log(tmp_path / "log-new.csv", "log", COLUMNS).num_interactions == 1


def test_the_new_file_is_never_the_old_one() -> None:
    """Would break with an empty file: a shell empties the target before the program reads."""
    for name, line in (
        ("a.json", "p < a.json > a.jsonl.part && mv a.jsonl.part a.jsonl"),
        ("a.jsonl", "p < a.jsonl > a-new.jsonl.part && mv a-new.jsonl.part a-new.jsonl"),
        (
            "a.jsonl.gz",
            "gzip -dc a.jsonl.gz | p > a-new.jsonl.part && mv a-new.jsonl.part a-new.jsonl",
        ),
        (
            "a b.json.zst",
            "zstd -dc 'a b.json.zst' | p > 'a b.jsonl.part' && mv 'a b.jsonl.part' 'a b.jsonl'",
        ),
    ):
        assert rewritten(pathlib.Path(name), "p", ".jsonl") == line
    assert "ISO-8859-1" in as_utf8(pathlib.Path("a.csv"), b"a\x81b")
