"""Descriptions and encoding on Ray: the bank of a local run, and no answer is paid for twice if a worker or the program is killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.chat_server import ChatServer, running
from tests.command_line import ROOT, one_line_error, run, script
from tests.refusal import assert_names

pytest.importorskip("ray", reason="ray is not installed")
ITEMS, USERS = 900, 1300  # several tasks of describing and shards of vectors each


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = [
        f"{user} {item}"
        for user in range(1, USERS + 1)
        for item in sorted(rng.choice(ITEMS, 4, replace=False) + 1)
    ]
    (folder / "inter.txt").write_text(
        "\n".join([*lines, *(f"1 {item}" for item in range(1, ITEMS + 1))]) + "\n"
    )
    items = [{"item": item, "title": f"title {item}"} for item in range(1, ITEMS + 1)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    return folder


def command(
    program: list[str], data: pathlib.Path, folder: pathlib.Path, name: str, url: str, *more: str
) -> list[str]:
    answers = folder / f"answers-{name}"
    return [
        sys.executable,
        *program,
        f"--config={ROOT / 'configs' / 'fashion.py'}",
        f"--workdir={folder / name}",
        f"--config.data.path={data}",
        "--config.model.method=grasp",
        "--config.data.items_file=items.jsonl",
        "--config.knowledge.item_template=titled_item",
        "--config.knowledge.describer=openai",
        f"--config.knowledge.describe.base_url={url}",
        "--config.knowledge.describe.model=m",
        f"--config.knowledge.describe.cache={answers}",
        "--config.knowledge.encoder=openai",
        f"--config.knowledge.embed.base_url={url}",
        f"--config.knowledge.embed.cache={answers}-vectors",
        "--config.knowledge.embed.dimensions=32",
        "--config.knowledge.describe.concurrency=8",
        "--config.knowledge.num_neighbours=3",
        *more,
    ]


def on_ray(*arguments: object, **options: object) -> list[str]:
    return command(["launch/ray_prepare.py"], *arguments, **options)  # type: ignore[arg-type]


def checksums(workdir: pathlib.Path) -> dict[str, str]:
    return json.loads((workdir / "knowledge" / "manifest.json").read_text())["checksums"]


def workers_of(driver: int) -> list[int]:
    """Processes of Ray that describe, under the cluster that `driver` started."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"ray::" in (path / "cmdline").read_bytes()
                and b"Map" in (path / "cmdline").read_bytes()
            ):
                environment = (path / "environ").read_bytes().split(b"\0")
                found += (
                    [int(path.name)]
                    if f"DRIVER_OF_THIS_TEST={driver}".encode() in environment
                    else []
                )
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_same_bank_whoever_is_killed(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A cluster would give another bank than one machine, lose what a dead worker had, or pay again for what was answered."""
    with running(ChatServer(seconds=0.01)) as server:
        local = run(
            command(["-m", "grasp_jax.main"], data, tmp_path, "local", server.url, "--mode=prepare")
        )
        assert local.returncode == 0, local.stderr
        server.answered.clear()
        marked = os.environ | {"DRIVER_OF_THIS_TEST": str(os.getpid()), "PYTHONPATH": str(ROOT)}
        arguments = on_ray(data, tmp_path, "ray", server.url)
        with open(tmp_path / "log", "w") as log:
            driver = subprocess.Popen(
                arguments, cwd=ROOT, env=marked, stdout=log, stderr=log, start_new_session=True
            )
            deadline, victims = time.monotonic() + 120, []
            while not victims and time.monotonic() < deadline and driver.poll() is None:
                time.sleep(0.1)
                victims = workers_of(os.getpid()) if len(server.answered) > 300 else []
            assert victims, (tmp_path / "log").read_text()
            os.kill(victims[0], signal.SIGKILL)
            while (
                len(server.answered) < 1000
                and time.monotonic() < deadline
                and driver.poll() is None
            ):
                time.sleep(0.1)
            os.killpg(driver.pid, signal.SIGKILL)  # the program itself, and its cluster
            driver.wait()
        assert len(server.answered) < ITEMS + USERS, "killed too late to mean anything"
        again = run(arguments, PYTHONPATH=str(ROOT))
        assert again.returncode == 0, again.stderr
        assert checksums(tmp_path / "ray") == checksums(tmp_path / "local")
        twice = sum(count - 1 for prompt, count in server.answered.items())
        assert twice <= 3 * 256, (
            "what had come back was asked for again"
        )  # at most a task in the hands of each worker at each kill


def test_what_cannot_be_spread_is_refused(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """An encoder that looks at all texts at once would give another bank on every number of workers."""
    _, *arguments = on_ray(
        data, tmp_path, "ray", "http://127.0.0.1:9/v1", "--config.knowledge.encoder=lsa"
    )
    assert_names(
        one_line_error(run(script(*arguments))),
        ("config.knowledge.encoder: 'lsa'", "--mode=prepare"),
    )


def test_what_a_worker_cannot_do_is_one_line(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A wrong key would end in a traceback of Ray's; a dry run pay for everything."""
    with running(ChatServer(status=401)) as server:
        arguments = on_ray(data, tmp_path, "ray", server.url)
        dry = run(script(*arguments[1:], "--mode=prepare", "--dry-run"))
        assert dry.returncode == 0 and f"{ITEMS} prompts" in dry.stdout and not server.requests, (
            dry.stderr
        )
        message = one_line_error(run(arguments, PYTHONPATH=str(ROOT)))
    assert "the key in OPENAI_API_KEY is refused (status 401)" in message


def test_workers_send_to_the_address_of_the_keys() -> None:
    """Answers of the server in a worker's environment would be kept as those of the main program's server."""
    program = """
import os
from grasp_jax.config import KnowledgeConfig
from grasp_jax.config.address import OPENAI, resolved
from launch.ray_prepare import shared_out
config = KnowledgeConfig().with_fields({"describer": "openai", "encoder": "openai"})
here = [KnowledgeConfig.from_dict(shared_out(config, 2))]
os.environ["OPENAI_BASE_URL"] = "http://main/v1"
here.append(KnowledgeConfig.from_dict(shared_out(config, 2)))
os.environ["OPENAI_BASE_URL"] = "http://worker/v1"
for own, expected in zip(here, (OPENAI, "http://main/v1")):
    assert {resolved(own.describe).url, resolved(own.embed).url} == {expected}, own
"""
    done = run([sys.executable, "-c", program], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
