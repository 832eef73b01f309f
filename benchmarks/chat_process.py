"""The tests' chat server in a separate process, and a minimal client for it."""

import asyncio
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
START_SECONDS = 30.0


class ChatProcess:
    """Runs `python -m tests.chat_server` on a free port while the context is open.

    Attributes:
      url: as `base_url`.
    """

    def __init__(self, log: pathlib.Path, seconds: float, faults: dict[str, int]) -> None:
        """The server waits `seconds` before it answers, logs the prompts, and makes each fault once in a given number of requests."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self._port = int(taken.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._log = log
        named = [f"{name}={every}" for name, every in faults.items()]
        self._command = [
            sys.executable,
            "-m",
            "tests.chat_server",
            str(self._port),
            str(log),
            f"seconds={seconds}",
            *named,
        ]

    def __enter__(self) -> "ChatProcess":
        self._process = subprocess.Popen(self._command, cwd=ROOT)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.02)
        self.__exit__()
        raise TimeoutError("the chat server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self) -> dict[str, Any]:
        """Numbers of requests, answers, requests in flight (now and the most), and seconds from the first request to the last answer."""
        with urllib.request.urlopen(f"{self.url}/seen") as answer:
            return json.load(answer)

    def log(self) -> list[tuple[float, str]]:
        """For every answer, in order: the seconds since the first request, and the prompt."""
        return [
            tuple(json.loads(line)) for line in self._log.read_text(encoding="utf-8").splitlines()
        ]


async def bare_client(url: str, prompts: Sequence[str], concurrency: int) -> None:
    """Requests an answer to every prompt and does not check the answers."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    waiting = iter(prompts)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for prompt in waiting:
            body = json.dumps(
                {"model": "any", "messages": [{"role": "user", "content": prompt}]}
            ).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            json.loads(
                await reader.readexactly(int(fields.split("content-length: ")[1].split("\r\n")[0]))
            )
        writer.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
