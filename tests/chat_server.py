"""A local server for the chat and embeddings protocols, which works correctly or makes faults, and records its requests.

    python -m tests.chat_server PORT LOG [fault=every N ...]      # for runs in other processes; LOG: seconds and prompt of each answer

A fault occurs once in N requests: `busy` (429 with Retry-After), `broken` (500), `dropped`, `malformed`, `other` (another item's answer),
`slow`, `na`, `endless` (50 kB), `empty`, `refused`. A GET of /v1/seen returns the counts so far.
"""

import asyncio
import collections
import dataclasses
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REFERENCE = re.compile(r"\[([0-9a-f]{8})\]\.$")


@dataclasses.dataclass
class ChatServer:
    """What the server does and what it has seen.

    Attributes:
      faults: name -> a request in how many has it.
      seconds: to think about an answer.
      status: answer everything with this status instead.
      location: of a redirect, with a status of 3xx.
      content: answer everything with these bytes instead.
      answered: prompt -> how often it was answered properly.
      most_in_flight: requests at one time, at most.
    """

    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.002
    status: int = 200
    location: str = ""
    content: bytes = b""
    log: str = ""
    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first: float = 0.0  # time of the first request, and of the last answer
    last: float = 0.0
    answered: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    headers: list[dict[str, str]] = dataclasses.field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = json.loads(
                    await reader.readexactly(int(headers.get("content-length", 0))) or b"{}"
                )
                if head.startswith("GET"):
                    self.write(writer, 200, {}, json.dumps(self.seen()).encode())
                    continue
                self.headers.append(headers)
                self.requests += 1
                self.first = self.first or time.monotonic()
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    reply = await self.reply(head.split(" ")[1], body)
                finally:
                    self.in_flight -= 1
                if reply is None:
                    break
                self.last = time.monotonic()
                self.write(writer, *reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    def write(
        writer: asyncio.StreamWriter, status: int, extra: dict[str, str], content: bytes
    ) -> None:
        fields = {"content-type": "application/json", "content-length": str(len(content)), **extra}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode() + content)

    def seen(self) -> dict[str, float]:
        """For those who cannot look: counts, and the seconds from the first request to the last answer."""
        counts = {name: getattr(self, name) for name in ("requests", "in_flight", "most_in_flight")}
        return counts | {"answers": self.answered.total(), "seconds": self.last - self.first}

    async def reply(
        self, path: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and content; None drops the connection."""
        if self.content:
            return (
                200,
                {} if self.content.startswith(b"{") else {"content-type": "text/html"},
                self.content,
            )
        if self.status != 200:
            return (
                self.status,
                {"location": self.location} if self.location else {},
                json.dumps(
                    {"error": {"message": f"status {self.status} for key sk-secret"}}
                ).encode(),
            )
        due = next(
            (name for name, every in self.faults.items() if self.requests % every == every - 1), ""
        )
        await asyncio.sleep(max(0.2, 10 * self.seconds) if due == "slow" else self.seconds)
        match due:
            case "busy":
                return 429, {"retry-after": "0.1"}, b'{"error": {"message": "too fast"}}'
            case "broken":
                return 500, {}, b"oh no"
            case "dropped":
                return None
            case "malformed":
                return 200, {}, b'{"choices": [{"message": {"content": "half an ans'
        content = self.embed(body) if path.endswith("/embeddings") else self.chat(body, due)
        return 200, {}, json.dumps(content).encode()

    def chat(self, body: dict[str, Any], due: str) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"]
        reference = REFERENCE.search(prompt)
        asked = prompt.rsplit("\n\n", 1)[0]
        digest = hashlib.sha256(asked.encode()).hexdigest()
        text = f"A thing of {asked}, number {digest[:6]}."
        # What an answer says is decided by the prompt, or two runs would differ.
        kinds = {
            name: every
            for name, every in self.faults.items()
            if name in ("na", "endless", "empty", "refused")
        }
        kind = next(
            (
                name
                for k, (name, every) in enumerate(kinds.items())
                if int(digest[8:14], 16) % every == k
            ),
            "",
        )
        text = {
            "na": "NA",
            "endless": "word " * 10_000,
            "empty": "",
            "refused": "I'm sorry, I can't say.",
        }.get(kind, text)
        named = ("0" * 8 if due == "other" else reference.group(1)) if reference else ""
        if due != "other":
            self.answered[asked] += 1
            if self.log:
                with open(self.log, "a", encoding="utf-8") as file:
                    file.write(json.dumps([time.monotonic() - self.first, asked]) + "\n")
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": f"[{named}] {text}"},
                }
            ],
            "usage": {
                "prompt_tokens": len(prompt) // 4,
                "completion_tokens": len(text) // 4,
                "total_tokens": 0,
            },
        }

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        width = body.get("dimensions") or 16
        data = []
        for k, text in enumerate(body["input"]):
            self.answered[text] += 1
            bytes_ = hashlib.sha512(text.encode()).digest() * (1 + width // 64)
            data.append(
                {
                    "index": k,
                    "object": "embedding",
                    "embedding": [(value - 128) / 128 for value in bytes_[:width]],
                }
            )
        data.reverse()  # the protocol's "index" counts, not the order
        return {
            "object": "list",
            "data": data,
            "model": body["model"],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }


@contextmanager
def running(server: ChatServer) -> Iterator[ChatServer]:
    """The server on a free port, in a thread."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        async with await asyncio.start_server(server.serve, "127.0.0.1", server.port) as listening:
            server.port = listening.sockets[0].getsockname()[1]
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()
            for task in asyncio.all_tasks() - {
                asyncio.current_task()
            }:  # connections that clients keep open
                task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    if not started.wait(60):
        raise RuntimeError(
            f"the server did not start on port {server.port}; see the thread's error above"
        )
    try:
        yield server
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[3:])
    seconds = float(given.pop("seconds", 0.002))
    with running(
        ChatServer(
            {name: int(every) for name, every in given.items()},
            seconds,
            log=sys.argv[2],
            port=int(sys.argv[1]),
        )
    ):
        threading.Event().wait()
