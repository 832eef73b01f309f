"""The cache of answers: no answer is ever lost or requested a second time."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grasp_jax.core import files
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.endpoint import cache as answers
from grasp_jax.knowledge.endpoint.cache import AnswerCache, StoredAnswer, answer_key, as_keys

KEYS = [answer_key(f"prompt {k}", "model", {"temperature": 0.0}) for k in range(20)]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SHARD_ANSWERS", 4)
    monkeypatch.setattr(answers, "SHARDS_IN_MEMORY", 2)


def test_answers_come_back_in_any_order(tmp_path: pathlib.Path, small_shards: None) -> None:
    """A row would get another's answer once answers lie in several shards, or a file be rewritten."""
    with AnswerCache(tmp_path) as cache:
        for k in range(10):
            cache.add(KEYS[k], StoredAnswer(f"text {k}\nwith é", "ok", k, 2 * k))
        assert len(cache) == 10 and len(list(tmp_path.glob("*.parquet"))) == 2
        assert [answer.text for answer in cache.read(as_keys([KEYS[9], KEYS[0]]))] == [
            "text 9\nwith é",
            "text 0\nwith é",
        ]
        assert cache.missing(as_keys(KEYS)).tolist() == [False] * 10 + [True] * 10
    with AnswerCache(tmp_path) as cache:
        order = np.random.default_rng(0).permutation(10)
        found = list(cache.read(as_keys([KEYS[k] for k in order])))
        assert found == [StoredAnswer(f"text {k}\nwith é", "ok", k, 2 * k) for k in order]
        with pytest.raises(KeyError):
            list(cache.read(as_keys([KEYS[12]])))


def test_a_torn_line_is_no_answer(tmp_path: pathlib.Path) -> None:
    """A run killed while it wrote would give half an answer, or could not be taken up again."""
    whole = json.dumps([KEYS[0].hex(), "text", "ok", 1, 2])
    (tmp_path / "journal.jsonl").write_text(
        whole + "\n" + whole.replace(KEYS[0].hex(), KEYS[1].hex())[:60]
    )
    with AnswerCache(tmp_path) as cache:
        assert cache.missing(as_keys(KEYS[:2])).tolist() == [False, True]
        assert list(cache.read(as_keys(KEYS[:1]))) == [StoredAnswer("text", "ok", 1, 2)]
        cache.add(KEYS[1], StoredAnswer("second"))
    with AnswerCache(tmp_path) as cache:
        assert [answer.text for answer in cache.read(as_keys(KEYS[:2]))] == ["text", "second"]


def test_a_damaged_line_is_no_other_answer(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A byte that flipped on the disk would give an item a text that nobody wrote, or end in a traceback."""
    cache = AnswerCache(tmp_path)
    for k in range(7):
        cache.add(KEYS[k], StoredAnswer(f"text {k} é", "ok", 1, 2))
    journal = (tmp_path / "journal.jsonl").read_bytes()
    os.close(cache._journal)
    cache._lock_file.close()
    lines = journal.split(b"\n")
    lines[0] = lines[0].replace(b"text", b"tent")  # still UTF-8, still JSON
    lines[1] = lines[1].replace(b"\xc3", b"\xff")
    lines[2] = lines[2].replace(KEYS[2].hex().encode(), KEYS[12].hex().encode())
    lines[3] = b"[" * 100_000 + b"]" * 100_000
    lines[4] = b"\x00" * 50
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join(lines))
    with AnswerCache(tmp_path) as cache:
        assert cache.missing(as_keys(KEYS[:13])).tolist() == [True] * 5 + [False] * 2 + [True] * 6
        assert list(cache.read(as_keys(KEYS[5:7]))) == [
            StoredAnswer("text 5 é", "ok", 1, 2),
            StoredAnswer("text 6 é", "ok", 1, 2),
        ]
    assert (
        "journal.jsonl: line 1 is no whole answer (5 such lines); the request of"
        in capsys.readouterr().out
    )


def test_a_damaged_shard_is_no_other_answer(tmp_path: pathlib.Path) -> None:
    """A byte that flipped on the disk, anywhere in a shard, would give an item another text."""
    kept = [StoredAnswer(f"text {k} of something", "ok", k, k) for k in range(20)]
    with AnswerCache(tmp_path / "whole") as cache:
        for key, answer in zip(KEYS, kept, strict=True):
            cache.add(key, answer)
    (shard,) = (tmp_path / "whole").glob("*.parquet")
    whole, folder, refused = shard.read_bytes(), tmp_path / "damaged", 0
    folder.mkdir()
    for place in range(0, len(whole), 41):
        (folder / shard.name).write_bytes(
            whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        )
        try:
            with AnswerCache(folder) as cache:
                known = [k for k, missing in enumerate(cache.missing(as_keys(KEYS))) if not missing]
                assert list(cache.read(as_keys([KEYS[k] for k in known]))) == [
                    kept[k] for k in known
                ]
        except UserError as error:
            assert (
                "not a readable shard of answers" in str(error)
                and "move it away" in str(error)
                and "\n" not in str(error)
            )
            refused += 1
    assert refused > 10


def test_shards_of_earlier_versions_are_read(tmp_path: pathlib.Path) -> None:
    """Answers that were paid for would be lost with an update; or a file of other columns be taken for answers."""
    columns = {
        "key": [KEYS[0]],
        "text": ["a"],
        "status": ["ok"],
        "prompt_tokens": [1],
        "answer_tokens": [2],
    }
    arrays = [
        pa.array(column, kind)
        for column, kind in zip(columns.values(), answers.SCHEMA.types, strict=False)
    ]
    pq.write_table(
        pa.table(dict(zip(columns, arrays, strict=True))), tmp_path / "answers-000000.parquet"
    )
    with AnswerCache(tmp_path) as cache:
        assert list(cache.read(as_keys(KEYS[:1]))) == [StoredAnswer("a", "ok", 1, 2)]
    pq.write_table(
        pa.table({"key": arrays[0], "words": arrays[1]}), tmp_path / "answers-000000.parquet"
    )
    with AnswerCache(tmp_path) as cache, pytest.raises(UserError, match="columns key, words"):
        list(cache.read(as_keys(KEYS[:1])))
    pq.write_table(pa.table({"key": ["short"]}), tmp_path / "answers-000000.parquet")
    with pytest.raises(UserError, match="1 keys of type string"):
        AnswerCache(tmp_path)


def test_killed_between_shard_and_journal(tmp_path: pathlib.Path, small_shards: None) -> None:
    """Answers would stand in two shards."""
    with AnswerCache(tmp_path) as cache:
        for k in range(3):
            cache.add(KEYS[k], StoredAnswer(f"text {k}"))
        journal = (tmp_path / "journal.jsonl").read_bytes()
    (tmp_path / "journal.jsonl").write_bytes(journal)
    with AnswerCache(tmp_path) as cache:
        assert len(cache) == 3 and len(list(tmp_path.glob("*.parquet"))) == 1


def test_killed_after_a_newer_answer(tmp_path: pathlib.Path) -> None:
    """An answer that was requested again, because the first was wrong, would be lost and paid for a third time."""
    with AnswerCache(tmp_path) as cache:
        cache.add(KEYS[0], StoredAnswer("wrong"))
    cache = AnswerCache(tmp_path)
    cache.add(KEYS[0], StoredAnswer("right"))
    journal = (tmp_path / "journal.jsonl").read_bytes()
    cache.close()
    max(tmp_path.glob("*.parquet")).unlink()
    (tmp_path / "journal.jsonl").write_bytes(journal)
    with AnswerCache(tmp_path) as cache:
        assert next(cache.read(as_keys([KEYS[0]]))) == StoredAnswer("right")


def test_a_shard_moved_away_lets_no_other_be_overwritten(
    tmp_path: pathlib.Path, small_shards: None
) -> None:
    """The error message says to move a damaged shard away; the next answers would then replace the last shard."""
    with AnswerCache(tmp_path) as cache:
        for k in range(8):
            cache.add(KEYS[k], StoredAnswer(f"text {k}"))
    min(tmp_path.glob("*.parquet")).unlink()
    with AnswerCache(tmp_path) as cache:
        for k in range(8, 12):
            cache.add(KEYS[k], StoredAnswer(f"text {k}"))
    with AnswerCache(tmp_path) as cache:
        assert cache.missing(as_keys(KEYS[:12])).tolist() == [True] * 4 + [False] * 8


def test_kill_9_loses_nothing(tmp_path: pathlib.Path) -> None:
    """A prompt whose answer was reported as stored would be sent again."""
    script = textwrap.dedent(f"""
        import pathlib, sys
        from grasp_jax.knowledge.endpoint.cache import AnswerCache, StoredAnswer, answer_key
        cache = AnswerCache(pathlib.Path({str(tmp_path)!r}))
        for k in range(10**6):
            cache.add(answer_key(str(k), "m", {{}}), StoredAnswer("x" * 50))
            print(k, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(300):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    with AnswerCache(tmp_path) as cache:
        assert not cache.missing(
            as_keys([answer_key(str(k), "m", {}) for k in range(last + 1)])
        ).any()


def test_one_process_at_a_time(tmp_path: pathlib.Path) -> None:
    """Two runs would pay for the same answers, and tear each other's journal."""
    with (
        AnswerCache(tmp_path),
        pytest.raises(UserError, match=r"another process has these answers open"),
    ):
        AnswerCache(tmp_path)


def test_a_full_disk_is_one_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers kept before the disk was full would be lost, or the error be a traceback."""
    with AnswerCache(tmp_path) as cache:
        cache.add(KEYS[0], StoredAnswer("text"))
    cache = AnswerCache(tmp_path)
    write = os.write
    monkeypatch.setattr(answers.os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(
        UserError, match=r"journal\.jsonl: No space left on device; .* make room and run again"
    ):
        cache.add(KEYS[1], StoredAnswer("more"))
    monkeypatch.undo()
    cache.add(KEYS[2], StoredAnswer("after room was made"))
    journal = (tmp_path / "journal.jsonl").read_bytes()
    assert journal.startswith(b'["') and journal.count(b"\n") == 1, "half a line is left"
    cache.close()
    with AnswerCache(tmp_path) as cache:
        assert cache.missing(as_keys(KEYS[:3])).tolist() == [False, True, False]


def test_the_journal_is_emptied_when_its_shard_is_on_the_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power would take up to 16,384 paid answers: neither the journal nor the shard would have them."""
    done: list[str] = []
    calls = {"replace": os.replace, "truncate": os.truncate}
    for name, call in calls.items():
        noted = functools.partial(
            lambda name, call, *paths: (done.append(name), call(*paths)), name, call
        )
        monkeypatch.setattr(answers.os, name, noted)
    monkeypatch.setattr(answers, "sync", lambda path: done.append(path.suffix or "folder"))
    with AnswerCache(tmp_path) as cache:
        cache.add(KEYS[0], StoredAnswer("text"))
    assert done[-4:] == [".partial", "replace", "folder", "truncate"]
    files.sync(tmp_path)
    files.sync(next(tmp_path.glob("*.parquet")))


def test_the_key_holds_all_that_decides_an_answer() -> None:
    """A changed model or temperature would be given the old answers."""
    keys = {answer_key(p, m, {"temperature": t}) for p in "ab" for m in "cd" for t in (0.0, 1.0)}
    assert len(keys) == 8
