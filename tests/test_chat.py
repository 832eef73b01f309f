"""Descriptions from a chat endpoint that behaves badly on purpose: all complete, none asked twice, none of another item."""

import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import default_config
from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.knowledge import chat
from grasp_jax.knowledge.answers import AnswerCache
from grasp_jax.knowledge.endpoint import Usage
from grasp_jax.knowledge.language_model import described, estimate, keys_of
from tests.chat_server import ChatServer, running

FAULTS = {
    "busy": 17, "broken": 23, "dropped": 29, "malformed": 31, "other": 37, "slow": 41,
    "na": 11, "endless": 13, "empty": 19, "refused": 43,
}  # fmt: skip


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    config = default_config().knowledge
    config.describe.concurrency, config.describe.max_characters = 8, 200
    return config


def prompt_of(row: int) -> str:
    return f"item {row // 2}"  # every prompt twice


def describe(folder: pathlib.Path, config: ConfigDict, num_rows: int = 400) -> tuple[list[tuple[str, str]], Usage]:
    with AnswerCache(folder) as cache:
        keys = keys_of(num_rows, prompt_of, chat.described_by(config))
        usage = chat.ask(cache.unanswered(keys), keys, prompt_of, cache, config, "items")
        return list(described(keys, cache, lambda row: f"template {row}")), usage


def test_a_server_that_misbehaves(tmp_path: pathlib.Path, settings: Any) -> None:
    """An item would be left out, paid for twice or get another's text, or the endpoint see more requests at once than it allows."""
    with running(ChatServer(FAULTS)) as server:
        settings.describe.base_url = server.url
        found, usage = describe(tmp_path, settings)
        assert usage.asked == 200 and usage.prompt_tokens > 0
        assert set(server.answered.values()) == {1} and len(server.answered) == 200
        assert server.most_in_flight <= 8 and server.requests > 200
        before = server.requests
        assert describe(tmp_path, settings)[0] == found and server.requests == before
    statuses = [status for _, status in found]
    assert {"ok", "na", "refused"} == set(statuses)
    for row, (text, status) in enumerate(found):
        assert found[row][0] == found[row ^ 1][0] or status != "ok"
        if status != "ok":
            assert text == f"template {row}"
        elif not text.startswith("word"):
            assert text.startswith(f"A thing of item {row // 2}, number ")
        assert len(text) <= 200 and "[" not in text


def test_same_text_from_a_server_that_behaves(tmp_path: pathlib.Path, settings: Any) -> None:
    """What a user gets would depend on the endpoint's moods."""
    content = {name: every for name, every in FAULTS.items() if name in ("na", "endless", "empty", "refused")}
    tables = []
    for folder, faults in (("bad", FAULTS), ("good", content)):
        with running(ChatServer(faults)) as server:
            settings.describe.base_url = server.url
            tables.append(describe(tmp_path / folder, settings, 100)[0])
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        (401, r"the key in OPENAI_API_KEY is refused \(status 401\); nothing more was asked", 1),
        (403, r"refused \(status 403\)", 1),
        (404, "no model 'gpt-4o-mini' here", 1),
        (400, "refused the first request", 1),
        (500, "no answer after 3 attempts: .*; what was answered is kept", 3),
    ],
)
def test_what_cannot_go_well_stops_at_once(tmp_path: pathlib.Path, settings: Any, status: int, expected: str, requests: int) -> None:
    """A wrong key would be tried ten thousand times, or stand in the error."""
    with running(ChatServer(status=status)) as server:
        settings.describe.base_url = server.url
        with pytest.raises(UserError, match=expected) as raised:
            describe(tmp_path, settings)
        assert server.requests == requests
    assert "sk-secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_endpoint_that_goes_down_later_keeps_what_it_answered(tmp_path: pathlib.Path, settings: Any) -> None:
    """Answers that were paid for would be lost, or the run go on for ever."""
    settings.describe.retries = 1
    server = ChatServer(seconds=0.0)
    with running(server):
        settings.describe.base_url = server.url
        describe(tmp_path, settings, 40)
    with pytest.raises(UserError, match="no answer after 2 attempts"):
        describe(tmp_path, settings, 400)
    with running(server):
        describe(tmp_path, settings, 400)
    assert set(server.answered.values()) == {1} and len(server.answered) == 200


def test_no_key_for_openai_itself(tmp_path: pathlib.Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error would come from the client, with a traceback."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="the environment has no OPENAI_API_KEY; set it to your key"):
        describe(tmp_path, settings)


def test_estimate_counts_what_is_missing(tmp_path: pathlib.Path, settings: Any) -> None:
    """--dry-run would announce the price of answers that are already there."""
    settings.describe.price_prompt, settings.describe.price_answer = 1.0, 2.0
    with running(ChatServer()) as server:
        settings.describe.base_url = server.url
        describe(tmp_path, settings, 40)
        asked = server.requests
        with AnswerCache(tmp_path) as cache:
            rows = cache.unanswered(keys_of(60, prompt_of, chat.described_by(settings)))
        assert rows.tolist() == list(range(40, 60, 2)) and server.requests == asked
    usage = estimate(rows, prompt_of, settings.describe.max_tokens)
    assert usage.asked == 10 and usage.answer_tokens == 10 * settings.describe.max_tokens
    np.testing.assert_allclose(usage.cost(settings.describe), (usage.prompt_tokens + 2 * usage.answer_tokens) / 1e6)


def test_an_address_without_its_scheme(tmp_path: pathlib.Path, settings: Any) -> None:
    """A newcomer would be told that the endpoint is down, after three attempts."""
    settings.describe.base_url = "localhost:8000/v1"
    with pytest.raises(UserError, match="base_url: 'localhost:8000/v1'; expected an address such as http://localhost:8000/v1"):
        describe(tmp_path, settings)
