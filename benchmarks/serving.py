"""Requests per second of `grasp-serve` and of a simple PyTorch service: python -m benchmarks.serving [--quick] [--out=JSON]

    make rival-torch_service
    python -m benchmarks.serving [--items=12101,1200000] [--model=FOLDER] [--seconds=60] [--minutes=10] [--services=exact,approximate,rival]
        [--merge=JSON]

Without --model an untrained SASRec with the given number of items is saved and served, because speed does not depend on the parameters.
The load comes from a separate process on the same cores: wrk if it is installed, otherwise `benchmarks.serving_load`. It keeps more and
more connections busy, and the largest rate counts. Then `serving_load` sends half of this rate at fixed times, for --seconds or --minutes,
while the memory of the service is measured, and then keeps `OVERLOAD` connections busy, more than the service allows to wait. Our service
then gets ten times its largest load. With a small catalogue the load generator cannot send ten times as many requests on the same cores,
so each of these requests has `CROWD` histories, and the largest rate of such requests is measured first. Finally our service gets a
quarter of its largest rate while it loads its model again, and while an item is removed and added back three times. Large catalogues are
searched exactly and with --approximate. --merge keeps those services of an earlier record that are not measured now. Each other request
has a history of 1 to 50 items. Each person gets ten recommendations. The services do not log requests.
"""

import concurrent.futures
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.arguments import names_of, parser_of
from benchmarks.record import Contention, keep, run, table
from benchmarks.serving_model import FEATURES, LENGTH, untrained
from benchmarks.serving_process import Memory, free_port, served
from grasp_jax.core.errors import UserError
from grasp_jax.serving.artifact import is_saved_model, load_artifact, save_artifact

RIVAL = ROOT / ".rivals" / "torch_service" / "bin" / "python"
OURS, APPROXIMATE, THEIRS = "grasp-serve", "grasp-serve --approximate", "FastAPI and PyTorch"
SERVICES = {"exact": OURS, "approximate": APPROXIMATE, "rival": THEIRS}  # names of --services
APPROXIMATE_FROM = 100_000  # items
K, BODIES = 10, 2000
CROWD, TIMES = 32, 10  # histories in a request, and times the largest rate, of the largest load
CONNECTIONS, QUICK_CONNECTIONS, OVERLOAD = (16, 64, 256), (1, 16, 64), 1536
SHORT = 5.0  # seconds of each load, except the one at half of the largest rate
WRK_SCRIPT = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local n = 0
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
request = function()
  n = n %% #bodies + 1
  return wrk.format(nil, "/recommend", nil, bodies[n])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %f, "status": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
""".replace("%%", "%")


def write_bodies(path: pathlib.Path, ids: np.ndarray, people: int = 1) -> None:
    """Writes bodies of requests, one per line, with the histories of some people each."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, LENGTH + 1, BODIES)
    histories = [ids[rng.integers(0, len(ids), length)].tolist() for length in lengths]
    groups = [histories[begin : begin + people] for begin in range(0, BODIES, people)]
    lines = [json.dumps({"histories": own, "k": K}) for own in groups]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def crowd_of(bodies: pathlib.Path) -> pathlib.Path:
    """The file of requests with `CROWD` histories each, next to that of requests with one."""
    return bodies.with_suffix(".crowd")


def by_wrk(port: int, bodies: pathlib.Path, seconds: float, connections: int) -> dict[str, Any]:
    """The measurement of wrk with a number of connections that are always busy."""
    script = bodies.with_suffix(".lua")
    script.write_text(WRK_SCRIPT, encoding="utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=10s"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}/recommend"]
    done = subprocess.run(
        command,
        env=os.environ | {"BODIES": str(bodies)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    statuses = {"200": found["requests"] - found["status"], "others": found["status"]}
    return {
        "connections": connections,
        "answered_per_second": statuses["200"] / found["seconds"],
        "statuses": {**statuses, "broken": found["broken"]},
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
    }


def by_own_client(
    port: int, bodies: pathlib.Path, seconds: float, connections: int, rate: float | None = None
) -> dict[str, Any]:
    """The measurement of `serving_load`, at a fixed rate if one is given."""
    command = [sys.executable, "-m", "benchmarks.serving_load", str(port), str(bodies)]
    command += [f"--seconds={seconds}", f"--connections={connections}"]
    command += [] if rate is None else [f"--rate={rate}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    about: dict[str, Any], port: int, bodies: pathlib.Path, plan: "Plan", own: bool
) -> dict[str, Any]:
    """Rates by connections, times at half of the largest rate, and answers under overload; for our service also changes under load.

    Args:
      about: the description of the process by `served`.
      port: of the service.
      bodies: a file of requests; `crowd_of` it is there too.
      plan: length of each load.
      own: whether the service can reload its model.
    """
    closed = by_wrk if shutil.which("wrk") else by_own_client
    closed(port, bodies, plan.short, 16)  # warm
    rising = [closed(port, bodies, plan.short, connections) for connections in plan.connections]
    largest = max(row["answered_per_second"] for row in rising)
    with Memory(about["pid"]) as memory:
        half = by_own_client(port, bodies, plan.steady, 128, largest / 2)
    found = {
        "rising": rising,
        "largest_per_second": largest,
        "at_half": half,
        "memory": memory.summary(),
        "overload": by_own_client(port, bodies, max(plan.short, 8.0), OVERLOAD),
    }
    if own:
        found["ten_times"] = ten_times(port, crowd_of(bodies), plan)
    found["after"] = by_own_client(port, bodies, plan.short, 8)
    return found | (under_change(port, bodies, plan, largest / 4) if own else {})


def ten_times(port: int, bodies: pathlib.Path, plan: "Plan") -> dict[str, Any]:
    """Answers to `TIMES` times the largest rate of requests with `CROWD` histories, and that rate."""
    rates = [
        by_own_client(port, bodies, plan.short, connections)["answered_per_second"]
        for connections in (4, 16)  # 16 such requests fill the queue
    ]
    largest = max(rates)
    load = by_own_client(port, bodies, max(plan.short, 8.0), OVERLOAD, TIMES * largest)
    return {"histories": CROWD, "largest_per_second": largest, **load}


class Plan(NamedTuple):
    """Lengths of the loads.

    Attributes:
      short: seconds of each load, except the steady one.
      steady: seconds of the load at half of the largest rate.
      connections: numbers of connections with which the largest rate is searched.
    """

    short: float
    steady: float
    connections: tuple[int, ...]


def under_change(
    port: int, bodies: pathlib.Path, plan: Plan, rate: float
) -> dict[str, dict[str, Any]]:
    """Statuses and times of requests while the model is loaded again, and while an item is removed and added back."""
    item = json.loads(bodies.read_text(encoding="utf-8").splitlines()[0])["histories"][0][0]
    removed = [("DELETE", f"/items/{urllib.parse.quote(str(item), safe='')}", None)]
    back = [("PUT", "/items", {"items": [{"item": item, "title": "again"}]})]
    found = {}
    for name, changes in (("reload", [("POST", "/reload", {})]), ("items", 3 * (removed + back))):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            load = pool.submit(by_own_client, port, bodies, 3 * plan.short, 32, rate)
            time.sleep(min(2.0, plan.short))
            seconds = []
            for method, path, body in changes:
                began = time.perf_counter()
                status = asked(port, method, path, body)
                if status != 200:
                    raise UserError(
                        f"{method} {path}: answered {status}; expected 200, for it is part of the load"
                    )
                seconds.append(time.perf_counter() - began)
        found[f"under_{name}"] = {"seconds": seconds, **load.result()}
    return found


def asked(port: int, method: str, path: str, body: Any) -> int:
    """The status of one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method)
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def commands_of(
    folder: pathlib.Path, num_items: int, port: int, wanted: Sequence[str], quick: bool
) -> dict[str, list[str]]:
    """Name -> the command of each service that is named and installed.

    Raises:
      UserError: the rival is not installed, and the run would be recorded.
    """
    own = [sys.executable, "-m", "grasp_jax.serving.http.cli", str(folder), f"--port={port}"]
    commands = {OURS: [*own, "--quiet"]}
    if num_items >= APPROXIMATE_FROM and importlib.util.find_spec("scann"):
        commands[APPROXIMATE] = [*own, "--quiet", "--approximate"]
    if RIVAL.exists():
        rival = [str(RIVAL), "-m", "benchmarks.rivals.torch_service", f"--port={port}"]
        sizes = [f"--items={num_items}", f"--features={FEATURES}", f"--length={LENGTH}"]
        commands[THEIRS] = rival + sizes
    elif not quick and THEIRS in wanted:
        raise UserError(
            f"{RIVAL.relative_to(ROOT)}: not there; expected the rival, which `make rival-torch_service` installs"
        )
    return {name: command for name, command in commands.items() if name in wanted}


def row_of(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    half, over, reload = (found.get(name) for name in ("at_half", "overload", "under_reload"))
    assert half is not None and over is not None
    end = found["memory"]["end_bytes"]
    return [
        f"{found['service']}, {found['items']:,} items",
        f"{found['largest_per_second']:,.0f}",
        *("-" if half[name] is None else f"{half[name]:.1f}" for name in ("p50_ms", "p99_ms")),
        json.dumps(half["statuses"]),
        json.dumps(over["statuses"]),
        "-" if reload is None else json.dumps(reload["statuses"]),
        f"{found['ready_seconds']:.0f}",
        "-" if end is None else f"{end / 2**20:,.0f}",
        f"{found['peak_bytes'] / 2**20:,.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each service, prints, and writes JSON."""
    parser = parser_of("serving", __doc__)
    parser.add_argument(
        "--items", default="12101,1200000", help="items of the untrained models, comma separated"
    )
    parser.add_argument(
        "--model", type=pathlib.Path, help="a saved model instead of untrained ones"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="seconds of the load at half of the largest rate",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="minutes of that load, instead of --seconds; shows whether memory grows",
    )
    parser.add_argument(
        "--services",
        default=",".join(SERVICES),
        help="services to measure: some of exact, approximate and rival",
    )
    parser.add_argument(
        "--merge", type=pathlib.Path, help="a record whose other services are kept in the new one"
    )
    given = parser.parse_args(arguments)
    wanted = [SERVICES[name] for name in names_of(parser, "--services", given.services, SERVICES)]
    earlier = [] if given.merge is None else services_of(given.merge)
    if given.model is not None and not is_saved_model(given.model):
        raise UserError(f"--model: {given.model} holds no saved model; expected a folder of `save`")
    sizes = [] if given.model else [int(part) for part in given.items.split(",")]
    steady = given.seconds if given.minutes is None else 60 * given.minutes
    plan = Plan(SHORT, steady, CONNECTIONS)
    if given.quick:
        plan = Plan(2.0, min(steady, 3.0), QUICK_CONNECTIONS)
    contention, measured = Contention(), []
    with tempfile.TemporaryDirectory(prefix="serving-") as temporary:
        for num_items in sizes or [0]:
            folder = given.model or pathlib.Path(temporary) / f"model-{num_items}"
            if num_items:
                save_artifact(untrained(num_items), folder)
            ids, bodies = load_artifact(folder).catalogue.ids, pathlib.Path(temporary) / "bodies"
            write_bodies(bodies, ids)
            write_bodies(crowd_of(bodies), ids, CROWD)
            port = free_port()
            commands = commands_of(folder, len(ids), port, wanted, given.quick)
            for name, command in commands.items():
                with served(command, port, pathlib.Path(temporary) / "log") as about:
                    found = measure(about, port, bodies, plan, name != THEIRS)
                measured.append({"service": name, "items": len(ids), **found, **about})
                print(f"{name}, {len(ids):,} items: done", flush=True)
    header = ["service", "requests/s", "p50 at half, ms", "p99, ms", "answers", "above it"]
    header += ["during a reload", "start, s", "MiB", "MiB at most"]
    print(table(header, [row_of(found) for found in measured]))
    measured = merged(earlier, measured)
    facts = {"seconds": plan.steady, "k": K, "length": LENGTH, "services": measured}
    keep("serving", facts, contention, given, _ratio(measured))


def services_of(path: pathlib.Path) -> list[dict[str, Any]]:
    """The services of a record, each with the date and the commit of its measurement.

    Raises:
      UserError: the file does not exist or is not a record of this benchmark.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        when = {"date": record["date"], "commit": record["machine"]["commit"]}
        return [{"measured": when} | own for own in record["services"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--merge: {path} is no record of this benchmark ({type(error).__name__}); expected a JSON file that benchmarks.serving wrote"
        ) from error


def merged(
    earlier: Sequence[dict[str, Any]], measured: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Services of an earlier record in their order; new measurements replace earlier ones, and new services come at the end."""
    places = {(own["service"], own["items"]): own for own in (*earlier, *measured)}
    return list(places.values())


def _ratio(measured: Sequence[dict[str, Any]]) -> str:
    """The last line: the rates of our services over those of the rival."""
    rates = {(own["items"], own["service"]): own["largest_per_second"] for own in measured}
    parts = []
    for (items, name), rate in rates.items():
        other = rates.get((items, THEIRS))
        if name != THEIRS and other:
            parts.append(f"{name} {rate / other:.1f}x at {items:,} items")
        elif name != THEIRS:
            parts.append(f"{name} nothing to compare with at {items:,} items")
    return f"so many times the requests of FastAPI and PyTorch: {', '.join(parts)}"


if __name__ == "__main__":
    run(main)
