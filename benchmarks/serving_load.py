"""The load generator of `benchmarks.serving`, without JAX: requests on open connections, as fast as answers arrive or at a fixed rate.

    python -m benchmarks.serving_load PORT BODIES --seconds=10 --connections=32 [--rate=500]

BODIES has one body of `POST /recommend` per line. Without --rate, every connection sends its next request as soon as it has an answer. With
--rate, requests start at fixed times, whether or not earlier ones are answered, and the time of a request counts from its planned start. So
a slow answer also counts for the requests that it delays. A connection that was idle for `IDLE` is opened again before the next request, as
in clients with a pool of connections: uvicorn closes connections that are idle for 5 s, and a request that is sent at that moment gets no
answer. Prints JSON.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import resource
import time
from collections.abc import Sequence

IDLE = 4.0  # seconds after which an idle connection is opened again
GRACE = 5.0  # seconds to wait at the end for requests that have started
HEAD = "POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"


class Load:
    """Connections to one service, and its answers."""

    def __init__(self, port: int, bodies: Sequence[bytes]) -> None:
        self.port = port
        self.times: list[float] = []
        self.requests = [HEAD.format(len(body)).encode() + body for body in bodies]
        self.statuses: collections.Counter[str] = collections.Counter()
        self.sent = self.open = 0

    async def ask(self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> str:
        """Sends one request; returns the status of its answer."""
        reader, writer = stream
        writer.write(self.requests[self.sent % len(self.requests)])
        self.sent += 1
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(
            int(line.split(":")[1]) for line in lines if line.startswith("content-length")
        )
        await reader.readexactly(length)
        return lines[0].split(" ")[1]

    async def connection(
        self, jobs: "asyncio.Queue[float] | None", begin: float, end: float
    ) -> None:
        """Sends requests until the end; at the times in a queue, if there is one."""
        stream, last = None, 0.0
        while time.perf_counter() < end:
            due = time.perf_counter()
            if jobs is not None:
                try:
                    due = await asyncio.wait_for(jobs.get(), max(0.01, end - due))
                except TimeoutError:
                    break
            self.open += due >= begin
            try:
                if stream is not None and time.perf_counter() - last > IDLE:
                    stream[1].close()
                    stream = None
                stream = stream or await asyncio.open_connection("127.0.0.1", self.port)
                status = await self.ask(stream)
            except (OSError, asyncio.IncompleteReadError, StopIteration):
                status, stream = "broken", None
            last = time.perf_counter()
            if due >= begin:
                self.open -= 1
                self.statuses[status] += 1
                self.times.append(time.perf_counter() - due)
        if stream is not None:
            stream[1].close()

    async def run(
        self, seconds: float, warm: float, connections: int, rate: float | None
    ) -> dict[str, object]:
        """Sends load for `warm` seconds and then for `seconds`; only the latter are counted."""
        now = time.perf_counter()
        begin, end = now + warm, now + warm + seconds
        jobs: asyncio.Queue[float] | None = None if rate is None else asyncio.Queue()
        asking = [
            asyncio.create_task(self.connection(jobs, begin, end)) for _ in range(connections)
        ]
        if rate is not None and jobs is not None:
            for n in range(int((seconds + warm) * rate)):
                due = now + n / rate
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
                jobs.put_nowait(due)
        _, late = await asyncio.wait(asking, timeout=max(0.0, end + GRACE - time.perf_counter()))
        for task in late:
            task.cancel()
        self.statuses["none"] = self.open  # requests that are still open count as unanswered
        await asyncio.gather(*asking, return_exceptions=True)
        self.times.sort()
        good = self.statuses["200"]
        return {
            "connections": connections,
            "asked_per_second": rate,
            "answered_per_second": good / seconds,
            "statuses": dict(self.statuses),
            "left_over": 0 if jobs is None else jobs.qsize(),
            **{name: self._quantile(share) for name, share in QUANTILES.items()},
        }

    def _quantile(self, share: float) -> float | None:
        """Milliseconds."""
        if not self.times:
            return None
        return 1000 * self.times[min(len(self.times) - 1, int(share * len(self.times)))]


QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_load")
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=pathlib.Path)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="seconds of the load that counts"
    )
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before anything counts")
    parser.add_argument("--connections", type=int, default=32, help="open connections")
    parser.add_argument(
        "--rate",
        type=float,
        default=None,
        help="requests per second; without it, as fast as answers arrive",
    )
    given = parser.parse_args()
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(most, 4096)), hard))
    load = Load(given.port, given.bodies.read_bytes().splitlines())
    print(
        json.dumps(asyncio.run(load.run(given.seconds, given.warm, given.connections, given.rate)))
    )


if __name__ == "__main__":
    main()
