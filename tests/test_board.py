"""The live table of a run's trials, which appears only on a terminal, and the lines about the data."""

import dataclasses
import io
import os
import pathlib
import pty
import re
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from grasp_jax.config import DataConfig
from grasp_jax.core import board as boards
from grasp_jax.core import timing
from grasp_jax.core.board import Board, EpochState, TimeLeft, board, clock, current
from grasp_jax.data.groups import PAPER, head_tail_groups
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.evaluation.results import table
from grasp_jax.trials.opening import (
    Opening,
    empty_group_lines,
    fact_lines,
    name_lines,
    new_item_lines,
    repeat_lines,
    truncation_lines,
    untrained_user_lines,
)
from tests.refusal import assert_names
from tests.test_progress import state

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
import logging, sys
from grasp_jax.core.board import EpochState, board, show_state
from grasp_jax.core.log import logger, print_messages
from grasp_jax.core.progress import EpochProgress, progress_bar
print_messages()
with board(["plain-sasrec", "grasp-sasrec"]):
    print("trial 1 of 2")
    shown = EpochProgress("plain-sasrec", 4, 0)
    for epoch in (1, 2):
        shown.epoch_done(epoch, EpochState(1.5 / epoch, 0.25, 0.3, 12345.0, 1), 61.0)
    shown.end("stopped after epoch 2: because")
    with progress_bar(10, "full ranking", "user", trial="plain-sasrec") as bar:
        bar.update(4)
    show_state("plain-sasrec", "done")
print("after")
"""


def on_a_terminal(program: str, **environment: str) -> str:
    """What a program writes to a terminal of 120 columns."""
    reader, writer = pty.openpty()
    own = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40", "PYTHONPATH": str(ROOT)} | environment
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=writer, stderr=writer, env=os.environ | own
    )
    os.close(writer)
    written = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(reader)
    assert process.wait() == 0, written.decode()
    return written.decode()


def test_a_terminal_shows_one_table_of_all_trials() -> None:
    """A run in a terminal would show a bar for each trial and no comparison, or lose lines that are printed meanwhile."""
    said = on_a_terminal(PROGRAM)
    last = said[said.rindex("trial  ") :]
    for part in (
        "plain-sasrec",
        "grasp-sasrec",
        "2 of 4",
        "0.7500",
        "25.00 %",
        "30.00 %",
        "12,345",
    ):
        assert part in last, part
    assert "done" in last and "waiting" in last and "full ranking 40 %" in said
    assert "trial 1 of 2" in said and "plain-sasrec: stopped after epoch 2: because" in said
    assert last.rstrip().endswith("after") and said.count("trial 1 of 2") == 1
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "a hidden cursor would stay hidden"


@pytest.mark.parametrize("how", ["piped", "dumb"])
def test_elsewhere_there_are_lines(how: str) -> None:
    """A log would be full of control characters."""
    if how == "dumb":
        said = on_a_terminal(PROGRAM, TERM="dumb")
        assert "waiting" not in said
        return
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=True
    )
    rest = (
        "12,345 tokens/s, best validation NDCG@10 30.00 %, 1 model in training, at most 0:00 left"
    )
    said = re.sub(r"at most [0-9:]+ left", "at most 0:00 left", done.stdout)
    assert said.splitlines() == [
        "trial 1 of 2",
        f"plain-sasrec: epoch 1 of at most 4: loss 1.5000, {rest}",
        f"plain-sasrec: epoch 2 of at most 4: loss 0.7500, {rest}",
        "plain-sasrec: stopped after epoch 2: because",
        "after",
    ]


def test_rows_are_of_their_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch would stand in another trial's row, or one that the table lacks end the run."""
    out = io.StringIO()
    shown = Board(["a-b", "c-d"], Console(file=out, force_terminal=True, width=120))
    monkeypatch.setattr(boards, "_boards", [shown])
    shown.update("c-d", "3 of 9", state(3), 75)
    boards.show_state("a-b", "failed")
    boards.show_state("x-y", "failed")
    assert current("x-y") is None and current("a-b") is shown
    shown.close()
    last = out.getvalue()[out.getvalue().rindex("trial") :]
    first, second = (
        next(line for line in last.splitlines() if name in line) for name in ("a-b", "c-d")
    )
    assert "failed" in first and "3 of 9" in second and "at most 1:15" in second
    with board(["a-b"]):
        assert current("a-b") is shown, "no terminal, no new table"


def test_time_left_is_of_whole_epochs() -> None:
    """After a resume the epochs of yesterday would count as done in no time, or the rest of an epoch as a whole one."""
    time_left = TimeLeft()
    assert time_left.left(11, 20, seconds=9.0) is None, (
        "a short first epoch says nothing of the others"
    )
    assert time_left.left(12, 20, seconds=2.0) == pytest.approx(16.0)
    assert time_left.left(13, 20, seconds=4.0) == pytest.approx(21.0)
    assert TimeLeft().left(1, 3, seconds=600.0) == pytest.approx(1200.0)
    assert TimeLeft().left(1, 1, seconds=1.0) == 0.0
    resumed = TimeLeft(partial=True)
    assert resumed.left(1, 3, seconds=61.0) is None, "most of the epoch was done before"
    assert resumed.left(2, 3, seconds=610.0) == pytest.approx(610.0)
    assert clock(42.4) == "0:42" and clock(725) == "12:05" and clock(11400) == "3:10:00"
    assert (
        str(EpochState(1.0, None, None, 10.0, 1)) == "loss 1.0000, 10 tokens/s, 1 model in training"
    )
    # in the first epoch of several processes each waits for the compilation of the others
    assert str(EpochState(1.0, None, None, None, 1)) == "loss 1.0000, 1 model in training"


def test_tracing_counts_as_compilation_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch would seem slower than it is, by the tracing of its step, or tracing within tracing count twice."""
    clock, before = [100.0], timing.compile_seconds()
    monkeypatch.setattr(timing, "_now", lambda: clock[0])
    monkeypatch.setattr(timing, "_of_thread", threading.local())
    trace, lower, compiled = timing._COMPILE_EVENTS
    for now, event, seconds in (
        (101.0, trace, 0.5),
        (102.0, trace, 0.5),
        (103.0, trace, 2.9),  # with both within it
        (104.0, lower, 1.0),
        (109.0, compiled, 4.0),
        (110.0, "/jax/other", 1.0),
    ):
        clock[0] = now
        timing._listen(event, seconds)
    assert timing.compile_seconds() - before == pytest.approx(2.9 + 1.0 + 4.0)
    slow = jax.jit(lambda x: (time.sleep(0.2), x + 1)[1])
    monkeypatch.undo()
    with timing.Stopwatch() as watch:
        slow(1.0)
    assert watch.compile_seconds > 0.2 > watch.seconds


def test_the_start_of_a_run_is_short() -> None:
    """Pages of text would push what matters off the screen; or notes be dropped without a word."""
    prompts = [f"prompt {k}" for k in range(5)]
    short = Opening([f"line {k}" for k in range(6)], ["dataset", "items"], prompts)
    assert len(short.first_lines()) == 13 and short.first_lines() == short.lines()
    long = Opening([f"line {k}" for k in range(15)], ["dataset", "items"], prompts)
    lines = long.first_lines()
    assert len(lines) == 15 and lines[-3:] == ["dataset", "items", "prompt 0"]
    assert lines[11] == "  and 4 more notes: --mode=prepare shows them"
    assert len(long.lines()) == 22 and Opening(["a"], ["b"], []).first_lines() == ["a", "b"]


def test_sizes_and_groups_are_said_in_words() -> None:
    """A newcomer would read names of variables, or one number under another's name."""
    facts = {
        "dataset": "shop",
        "users": 2_000,
        "items": 500,
        "interactions": 18_000,
        "avg_length": 9.0,
        "sparsity": 98.2,
        "tail_user_below": 11,
        "tail_item_below": 4,
        "evaluated_users": 1_990,
        "unseen_in_training": 12,
    }
    assert fact_lines(facts) == [
        "dataset shop: 2,000 users, 500 items, 18,000 interactions (9.0 per user); 1,990 users are tested",
        "groups: tail users have fewer than 11 training interactions, tail items fewer than 4; 12 items do not occur in training",
    ]
    of_paper = fact_lines(facts, PAPER)[1]
    assert_names(of_paper, ("fewer than 11 interactions before the test", "fewer than 4 users;"))
    parts = {"valid_after": "2024-01-31", "valid_users": 7, "valid_targets_cold": 2}
    assert fact_lines(facts | parts)[2:] == [
        "validation from 2024-01-31 on: 7 users, whose next items include 2 that do not occur in training"
    ]


def test_interactions_that_training_leaves_out_are_said() -> None:
    """Of people with long histories, training would leave out most interactions, and nobody would know."""
    lengths = [4, 6, 30]  # two of each user are held back, so training has 2, 4 and 28
    items = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    log = InteractionLog("shop", np.arange(3), np.arange(30), items, np.cumsum([0, *lengths]))
    said = [truncation_lines(leave_one_out(log, most), most) for most in (2, 10, 27)]
    assert [len(lines) for lines in said] == [1, 1, 0]  # of the 28, the last one is only a target
    assert_names(
        said[0][0], ("newest 2 interactions", "; 2 users have more, ", "leaves out 76 % of")
    )
    assert_names(
        said[1][0], ("newest 10 interactions", "; 1 user has more, ", "leaves out 50 % of")
    )


def test_repeated_targets_are_said() -> None:
    """A method that repeats items would win by places that no recommendation shows, and nobody would know why."""
    items, offsets = np.array([0, 1, 2, 0, 3, 3, 4, 5, 1], np.int32), np.array([0, 4, 6, 9])
    log = InteractionLog("shop", np.arange(3), np.arange(6), items, offsets)
    (said,) = repeat_lines(leave_one_out(log, 2))  # also of what the window has cut off
    assert_names(
        said,
        ("1 of 2 tested users had their next item before (50 %)", "config.eval.select=full"),
    )
    # one of twenty: said, but no reason for another protocol
    new = np.tile(np.arange(3, dtype=np.int32), 20)
    new[2] = 0
    few = InteractionLog("shop", np.arange(20), np.arange(3), new, np.arange(0, 61, 3))
    (said,) = repeat_lines(leave_one_out(few, 2))
    assert_names(said, ("1 of 20 tested users", "(5 %)"))
    assert "config." not in said
    once = InteractionLog("shop", np.arange(1), np.arange(4), np.arange(4), np.array([0, 4]))
    assert repeat_lines(leave_one_out(once, 2)) == []


def test_what_training_cannot_learn_is_said() -> None:
    """Items without interactions would never be recommended, most users not be trained on and columns be empty without a word."""
    items, offsets = np.array([0, 1, 2, 0, 1, 2, 3, 0, 1], np.int32), np.array([0, 3, 7, 9])
    log = InteractionLog("shop", np.arange(3), np.arange(6), items, offsets)
    split = leave_one_out(log, 5)
    (users,) = untrained_user_lines(split)
    assert_names(users, ("1 of 3 users have fewer than 2 training interactions",))
    (new,) = new_item_lines(split)
    assert_names(
        new,
        ("4 of 6 do not occur in training", "leave the 2 that nobody has", "add_items"),
    )
    only = dataclasses.replace(log, item_ids=np.arange(4))
    assert "add_items" not in new_item_lines(leave_one_out(only, 5))[0]
    long = InteractionLog("shop", np.arange(1), np.arange(2), np.arange(6) % 2, np.array([0, 6]))
    assert untrained_user_lines(leave_one_out(long, 5)) == new_item_lines(leave_one_out(long, 5))

    def empty(**limits: int) -> list[str]:
        return empty_group_lines(split, head_tail_groups(split, **limits), DataConfig(**limits))

    assert empty(tail_user_below=2, tail_item_below=1) == [
        "groups: no test item is a head item, so the columns of head items are empty; config.data.tail_item_below moves the limit, and 0 "
        "chooses it from the data"
    ]
    (users_alone, _) = empty(tail_user_below=9, tail_item_below=1)
    assert_names(users_alone, ("no tested user is a head user", "config.data.tail_user_below"))


def test_data_with_the_name_of_others_are_said(tmp_path: pathlib.Path) -> None:
    """A shop that is read with the config of Amazon Beauty would be called beauty5 in every table."""
    items, offsets = np.arange(3, dtype=np.int32), np.array([0, 3])
    log = InteractionLog("beauty5", np.arange(1), np.arange(3), items, offsets)
    (said,) = name_lines(log, "data/my-shop/orders.csv")
    assert_names(said, ("'beauty5', which has 22,363 users and 12,101 items", "'my-shop'"))
    (tmp_path / "beauty5").mkdir()
    (again,) = name_lines(log, str(tmp_path / "beauty5"))
    assert again.endswith("to 'beauty5-own'"), "the name of the folder would be refused again"
    assert name_lines(dataclasses.replace(log, name="shop"), "data/my-shop") == []
    assert name_lines(log, "") == [], "synthetic data have no folder"


def test_a_table_fits_the_terminal() -> None:
    """Lines of 170 letters would be wrapped on a terminal of 100, and could not be read; or a log would lose columns."""
    metrics = dict.fromkeys(("NDCG@10", "HR@10", "NDCG@20", "HR@20", "MRR"), 0.25)
    groups = ("all", "tail_item", "head_item", "tail_user", "head_user")
    same = {"method": "plain", "backbone": "sasrec", "protocol": "full", "dropout": 0.3}
    rows = [same | {"group": group} | metrics for group in groups]
    whole, narrow = table(rows), table(rows, width=100)
    assert max(map(len, whole.splitlines())) > 140 and "results.json" not in whole
    *lines, last = narrow.splitlines()
    assert max(map(len, lines)) <= 100 and all(name in lines[2] for name in ("NDCG@10", "HR@10"))
    assert "NDCG@10 tail items" in lines[2], "the groups that matter most go last"
    left_out = {
        name.strip()
        for name in last.removeprefix("not shown on this terminal:").split(";")[0].split(",")
    }
    header = {name.strip() for name in whole.splitlines()[2].split("|")}
    assert header - {name.strip() for name in lines[2].split("|")} == left_out
    assert all(name in table(rows, width=10) for name in ("method", "backbone", "NDCG@10", "HR@10"))


@pytest.mark.slow
def test_a_run_in_a_terminal(tmp_path: pathlib.Path) -> None:
    """The table would not follow the trials, or a line of the run be lost in it."""
    flags = [
        "--config=configs/quickstart.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.model.method=plain,grasp",
        "--config.model.features=8",
        "--config.knowledge.width=16",
        "--config.train.max_epochs=2",
        "--config.data.synthetic.num_users=70",
        "--config.data.synthetic.num_items=130",
    ]
    program = f"import sys; sys.argv = ['main', *{flags!r}]; from grasp_jax.main import run; run()"
    said = on_a_terminal(program)
    last = said[said.rindex("trial  ") :]
    rows = [line for line in last.splitlines() if line.lstrip().startswith(("plain-", "grasp-"))]
    assert len(rows) == 2 and all("2 of 2" in row and "done" in row for row in rows), last
    assert "trial 2 of 2: grasp-sasrec" in said and "full ranking 100 %" in said
    assert last.index("points of NDCG@10") < last.index("the user's next item, ranked among")
    assert "all done in" in last
