"""Requests a second of `grasp-serve`, and of the service one writes first in PyTorch: python -m benchmarks.serving [--quick] [--out=JSON]

    make rival-torch_service
    python -m benchmarks.serving [--items=12101,1200000] [--model=FOLDER] [--seconds=60]

Without --model an untrained SASRec of that many items is saved and served, for speed does not depend on the parameters. Load comes from a
process of its own on the same cores: wrk where it is on the path, else `benchmarks.serving_load`. It keeps more and more connections busy,
and the largest rate counts. Then `serving_load` sends half of it at fixed times, and last keeps `OVERLOAD` connections busy, more than the
service lets wait. A person of a request has 1 to 50 items in the history and is given ten. Both services write no line for a request.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.apart import ROOT
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from grasp_jax.config import Config
from grasp_jax.errors import UserError
from grasp_jax.evaluation.ranker import item_features
from grasp_jax.models.build import build_model
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.serving.artifact import (
    Artifact,
    Catalogue,
    is_saved_model,
    load_artifact,
    on_host,
    save_artifact,
)
from grasp_jax.serving.programs import one_history

RIVAL = ROOT / ".rivals" / "torch_service" / "bin" / "python"
LENGTH, FEATURES, K, BODIES = 50, 64, 10, 2000
CONNECTIONS, QUICK_CONNECTIONS, OVERLOAD = (1, 4, 16, 64, 256), (1, 16, 64), 1536
STARTS = 300  # seconds in which a service must be ready
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


def untrained(num_items: int) -> Artifact:
    """A plain SASRec that was not trained."""
    changes = {"model.features": FEATURES, "data.max_length": LENGTH, "model.method": "plain"}
    config = Config().with_fields(changes)
    sizes = ModelSizes(num_items, LENGTH)
    model = build_model(config.model, "plain", "sasrec", sizes)
    batch, _ = one_history(model.backbone.mask_at, jnp.zeros(LENGTH, jnp.int32), jnp.int32(1), None)
    params = jax.jit(lambda key: model.init(key, {}, batch)["params"])(jax.random.key(0))
    ids = np.arange(num_items)
    titles = np.array([f"Item number {n}" for n in range(num_items)])
    catalogue = Catalogue(ids, titles, np.ones(num_items, np.int64), {})
    features = np.asarray(item_features(model, params, {}))
    return Artifact(
        "plain", "sasrec", config, sizes, on_host(params), features, catalogue, {}, None, {}
    )


def write_bodies(path: pathlib.Path, ids: np.ndarray) -> None:
    """Bodies of requests, one a line."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, LENGTH + 1, BODIES)
    histories = [ids[rng.integers(0, len(ids), length)].tolist() for length in lengths]
    lines = [json.dumps({"histories": [own], "k": K}) for own in histories]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def served(command: Sequence[str], port: int, log: pathlib.Path) -> Iterator[dict[str, float]]:
    """A service while it runs, with the seconds until it was ready.

    Raises:
      UserError: it ended, or was not ready in time.
    """
    began = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - began > STARTS:
                said = " ".join(log.read_text(errors="replace").split())[-400:]
                raise UserError(
                    f"{' '.join(command)}: not ready; expected /ready to answer 200; it said {said!r}"
                )
            time.sleep(0.2)
        found = {"ready_seconds": time.perf_counter() - began}
        yield found
        found["peak_bytes"] = _peak_bytes(process.pid)
        found["alive_at_the_end"] = float(process.poll() is None)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _peak_bytes(pid: int) -> float:
    """Largest resident size so far; not a number where /proc does not say."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return 1024.0 * int(line.split()[1])
    return float("nan")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        port: int = any_free.getsockname()[1]
        return port


def by_wrk(port: int, bodies: pathlib.Path, seconds: float, connections: int) -> dict[str, Any]:
    """What wrk measures with so many connections that are always busy."""
    script = bodies.with_suffix(".lua")
    script.write_text(WRK_SCRIPT, encoding="utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s"]
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
    """What `serving_load` measures, at a rate if there is one."""
    command = [sys.executable, "-m", "benchmarks.serving_load", str(port), str(bodies)]
    command += [f"--seconds={seconds}", f"--connections={connections}"]
    command += [] if rate is None else [f"--rate={rate}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(port: int, bodies: pathlib.Path, seconds: float, quick: bool) -> dict[str, Any]:
    """Rates by connections, times at half of the largest, and what happens far above it."""
    closed = by_wrk if shutil.which("wrk") else by_own_client
    closed(port, bodies, min(seconds, 5), 16)  # warm
    rising = [
        closed(port, bodies, seconds, connections)
        for connections in (QUICK_CONNECTIONS if quick else CONNECTIONS)
    ]
    largest = max(row["answered_per_second"] for row in rising)
    return {
        "rising": rising,
        "largest_per_second": largest,
        "at_half": by_own_client(port, bodies, seconds, 128, largest / 2),
        "overload": by_own_client(port, bodies, max(seconds, 8.0), OVERLOAD),
        "after": by_own_client(port, bodies, min(seconds, 5), 8),
    }


def commands_of(
    folder: pathlib.Path, num_items: int, port: int, quick: bool
) -> dict[str, list[str]]:
    """Name -> the command of each service.

    Raises:
      UserError: the rival is not installed for a run that is to be kept.
    """
    own = [sys.executable, "-m", "grasp_jax.serving.http.cli", str(folder), f"--port={port}"]
    commands = {"grasp-serve": [*own, "--quiet"]}
    if RIVAL.exists():
        rival = [str(RIVAL), "-m", "benchmarks.rivals.torch_service", f"--port={port}"]
        sizes = [f"--items={num_items}", f"--features={FEATURES}", f"--length={LENGTH}"]
        return commands | {"FastAPI and PyTorch": rival + sizes}
    if not quick:
        raise UserError(
            f"{RIVAL.relative_to(ROOT)}: not there; expected the rival, which `make rival-torch_service` installs"
        )
    return commands


def row_of(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    half, over = found["at_half"], found["overload"]["statuses"]
    return [
        f"{found['service']}, {found['items']:,} items",
        f"{found['largest_per_second']:,.0f}",
        *("-" if half[name] is None else f"{half[name]:.1f}" for name in ("p50_ms", "p99_ms")),
        json.dumps(half["statuses"]),
        json.dumps(over),
        f"{found['peak_bytes'] / 2**20:,.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each service, prints, and writes JSON."""
    parser = parser_of("serving", __doc__)
    parser.add_argument("--items", default="12101,1200000", help="sizes of untrained catalogues")
    parser.add_argument("--model", type=pathlib.Path, help="a saved model in place of those")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    given = parser.parse_args(arguments)
    if given.model is not None and not is_saved_model(given.model):
        raise UserError(f"--model: {given.model} holds no saved model; expected a folder of `save`")
    sizes = [] if given.model else [int(part) for part in given.items.split(",")]
    seconds = min(given.seconds, 3.0) if given.quick else given.seconds
    contention, measured = Contention(), []
    with tempfile.TemporaryDirectory(prefix="serving-") as temporary:
        for num_items in sizes or [0]:
            folder = given.model or pathlib.Path(temporary) / f"model-{num_items}"
            if num_items:
                save_artifact(untrained(num_items), folder)
            ids, bodies = load_artifact(folder).catalogue.ids, pathlib.Path(temporary) / "bodies"
            write_bodies(bodies, ids)
            port = free_port()
            for name, command in commands_of(folder, len(ids), port, given.quick).items():
                with served(command, port, pathlib.Path(temporary) / "log") as about:
                    found = measure(port, bodies, seconds, given.quick)
                measured.append({"service": name, "items": len(ids), **found, **about})
                print(f"{name}, {len(ids):,} items: done", flush=True)
    header = ["service", "requests/s", "p50 at half, ms", "p99, ms", "answers", "above it", "MiB"]
    print(table(header, [row_of(found) for found in measured]))
    facts = {"seconds": seconds, "k": K, "length": LENGTH, "services": measured}
    facts["load_by"] = "wrk" if shutil.which("wrk") else "benchmarks.serving_load"
    keep("serving", facts, contention, given, _ratio(measured))


def _ratio(measured: Sequence[dict[str, Any]]) -> str:
    """The last line: the rate of the first service over that of the second."""
    rates: dict[int, list[float]] = {}
    for found in measured:
        rates.setdefault(found["items"], []).append(found["largest_per_second"])
    parts = []
    for items, own in rates.items():
        if len(own) < 2 or not own[1]:
            parts.append(f"nothing to compare with at {items:,} items")
        else:
            parts.append(f"{own[0] / own[1]:.1f}x at {items:,} items")
    return (
        f"grasp-serve answers so many times the requests of FastAPI and PyTorch: {', '.join(parts)}"
    )


if __name__ == "__main__":
    run(main)
