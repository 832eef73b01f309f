"""Requests that a service refuses in one line, and the start and end of its process."""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from grasp_jax.serving.http.query_queue import Query
from grasp_jax.serving.http.settings import Limits
from tests.bad_requests import BAD, JSON
from tests.command_line import run
from tests.refusal import assert_names
from tests.running_service import LIMITS, SECRET, Running, with_settings

pytest_plugins = ("tests.running_service",)  # the fixtures


@pytest.mark.parametrize("kind", BAD)
def test_bad_requests_are_refused_in_one_line(kind: str, running: Running) -> None:
    """Bad input would be a fault, end the process, or be answered with a text that helps nobody."""
    bad = BAD[kind]
    answer = running.send(bad)
    assert answer.status_code == bad.status, answer.text
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert bad.says in message, message
    assert len(message.splitlines()) == 1 and len(message) < 1000
    assert "Traceback" not in message and "pydantic" not in message
    assert len(answer.headers["x-request-id"]) == 12


def test_the_service_still_answers_after_all_of_them(running: Running) -> None:
    """One of the bad requests would have changed what is served."""
    assert len(BAD) >= 200
    told = running.client.get("/ready").json()
    assert told.pop("data")["users"] == 100
    assert told == {
        "status": "ready", "model": 1, "method": "plain", "backbone": "sasrec", "trained_on_all": False, "items": 100, "users": True,
        "exclude_seen": True, "search": "exact", "recall": 1.0,
    }  # fmt: skip
    assert len(running.post("/recommend", histories=[[1]])["results"][0]["items"]) == 10


def test_no_bad_request_brings_out_the_token(folders: pathlib.Path) -> None:
    """The message for a bad request, or its line in the log, would have the token."""
    settings = with_settings(token=SECRET, models=folders, batch_sizes=(2,), lengths=())
    running = Running(folders / "plain", settings)
    for kind, bad in BAD.items():
        headers = {**bad.headers, "authorization": f"Bearer {SECRET}"}
        answer = running.send(bad._replace(headers=headers))
        assert answer.status_code == bad.status, kind
        assert SECRET not in answer.text and SECRET not in str(answer.headers), kind
    assert SECRET not in running.lines.getvalue()
    running.service.stop()


def test_a_token_is_asked_for_everywhere_but_by_probes(folders: pathlib.Path) -> None:
    """Strangers would read recommendations or metrics, or a prefix of the token be enough."""
    running = Running(folders / "saved", with_settings(token=SECRET, batch_sizes=(2,), lengths=()))
    wrong = [
        "",
        "Bearer",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET}x",
        f"Basic {SECRET}",
        SECRET,
        "Bearer \xfc",
    ]
    for method, path in [
        ("POST", "/recommend"), ("POST", "/similar"), ("PUT", "/items"), ("DELETE", "/items/1"), ("POST", "/reload"),
        ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"),
    ]:  # fmt: skip
        for given in wrong:
            headers = {**JSON, "authorization": given.encode("latin-1")}
            answer = running.client.request(method, path, content=b"{}", headers=headers)
            assert answer.status_code == 401, (method, path, given)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "token" in answer.json()["error"] and SECRET[:-1] not in answer.text
    assert running.client.get("/health").status_code == 200
    assert running.client.get("/ready").status_code == 200
    right = {"authorization": f"bearer {SECRET}"}
    answer = running.client.post("/recommend", json={"histories": [[1]]}, headers=right)
    assert answer.status_code == 200
    assert SECRET[:-1] not in running.lines.getvalue() and SECRET not in repr(
        running.service.settings
    )
    users = running.client.post("/recommend", json={"users": [1]}, headers=right)
    assert users.status_code == 422
    assert_names(users.json()["error"], ("a saved model holds no users", "--data=FOLDER"))
    running.service.stop()


def test_the_log_holds_nobodys_data(running: Running) -> None:
    """Ids of users or items, or texts, would stand in a log that other people read."""
    running.lines.truncate(0)
    running.post("/recommend", users=["user-7531"], exclude=["item-8642"])
    running.client.delete("/items/item-9753?key=secret-1")
    running.client.get("/path-864?key=secret-2")
    running.client.post("/recommend", json={"histories": [["item-1111"]], "wrong-2222": 1})
    text = running.lines.getvalue()
    assert not any(
        part in text for part in ("7531", "8642", "9753", "secret", "path-864", "1111", "2222")
    )
    lines = [json.loads(line) for line in text.replace("\0", "").splitlines()]
    assert [line["route"] for line in lines] == ["/recommend", "/items/{id}", "other", "/recommend"]
    assert [line["status"] for line in lines] == [200, 404, 404, 422]
    assert all(line["milliseconds"] > 0 for line in lines)


def test_a_fault_of_ours_says_nothing_to_strangers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback, or the value that caused it, would be sent to whoever asks, or the worker die with it."""

    def broken(*_: Any) -> None:
        raise RuntimeError("password 1234")

    with monkeypatch.context() as patched:
        patched.setattr("grasp_jax.serving.http.snapshot.ServingSnapshot.answer", broken)
        answer = running.client.post("/recommend", json={"histories": [[1]]})
    assert answer.status_code == 500 and "a fault of the service" in answer.json()["error"]
    assert "1234" not in answer.text and "1234" not in running.lines.getvalue()
    assert answer.headers["x-request-id"] in running.lines.getvalue()
    assert running.post("/recommend", histories=[[1]])["results"]


def test_beyond_the_queue_there_is_503_and_no_crash(
    folders: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too much load would end the process, or let everybody wait without end."""
    limits = Limits(**{**vars(LIMITS), "queue": 4, "people": 4})
    running = Running(folders / "saved", with_settings(limits=limits, batch_sizes=(1,), lengths=()))
    hold, answers_of = threading.Event(), Query.answers
    monkeypatch.setattr(Query, "answers", lambda *own: hold.wait(60) and answers_of(*own))

    async def flood() -> list[Any]:
        transport = httpx.ASGITransport(running.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            asked = [client.post("/recommend", json={"histories": [[5]]}) for _ in range(40)]
            ended = asyncio.as_completed([asyncio.create_task(one) for one in asked])
            found = [await one for _, one in zip(range(36), ended, strict=False)]  # the refused
            hold.set()
            return [*found, *[await one for one in ended]]

    answers = asyncio.run(flood())
    counts = {status: [own.status_code for own in answers].count(status) for status in (200, 503)}
    assert counts == {200: 4, 503: 36}
    refused = next(own for own in answers if own.status_code == 503)
    assert refused.headers["retry-after"] == "1" and "in progress" in refused.json()["error"]
    metrics = running.client.get("/metrics").text
    assert 'grasp_serve_overload_total{reason="requests"} 36' in metrics
    assert running.post("/recommend", histories=[[5]])["results"]
    running.service.stop()


def test_a_full_queue_reads_no_body(folders: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ten times the load that the service can answer, reading what it refuses would take the time in which it answers others."""
    limits = Limits(**{**vars(LIMITS), "queue": 4, "people": 4})
    running = Running(folders / "saved", with_settings(limits=limits, batch_sizes=(1,), lengths=()))
    begun, hold, answers_of = threading.Event(), threading.Event(), Query.answers

    def held(*own: Any) -> Any:
        begun.set()
        return hold.wait(60) and answers_of(*own)

    monkeypatch.setattr(Query, "answers", held)
    broken: dict[str, Any] = {"content": b"{", "headers": JSON}

    async def fill() -> list[Any]:
        transport = httpx.ASGITransport(running.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:

            async def ask(people: int) -> Any:
                return await client.post("/recommend", json={"histories": [[5]] * people})

            first = asyncio.create_task(ask(1))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            second = asyncio.create_task(ask(4))
            while running.service.queue.waiting < 4:
                await asyncio.sleep(0.001)
            full = [await client.post(path, **broken) for path in ("/recommend", "/similar")]
            items = await client.put("/items", **broken)
            hold.set()
            return [*full, items, await first, await second]

    recommend, similar, items, *answered = asyncio.run(fill())
    assert recommend.status_code == similar.status_code == 503
    assert "4 people wait already" in recommend.json()["error"]
    metrics = running.client.get("/metrics").text
    assert 'grasp_serve_overload_total{reason="queue"} 2' in metrics
    assert items.status_code == 422, "it does not enter the queue"
    assert [own.status_code for own in answered] == [200, 200]
    assert running.client.post("/recommend", **broken).status_code == 422
    running.service.stop()


def test_who_waits_too_long_is_told_so(
    folders: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller would wait for ever behind a slow batch, and the service work for those who have gone."""
    limits = Limits(**{**vars(LIMITS), "seconds": 0.2})
    running = Running(folders / "saved", with_settings(limits=limits, batch_sizes=(1,), lengths=()))
    begun, hold, answered = threading.Event(), threading.Event(), list[int]()
    answers_of = Query.answers

    def slow(query: Query, batch: Sequence[Query]) -> Any:
        begun.set()
        hold.wait(60)
        answered.append(len(batch))
        return answers_of(query, batch)

    def ask_in_vain() -> None:
        late = running.client.post("/recommend", json={"histories": [[5]]})
        assert late.status_code == 503 and "no answer within 0.2 s" in late.json()["error"]

    monkeypatch.setattr(Query, "answers", slow)
    while not begun.is_set():  # on a busy machine the first ones are given up before they are begun
        ask_in_vain()
    for _ in range(2):
        ask_in_vain()
    running.service.queue.limits = LIMITS  # with a minute to wait
    hold.set()
    assert running.post("/recommend", histories=[[5]])["results"]
    assert sum(answered) == 2  # the begun one, and the last: nobody waited for the others any more
    running.service.stop()


def serve(*flags: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "grasp_jax.serving.http.cli", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True
    )


def load_of(port: int, folder: pathlib.Path) -> Any:
    """What the benchmark's client measures in a second at a low rate."""
    (folder / "bodies").write_text('{"histories": [[5, 9]]}\n{"histories": [[7]], "k": 3}\n')
    flags = ["--seconds=1", "--warm=0.2", "--connections=4", "--rate=20"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving_load",
        str(port),
        str(folder / "bodies"),
        *flags,
    ]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=300).stdout)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=120)


def status_of_answer(connection: socket.socket) -> int:
    """Reads one whole answer: one `recv` may return less, for headers and body are sent one after the other."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def is_listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def refused_start(*flags: str) -> str:
    """The one line with which a service refused to start."""
    done = run([sys.executable, "-m", "grasp_jax.serving.http.cli", *flags])
    said = done.stderr
    assert done.returncode == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_a_process_of_its_own(folders: pathlib.Path) -> None:
    """The program would not start, answer before it is ready, or end with an error; or refuse a start with a traceback."""
    with serve(
        str(folders / "saved"), "--port=0", "--batch-sizes=1,4", "--body-seconds=5", "--seconds=60"
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            listening = json.loads(process.stdout.readline())
            assert listening["event"] == "listening" and listening["host"] == "127.0.0.1"
            port = listening["port"]
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
            states, deadline = [], time.monotonic() + 600
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.ConnectError):
                    ready = client.get("/ready")
                    states.append(ready.json()["status"])
                    if ready.status_code == 200:
                        break
                    early = client.post("/recommend", json={"histories": [[1]]})
                    # 408: on a busy machine the loading model leaves no time to read a body.
                    assert early.status_code in (200, 408, 503)
                time.sleep(0.05)
            assert states[-1] == "ready"
            answer = client.post("/recommend", json={"histories": [[5, 9]]})
            assert answer.status_code == 200 and "server" not in answer.headers
            begin = b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            last = b'{"histories": [[5]], "k": 3}'
            length = b"content-length: %d\r\n\r\n" % len(last)
            with connected(port) as head, connected(port) as body, connected(port) as pooled:
                head.sendall(begin)  # and no more
                body.sendall(begin + b"content-length: 99\r\n\r\n{")
                pooled.sendall(begin + length + last)  # by a proxy, whose next request comes later
                assert status_of_answer(pooled) == 200
                later = time.monotonic() + 5.5  # uvicorn would close it after 5 s
                with connected(port) as long:
                    with contextlib.suppress(OSError):
                        for _ in range(20):
                            long.sendall(b"x: " + b"y" * (1 << 16) + b"\r\n")
                    assert client.get("/ready").status_code == 200
                for _ in range(5):  # a machine that is busy for a second leaves requests over
                    measured = load_of(port, folders)
                    if not measured["left_over"]:
                        break
                assert measured["statuses"] == {"200": 20, "none": 0}
                assert measured["left_over"] == 0
                assert 0 < measured["p50_ms"] <= measured["p99_ms"]
                said = refused_start(str(folders / "saved"), f"--port={port}")
                assert_names(said, (f"--port={port}", "in use", "name another"))
                said = refused_start(str(folders / "nothing"), "--port=0")
                assert_names(said, (str(folders / "nothing"), "neither a saved model"))
                time.sleep(max(0.0, later - time.monotonic()))
                pooled.sendall(begin + length + last)
                assert status_of_answer(pooled) == 200
                assert status_of_answer(body) == status_of_answer(head) == 408
            with connected(port) as late:  # a request that has begun
                late.sendall(begin + b"expect: 100-continue\r\n" + length + last[:9])
                with late.makefile("rb", buffering=0) as reply:  # so the service has read it
                    assert reply.readline() == b"HTTP/1.1 100 Continue\r\n"
                    assert reply.readline() == b"\r\n"
                process.send_signal(signal.SIGTERM)
                while is_listening(port) and time.monotonic() < deadline:
                    time.sleep(0.02)
                late.sendall(last[9:])
                assert status_of_answer(late) == 200
            rest, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
            assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
        finally:
            process.kill()
