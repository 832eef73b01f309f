"""Services in this process, small models for them, and the expected answers."""

import contextlib
import io
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

import grasp_jax as gj
from grasp_jax.serving.http.app import create_app
from grasp_jax.serving.http.metrics import JsonLines, Metrics
from grasp_jax.serving.http.service import Service
from grasp_jax.serving.http.settings import Limits, Settings
from grasp_jax.serving.http.source import open_model
from tests.bad_requests import Bad
from tests.trained import small_shop, trained

SECRET = "a-token-of-a-test-0123456789"


LIMITS = Limits(
    k=30, people=20, history=100, listed=500, new_items=10, body_bytes=1 << 16,
    body_seconds=60.0, seconds=60.0,  # a busy machine may take seconds; tests of these limits set their own
)  # fmt: skip


SETTINGS = Settings(limits=LIMITS, batch_sizes=(1, 8), lengths=(4,), log_requests=True)


class Running:
    """A service in this process, with its log."""

    def __init__(
        self, path: pathlib.Path, settings: Settings = SETTINGS, metrics: Metrics | None = None
    ) -> None:
        self.lines = io.StringIO()
        self.service = Service(settings, path, log=JsonLines(self.lines), metrics=metrics)
        assert self.service.load(open_model(path))
        self.app = create_app(self.service, nothing, nothing)
        self.client = TestClient(self.app, raise_server_exceptions=True)

    def post(self, route: str, /, **body: Any) -> Any:
        answer = self.client.post(route, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, bad: Bad) -> Any:
        return self.client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)


async def nothing() -> None:
    pass


@contextlib.contextmanager
def compilations(kind: str) -> Iterator[list[str]]:
    """Events of JAX whose names hold `kind`, as they happen."""
    found: list[str] = []

    def heard(event: str, seconds: float, **_: Any) -> None:
        if kind in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir "plain", the model saved from it as "saved", one that is damaged, and a folder with nothing."""
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(trained(tmp_path_factory, "sasrec"), root / "plain")
    gj.Recommender.load(root / "plain").save(root / "saved")
    shutil.copytree(root / "saved", root / "damaged")
    with next((root / "damaged").rglob("features.npy")).open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x7f")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def model(folders: pathlib.Path) -> gj.Recommender:
    return gj.Recommender.load(folders / "plain")


@pytest.fixture(scope="module")
def running(folders: pathlib.Path) -> Iterator[Running]:
    made = Running(folders / "plain", with_settings(models=folders))
    yield made
    made.service.stop()


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir of a model whose gates read texts."""
    folder = tmp_path_factory.mktemp("gated") / "run"
    shutil.copytree(trained(tmp_path_factory, "gru4rec"), folder)
    return folder


def with_settings(**changes: Any) -> Settings:
    return Settings(**{**vars(SETTINGS), **changes})


def histories(rng: np.random.Generator, count: int, longest: int = 30) -> list[list[int]]:
    return [rng.integers(1, 101, rng.integers(1, longest)).tolist() for _ in range(count)]


def assert_equal(results: list[dict[str, Any]], frame: Any) -> None:
    """The same items and scores as a frame of `recommend`, where no two scores tie."""
    for result, (_, rows) in zip(results, frame.groupby("user", sort=False), strict=True):
        assert [own["item"] for own in result["items"]] == rows["item"].tolist()
        found = [np.nan if own["score"] is None else own["score"] for own in result["items"]]
        np.testing.assert_allclose(found, rows["score"].to_numpy(), atol=1e-5)
