"""Texts encoded by several processes: the same bank, errors of one line, and no process that outlives its caller."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.knowledge import prepare, shards
from grasp_jax.knowledge.encoders import ENCODERS, encoder_class, make_encoder, processes
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.processes import encoding
from tests.banks import items_table, knowledge_config, shop
from tests.refusal import assert_names, refusal

TEXTS = ["red soap", "blue soap", "red cream", "blue cream", "red oil"]
PAIR = "\ud835\udc00\ud835\udc01"  # the halves of two mathematical letters, each half a character of its own
ODD = ["", "red\nsoap", "ünknown \ud800 soap", '"red" \\ soap', f"soap {PAIR}"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, and shards so small that both have work."""
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.setattr(processes, "LEAST_BLOCKS", 1)
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)


def fitted(folder: pathlib.Path, name: str = "lsa", texts: Sequence[str] = TEXTS) -> Any:
    encoder = ENCODERS[name].from_config(knowledge_config()).fit(texts)
    encoder.save(folder)
    return encoder


@pytest.mark.parametrize("name", ["lsa", "tfidf_projection"])
def test_two_processes_make_the_bank_of_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, two: None, name: str
) -> None:
    """A bank would depend on the number of cores, so that another machine would refuse or remake it."""
    config = knowledge_config().with_fields({"encoder": name})
    with monkeypatch.context() as patch:
        patch.setattr(processes, "cores", lambda: 1)
        one = prepare.prepare_bank(config, shop(), SourceTexts(items_table()), tmp_path / "one")
    monkeypatch.setattr(encoder_class(name), "encode", lambda *_: pytest.fail("encoded here"))
    both = prepare.prepare_bank(config, shop(), SourceTexts(items_table()), tmp_path / "both")
    assert one.manifest["checksums"] == both.manifest["checksums"]


def test_any_text_arrives_as_it_is(tmp_path: pathlib.Path, two: None) -> None:
    """A line break, or half of a surrogate pair, would end the line of texts that a process reads; two halves would become a letter."""
    letters = PAIR.encode("utf-16", "surrogatepass").decode("utf-16")
    encoder = fitted(tmp_path, texts=[*TEXTS, f"blue {letters}", f"oil {letters}"])
    with encoding("lsa", encoder, tmp_path, 2) as how:
        assert how.at_once == 2
        np.testing.assert_array_equal(how.encode(ODD), encoder.encode(ODD))
        assert how.encode([]).shape == encoder.encode([]).shape


def test_what_other_code_prints_is_no_vector(
    tmp_path: pathlib.Path, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that the site's start-up module prints would be read as the shape of billions of vectors, and end the run in a traceback."""
    encoder = fitted(tmp_path / "encoder")
    start = (
        "import os, sys; os.write(1, b'a line\\nwelcome'); print('to all who start this Python')"
    )
    (tmp_path / "sitecustomize.py").write_text(start)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    with encoding("lsa", encoder, tmp_path / "encoder", 2) as how:
        for _ in range(2):
            np.testing.assert_array_equal(how.encode(TEXTS), encoder.encode(TEXTS))


def test_other_encoders_stay_in_one_process(tmp_path: pathlib.Path, two: None) -> None:
    """Two processes would share a GPU, or send requests twice as fast as the server allows; the process would not know a user's class."""

    class Own(LsaEncoder):
        pass

    of_server = knowledge_config().with_fields({"encoder": "openai"})
    for name, encoder in (("own", Own().fit(TEXTS)), ("openai", make_encoder(of_server))):
        with encoding(name, encoder, tmp_path, 1000) as how:
            assert how.at_once == 1 and how.encode == encoder.encode


def test_a_process_that_cannot_start_or_is_killed(tmp_path: pathlib.Path, two: None) -> None:
    """The run would wait for ever, or end in a traceback."""
    encoder = fitted(tmp_path / "encoder")
    with encoding("lsa", encoder, tmp_path / "none", 2) as how:
        message = refusal(how.encode, TEXTS)
    assert_names(message, ("encode:", "status 1", str(tmp_path / "none"), "run the command again"))
    with encoding("lsa", encoder, tmp_path / "encoder", 2) as how:
        how.encode(TEXTS)
        for pid in children():
            subprocess.run(["kill", "-9", pid], check=True)
        assert_names(refusal(how.encode, TEXTS), ("status -9", "enough memory?"))


def children(of: str = "self") -> list[str]:
    tasks = pathlib.Path(f"/proc/{of}/task")
    if not tasks.is_dir():
        pytest.skip("this system has no /proc")
    command, found = b"encoders.processes", list[str]()
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += (task / "children").read_text().split()
    return [pid for pid in found if command in command_line_of(pid)]


def command_line_of(pid: str) -> bytes:
    """Empty of a process that has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


CALLER = """
import pathlib, sys, time
from grasp_jax.knowledge.encoders import processes
processes.cores, folder = lambda: 2, pathlib.Path(sys.argv[1])
encoder = processes.LsaEncoder.load(folder)
with processes.encoding("lsa", encoder, folder, 100) as how:
    how.encode(["red soap"])
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_caller(tmp_path: pathlib.Path, how: signal.Signals) -> None:
    """Each killed run would leave programs that hold memory until somebody finds them."""
    fitted(tmp_path)
    command = [sys.executable, "-c", CALLER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
        assert caller.stdout is not None and caller.stdout.readline() == b"ready\n"
        started = children(str(caller.pid))
        assert len(started) == 2
        caller.send_signal(how)
    for _ in range(1200):
        if not any(running(pid) for pid in started):
            return
        time.sleep(0.05)
    pytest.fail(f"processes {started} still run a minute after their caller was killed")


def running(pid: str) -> bool:
    """Whether the process computes; one that ended, and that nobody waited for yet, does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_first_error_ends_the_encoding(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """An error after a minute would be said only after the hours that all other shards take."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 1)
    asked: list[int] = []

    def vectors_of(rows: Sequence[int]) -> np.ndarray:
        asked.append(rows[0])
        if rows[0] == 3:
            raise UserError("no more")
        # Who has not heard of the error by the 20th call is on a busy machine, and needs time.
        time.sleep(3.0 if 20 < len(asked) < 100 else 0.01)
        return np.ones((1, 4))

    rows, nothing = np.arange(300), lambda _: None
    message = refusal(shards.fill_shards, tmp_path, "items", rows, vectors_of, nothing, at_once)
    assert message == "no more" and 3 in asked and len(asked) < 100
