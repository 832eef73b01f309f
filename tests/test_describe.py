"""Descriptions from the command line: from prompts to results, the output before the start, and every error.

test_benchmarks.py tests runs that are killed and continued.
"""

import json
import pathlib
import random
import re
import socket
import sys

import numpy as np
import pytest

from tests.chat_server import ChatServer, running
from tests.command_line import one_line_error, run

ITEMS, USERS = 150, 60
KEY = {"OPENAI_API_KEY": "sk-secret"}
MAIN = (sys.executable, "-m", "grasp_jax.main", "--config=configs/quickstart.py")
FAULTS = {
    "busy": 41,
    "broken": 43,
    "dropped": 47,
    "malformed": 53,
    "other": 59,
    "na": 11,
    "endless": 13,
    "refused": 17,
}

SMALL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # bytes of a file: the journal will be longer
runpy.run_module("grasp_jax.main", run_name="__main__", alter_sys=True)
"""

LAST_LINE = re.compile(
    r"describe items: 150 prompts answered, [\d,]+ tokens of prompts and [\d,]+ of answers; cost [1-9]\d*\.\d\d; "
    r"the template's text stands in for \d+ of 150 \(\d+ na, \d+ refused\)"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A small dataset in files."""
    folder, rng = tmp_path_factory.mktemp("shop"), random.Random(0)
    kinds = ("soap", "cream", "brush", "oil", "mask")
    items = [
        {"item": str(k), "title": f"{kinds[k % 5]} number {k}", "brand": f"brand {k % 7}"}
        for k in range(ITEMS)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = [
        f"{user}\t{rng.randrange(ITEMS)}\t{1000 + k}"
        for user in range(USERS)
        for k in range(rng.randint(4, 9))
    ]
    (folder / "interactions.tsv").write_text("user\titem\ttimestamp\n" + "\n".join(rows) + "\n")
    return folder


def command(shop: pathlib.Path, folder: pathlib.Path, url: str, *more: str) -> list[str]:
    return [
        *MAIN,
        f"--workdir={folder / 'run'}",
        "--config.data.source=files",
        f"--config.data.path={shop}",
        "--config.data.items_file=items.jsonl",
        "--config.knowledge.describer=openai",
        f"--config.knowledge.describe.base_url={url}",
        f"--config.knowledge.describe.cache={folder / 'answers'}",
        "--config.knowledge.item_template=titled_item",
        "--config.knowledge.user_template=shopper_user",
        "--config.knowledge.width=16",
        "--config.knowledge.num_neighbours=3",
        "--config.eval.num_negatives=20",
        "--config.eval.full=False",
        "--config.model.features=8",
        "--config.model.backbone=gru4rec",
        "--config.train.max_epochs=1",
        "--config.model.method=grasp",
        "--config.model.mlp=(16,)",
        "--config.knowledge.describe.price_prompt=1000.0",
        *more,
    ]


def succeeds(arguments: list[str]) -> str:
    """What a run prints; the key is nowhere in it."""
    result = run(arguments, **KEY)
    assert result.returncode == 0, result.stderr
    assert "sk-secret" not in result.stdout + result.stderr
    return result.stdout


def test_from_descriptions_to_results(shop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A stage of the chain would not take what the one before it made, or the user not be told what leaves the machine."""
    with running(ChatServer(FAULTS)) as server:
        dry = succeeds(command(shop, tmp_path, server.url, "--mode=prepare", "--dry-run"))
        assert (
            f"describe items: {ITEMS} prompts for {ITEMS} items go to {server.url}, model" in dry
            and server.requests == 0
        )
        said = succeeds(command(shop, tmp_path, server.url))
        assert "describe items: 150 prompts for 150 items go to" in said
        assert LAST_LINE.search(said), said
        assert set(server.answered.values()) == {1}
    assert "sk-secret" not in _written(tmp_path)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["rows"][0]["method"] == "grasp"
    manifest = json.loads((tmp_path / "run" / "knowledge" / "manifest.json").read_text())
    assert (
        manifest["recipe"]["describer"] == "openai"
        and manifest["recipe"]["described_by"]["model"] == "gpt-4o-mini"
    )
    statuses = np.load(tmp_path / "run" / "knowledge" / "items_status.npy")
    assert statuses.shape == (ITEMS,) and 0 < (statuses > 0).sum() < ITEMS / 2


def test_errors_of_the_endpoint_are_one_line(shop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A newcomer with a wrong key, or a server that is down, would read a traceback."""
    with running(ChatServer(status=401)) as server:
        message = one_line_error(run(command(shop, tmp_path, server.url, "--mode=prepare"), **KEY))
        assert (
            "the key in OPENAI_API_KEY is refused (status 401)" in message and server.requests == 1
        )
    with socket.socket() as taken:  # by nobody who answers
        taken.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        once = "--config.knowledge.describe.retries=1"
        message = one_line_error(
            run(command(shop, tmp_path / "down", down, "--mode=prepare", once))
        )
    assert "no answer after 2 attempts: Cannot connect to host 127.0.0.1" in message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "no key",
            "the environment has no OPENAI_API_KEY; set it to your key, or base_url to a server of your own",
        ),
        (
            "unknown model",
            "no model 'gpt-4o-mini' here, or no such endpoint: Error code: 404 - status 404 for key ***",
        ),
        (
            "field",
            "colour.txt': the template names 'colour', but the data has brand, title; take it out, or put it into a [[clause]]",
        ),
    ],
)
def test_errors_of_a_newcomer_are_one_line(
    shop: pathlib.Path, tmp_path: pathlib.Path, fault: str, expected: str
) -> None:
    """A newcomer would read a traceback, or the key stand in a log; or the endpoint be asked ten thousand times in vain."""
    (tmp_path / "colour.txt").write_text("A {colour} thing: {title}")
    with running(ChatServer(status=404 if fault == "unknown model" else 200)) as server:
        arguments = command(
            shop, tmp_path, "" if fault == "no key" else server.url, "--mode=prepare"
        )
        if fault == "field":
            arguments.append(f"--config.knowledge.item_template={tmp_path / 'colour.txt'}")
        result = run(arguments, **({"OPENAI_API_KEY": ""} if fault == "no key" else KEY))
        assert server.requests == (fault == "unknown model")
    assert result.returncode == 2 and expected in one_line_error(result)
    assert "sk-secret" not in result.stdout + result.stderr + _written(tmp_path)


def test_a_key_in_the_config_is_written_nowhere(shop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The key would stand in config.json, and be passed on with the workdir."""
    for k, flag in enumerate(
        ("describe.base_url=http://host/v1?api_key=sk-secret", "embed.key_variable=sk-secret")
    ):
        result = run(
            command(shop, tmp_path / str(k), "", "--mode=prepare", f"--config.knowledge.{flag}")
        )
        assert "not shown" in one_line_error(result)
        assert "sk-secret" not in result.stdout + result.stderr and not (tmp_path / str(k)).exists()


def test_a_full_disk_loses_no_answer(shop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Answers that were paid for would be lost, or be torn and taken for whole ones."""
    with running(ChatServer()) as server:
        arguments = command(
            shop,
            tmp_path,
            server.url,
            "--mode=prepare",
            "--config.knowledge.describe.concurrency=4",
        )
        result = run([sys.executable, "-c", SMALL_DISK, *arguments[len(MAIN) - 1 :]], **KEY)
        assert result.returncode == 2 and "make room and run again" in one_line_error(result)
        before = server.answered.total()
        assert 30 < before < ITEMS
        reused = "knowledge: was finished before and is reused"
        assert reused not in succeeds(arguments)
        assert reused in succeeds(arguments), "or it would look as if all had been made again"
        assert (
            len(server.answered) == ITEMS + USERS
            and server.answered.total() - len(server.answered) <= 4
        )


def _written(folder: pathlib.Path) -> str:
    """All that a run left behind."""
    return "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    )
