"""The benchmarks run at small sizes, check what they compare, and end in the lines that documents quote."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import describe, lengths, record, report
from grasp_jax.config import KnowledgeConfig
from grasp_jax.knowledge.describe import chat
from grasp_jax.knowledge.describe.language_model import keys_of
from grasp_jax.knowledge.endpoint.cache import AnswerCache, StoredAnswer, stored_keys
from tests.command_line import run
from tests.refusal import refusal

ROOT = pathlib.Path(__file__).parent.parent
RATIO = r"(not measured|\d+\.\dx)"
LAST_LINE = re.compile(
    rf"speed-up over the best packed rival: {RATIO}( \(.*\))?, over padded pytorch: {RATIO}, over padded plain jax: {RATIO} \(noise\)"
)


def run_quick(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks.step --quick` with further flags."""
    return run([sys.executable, "-m", "benchmarks.step", "--quick", *arguments])


@pytest.mark.slow
def test_quick_run_agrees_and_ends_with_the_speed_up(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "step.json"
    done = run_quick(f"--out={out}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert LAST_LINE.fullmatch(lines[-1]), lines[-1]
    assert [line for line in lines if line.startswith("parity ok: ")], done.stdout
    assert record.NOISE in lines  # or somebody would quote the ratios of a tiny model
    result = json.loads(out.read_text(encoding="utf-8"))
    has_torch = importlib.util.find_spec("torch") is not None
    assert ("not measured" in lines[-1]) == (not has_torch)
    names = [row["name"].split()[0] for row in result["steps"]]
    packed = names.count("packed")
    assert names == ["grasp_jax", *["packed"] * packed, *["plain"] * (1 + has_torch)]
    assert (packed >= 1) == has_torch
    assert len(set(result["parity"]["losses"])) == 2 + has_torch + packed
    assert [row["users"] for row in result["growth"]] == sorted(
        row["users"] for row in result["growth"]
    )


def test_left_over_argument_is_refused_in_one_line() -> None:
    done = run_quick("linear")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("error: unrecognized arguments: linear")


def test_synthetic_lengths_follow_paper_beauty() -> None:
    drawn = lengths.beauty_lengths(lengths.BEAUTY_USERS, np.random.default_rng(0))
    assert abs(drawn.mean() - 7.56) < 0.2
    assert drawn.max() <= 293 and drawn.min() >= 1
    percentiles = np.percentile(drawn, [1, 25, 50, 75, 90, 99])
    np.testing.assert_allclose(percentiles, [2, 5, 6, 8, 13, 37], atol=1.5)


@pytest.mark.slow  # test_faults kills whole runs, and test_describe a disk that is full
def test_describing_killed_on_the_way_makes_the_same_tables(tmp_path: pathlib.Path) -> None:
    """An answer would be paid for twice, or the bank depend on when a run was killed or on the server's moods."""
    out = tmp_path / "describe.json"
    flags = (
        "--items=120",
        "--users=20",
        "--think=0.02",
        "--concurrency=4",
        "--kills=1",
        "--runs",
        "misbehaving",
        "killed",
    )
    command = [sys.executable, "-m", "benchmarks.describe", *flags, f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("x; all tables are the same")
    whole, killed = json.loads(out.read_text(encoding="utf-8"))["runs"].values()
    assert (
        whole["answers"] == 140 < whole["requests"]
        and whole["asked_again"] == 0
        and whole["most_in_flight"] <= 4
    )
    assert (
        killed["kills"] == 1
        and 0 <= killed["asked_again"] <= 4
        and killed["asked_again_though_kept"] == 0
    )
    assert killed["checksums"] == whole["checksums"] and len(set(whole["checksums"].values())) == 4


BROKEN_PROMISES: dict[str, tuple[object, str]] = {
    "asked_again": (3, "killed: 3 prompts were sent again, 0 of them with a stored answer"),
    "asked_again_though_kept": (
        1,
        "killed: 2 prompts were sent again, 1 of them with a stored answer",
    ),
    "not_kept_at_kills": (99, "killed: 99 answers were lost in 2 kills"),
    "most_in_flight": (33, "killed: 33 requests in flight; the config allows 32"),
    "checksums": ({"items": "b"}, "killed: its tables differ from those of whole"),
}


@pytest.mark.parametrize("figure", BROKEN_PROMISES)
def test_describing_benchmark_fails_where_a_promise_is_broken(figure: str) -> None:
    """The benchmark would print and keep figures of a client that pays twice."""
    good = {
        "asked_again": 2,
        "asked_again_though_kept": 0,
        "not_kept_at_kills": 2,
        "most_in_flight": 32,
        "kills": 2,
    }
    runs = {name: {**good, "checksums": {"items": "a"}} for name in ("whole", "killed")}
    describe.check(runs, 32)
    runs["killed"][figure], message = BROKEN_PROMISES[figure]
    assert message in refusal(describe.check, runs, 32)


def test_describing_benchmark_counts_what_was_kept(tmp_path: pathlib.Path) -> None:
    """A prompt whose answer was stored before the run was killed could be sent again, and nobody would see it."""
    config = KnowledgeConfig().with_fields(
        {"describe.base_url": "http://any", "describe.cache_by": "model"}
    )
    keys = [key.tobytes() for key in keys_of(3, "abc".__getitem__, chat.CHAT, config)]
    with AnswerCache(tmp_path) as cache:
        cache.add(keys[0], StoredAnswer("text"))
        assert stored_keys(tmp_path) == {keys[0]}  # of the journal
    assert stored_keys(tmp_path) == {keys[0]}  # of a shard
    found = describe.repeated(["a", "b", "c", "a", "b"], [(2, stored_keys(tmp_path))])
    assert found == {"asked_again_though_kept": 1, "asked_again": 2, "not_kept_at_kills": 1}


def test_bank_of_a_small_size(tmp_path: pathlib.Path) -> None:
    """A stage would be left out, or the index be measured against neighbours that are not the true ones."""
    pytest.importorskip("scann", reason="scann is not installed")
    out = tmp_path / "bank.json"
    arguments = ["--rows=5000", "--width=32", "--sample=50", f"--folder={tmp_path}", f"--out={out}"]
    done = run([sys.executable, "-m", "benchmarks.bank", *arguments])
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    names = [stage["name"] for stage in result["stages"]]
    searched = [f"index searched, {leaves} leaves" for leaves in (1, 2, 4, 8)]
    assert names == [
        "table written",
        "index built and saved",
        "index opened",
        *searched,
        "searched exactly",
    ]
    assert all(stage["seconds"] > 0 for stage in result["stages"])
    assert result["recall"]["8"] > 0.95 and result["recall"]["8"] >= result["recall"]["1"]
    assert not list(tmp_path.glob("bank-*")), "the table is left on disk"


def test_performance_page_is_that_of_the_committed_results() -> None:
    """The page would show figures that no kept record has."""
    assert report.PAGE.read_text(encoding="utf-8") == report.page()
