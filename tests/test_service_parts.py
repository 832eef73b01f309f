"""Parts of the service that need no model: the queue, diversity, flags and the deployment."""

import json
import pathlib
import threading
import time
from typing import Any

import numpy as np
import pytest
import yaml

from grasp_jax.data.dataset import data_settings
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.http import fixed_programs
from grasp_jax.serving.http.batching import Batcher, Overloaded
from grasp_jax.serving.http.cli import parser, settings_of
from grasp_jax.serving.http.diversity import diversified
from grasp_jax.serving.http.fixed_programs import Shapes
from grasp_jax.serving.http.server import GRACE
from grasp_jax.serving.http.settings import TOKEN, read_token
from grasp_jax.serving.http.source import read_as
from tests.refusal import assert_names, refusal

SECRET = "a-token-of-a-test-0123456789"
SECONDS = 60.0  # to wait for an answer that comes at once, unless the machine is busy


def test_maximal_marginal_relevance_by_hand() -> None:
    """A wrong sign or scale would pick other items."""
    unit = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    pool = Answer(np.array([0, 1, 2]), np.array([3.0, 2.9, 1.0], np.float32))
    # after item 0: item 1 is worth .5 * .95 - .5 * 1 < 0; item 2 is worth .5 * 0 - .5 * 0 = 0
    assert diversified(pool, unit.__getitem__, 2, 0.5).items.tolist() == [0, 2]
    assert diversified(pool, unit.__getitem__, 2, 0.1).items.tolist() == [0, 1]
    assert diversified(pool, unit.__getitem__, 3, 0.5).scores.tolist() == [
        3.0,
        1.0,
        np.float32(2.9),
    ]


def test_a_batch_that_fails_fails_alone() -> None:
    """One bad question would end the thread, and with it the service."""

    def answer(numbers: Any) -> list[int]:
        if 0 in numbers:
            raise ZeroDivisionError
        return [10 // n for n in numbers]

    batcher: Batcher[int, int] = Batcher(lambda n: n == 0, answer, lambda *_: 8, 16)
    with pytest.raises(ZeroDivisionError):
        batcher.submit([0], SECONDS).result(SECONDS)
    assert batcher.submit([1, 2, 5], SECONDS).result(SECONDS) == [10, 5, 2]
    with pytest.raises(Overloaded):
        batcher.submit([1] * 17, SECONDS)
    batcher.stop()
    with pytest.raises(Overloaded):
        batcher.submit([1], SECONDS)


def test_a_missing_answer_fails_its_batch_alone() -> None:
    """A program that loses a row would end the thread, and every later request would wait until its deadline."""
    batcher: Batcher[int, int] = Batcher(
        lambda n: n == 0, lambda numbers: [n for n in numbers if n], lambda *_: 8, 16
    )
    with pytest.raises(ValueError, match="shorter"):
        batcher.submit([0], SECONDS).result(SECONDS)
    assert batcher.submit([1, 2], SECONDS).result(SECONDS) == [1, 2]
    batcher.stop()


def test_a_batch_leaves_the_rest_to_the_next_one() -> None:
    """Seventeen people would pay for thirty-two, later ones wait behind a group of others, or the oldest wait for ever."""
    release, sizes = threading.Event(), list[int]()

    def answer(numbers: Any) -> list[int]:
        release.wait(SECONDS)
        return [*numbers]

    shapes = Shapes((1, 8, 16, 32, 64), (50,), 1024, 10, 8)
    batcher: Batcher[int, int] = Batcher(
        lambda n: n % 2, answer, lambda _, waiting: shapes.batch(waiting), 99, sizes.append
    )
    first = batcher.submit([1], SECONDS)
    while batcher.waiting:  # until the first one is being answered
        time.sleep(0.001)
    late = batcher.submit([1], 0)
    others = [batcher.submit([n], SECONDS) for n in (*range(0, 34, 2), 3, *range(34, 50, 2))]
    release.set()
    assert first.result(SECONDS) == [1] and [own.result(SECONDS) for own in others] == [
        [n] for n in (*range(0, 34, 2), 3, *range(34, 50, 2))
    ]
    assert sizes == [1, 25, 1] and late.cancelled()
    batcher.stop()


@pytest.mark.parametrize("sizes", [fixed_programs.SMALL_SIZES, fixed_programs.LARGE_SIZES, (4,)])
def test_parts_hold_everybody_once(sizes: tuple[int, ...]) -> None:
    """Somebody would be left out or answered twice, or a batch hold more people than its program."""
    shapes = Shapes(sizes, (50,), 1024, 10, 8)
    for people in range(150):
        parts = list(shapes.parts(range(people)))
        assert [n for part, _ in parts for n in part] == list(range(people))
        assert all(len(part) <= size and size in sizes for part, size in parts)


def test_a_batch_is_not_mostly_filling() -> None:
    """Nine people would wait for the program of sixty-four, or thirty-three of a large catalogue for one of twice their size."""

    def sizes_of(sizes: tuple[int, ...], *counts: int) -> list[int]:
        return [Shapes(sizes, (50,), 1024, 10, 8).batch(people) for people in counts]

    small, large = fixed_programs.SMALL_SIZES, fixed_programs.LARGE_SIZES
    assert sizes_of(small, 1, 3, 4, 9, 31, 33, 64, 65) == [1, 1, 8, 8, 8, 64, 64, 64]
    assert sizes_of(large, 3, 4, 9, 12, 17, 24, 33, 47, 48) == [1, 8, 8, 16, 16, 32, 32, 32, 64]
    assert sizes_of((4,), 1, 5) == [4, 4]


def test_the_deployment_asks_for_what_the_service_has() -> None:
    """A pod would never be ready, run as root, start without a token, or be killed while it answers."""
    root = pathlib.Path(__file__).parent.parent / "launch" / "serve"
    deployment, service = yaml.safe_load_all((root / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health",
    }  # fmt: skip
    (token,) = container["env"]
    assert token["name"] == TOKEN and token["valueFrom"]["secretKeyRef"] == {
        "name": "grasp-serve",
        "key": "token",
    }
    given = parser().parse_args(container["args"])
    assert (
        given.host == "0.0.0.0"
        and given.port == container["ports"][0]["containerPort"]
        and not given.insecure
    )
    assert given.models == container["volumeMounts"][0]["mountPath"]
    assert (
        pod["terminationGracePeriodSeconds"] >= GRACE + 5 and pod["securityContext"]["runAsNonRoot"]
    )
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    lines = (root / "Dockerfile").read_text().splitlines()
    starts = [
        line.split(" ", 1) for line in lines if line.startswith(("ENTRYPOINT", "CMD", "USER"))
    ]
    instructions = {
        kind: json.loads(rest) if rest.startswith("[") else rest for kind, rest in starts
    }
    assert instructions["ENTRYPOINT"] == ["grasp-serve"] and instructions["USER"] == "10001"
    assert parser().parse_args(instructions["CMD"]).host == "0.0.0.0"


def test_flags_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service would be open to strangers by mistake, or a flag be taken for something else."""
    monkeypatch.delenv(TOKEN, raising=False)

    def refused(*flags: str) -> str:
        return refusal(lambda: settings_of(parser().parse_args(["model", *flags])))

    assert_names(refused("--host=0.0.0.0"), (TOKEN, "--insecure"))
    assert_names(refused("--host="), ("--host", "empty"))
    assert_names(refused("--port=70000"), ("--port: 70000", "65535"))
    assert_names(refused("--port=http"), ("--port", "http"))
    assert_names(refused("--batch-sizes=1,x"), ("--batch-sizes: '1,x'",))
    assert_names(refused(f"--batch-sizes={'9' * 5000}"), ("--batch-sizes: '999", "1 to 4096"))
    assert_names(refused("--queue=0"), ("--queue: 0", "above 0"))
    assert_names(refused("--body-bytes=0"), ("--body-bytes: 0", "above 0"))
    assert_names(refused("--data=nowhere"), ("--data: 'nowhere'", "expected a folder"))
    assert_names(refused("--seconds=nan"), ("--seconds: nan",))
    assert_names(refused("--models=nowhere-at-all"), ("--models: 'nowhere-at-all'",))
    assert_names(refused("--colour=red"), ("--colour=red", "--help"))
    assert settings_of(parser().parse_args(["model", "--host=0.0.0.0", "--insecure"])).token is None
    for host in ("127.0.0.1", "::1", "localhost", "127.5.5.5"):
        assert settings_of(parser().parse_args(["model", f"--host={host}"])).token is None
    message = refusal(read_token, {TOKEN: "short"})
    assert_names(message, (TOKEN, "5 characters", "at least 16"))
    assert "short" not in message
    assert_names(refusal(read_token, {TOKEN: "with blanks in between"}), ("blanks",))
    monkeypatch.setenv(TOKEN, SECRET)
    assert settings_of(parser().parse_args(["model", "--host=0.0.0.0"])).token == SECRET


def test_users_are_read_by_the_names_of_the_models_own_data(tmp_path: pathlib.Path) -> None:
    """--data would be refused wherever columns are not called user and item, and no flag of the service could mend it."""
    columns = {"user": "customer", "item": "sku"}
    config = data_settings({"columns": columns, "interactions_file": "orders.csv", "ties": "file"})
    (tmp_path / "orders.csv").write_text("customer,sku\nann,7\nlee,9\n")
    assert read_as(config, str(tmp_path)).user_ids.tolist() == ["ann", "lee"]
    (tmp_path / "orders.csv").rename(tmp_path / "interactions.csv")
    assert read_as(config, str(tmp_path)).item_ids.tolist() == [7, 9], "a file of the usual name"
    (tmp_path / "interactions.csv").write_text("user,sku\nann,7\n")
    said = refusal(read_as, config, str(tmp_path))
    assert_names(said, ("--data", "no column 'customer'", "with which the model was trained"))


def test_items_that_come_later_have_rows_behind_the_others() -> None:
    """A new item would be found by the row of another, where what was found of the old ones is kept."""
    old = Catalogue(np.array([7, 5]), np.array(["Red", "Blue"]), np.array([1, 4]), {})
    more = Catalogue(np.array([9]), np.array(["A longer TITLE"]), np.array([0]), {})
    fresh = old.followed_by(more)
    assert old.rows == {"7": 0, "5": 1} and old.folded_titles.to_pylist() == [b"red", b"blue"]
    kept = old.followed_by(more)
    assert {"rows", "folded_titles"} <= vars(kept).keys() and "rows" not in vars(fresh)
    for both in (fresh, kept):
        assert both.rows == {"7": 0, "5": 1, "9": 2}
        assert both.folded_titles.to_pylist() == [b"red", b"blue", b"a longer title"]
        assert both.titles.tolist() == ["Red", "Blue", "A longer TITLE"]
        assert both.by_count.tolist() == [1, 0, 2]
    assert old.rows == {"7": 0, "5": 1}
