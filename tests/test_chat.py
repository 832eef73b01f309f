"""Descriptions from a chat endpoint with deliberate faults: all complete, none requested twice, none of another item."""

import dataclasses
import pathlib
import re
import socket
import types
from typing import Any, ClassVar

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.config.address import OPENAI, check_endpoint, redacted, resolved
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.knowledge.describe import chat, describers
from grasp_jax.knowledge.describe.language_model import described, estimate, keys_of
from grasp_jax.knowledge.endpoint import client
from grasp_jax.knowledge.endpoint.cache import AnswerCache
from grasp_jax.knowledge.endpoint.client import Usage
from tests.chat_server import ChatServer, running
from tests.refusal import refusal

FAULTS = {
    "busy": 17,
    "broken": 23,
    "dropped": 29,
    "malformed": 31,
    "other": 37,
    "slow": 41,
    "na": 11,
    "endless": 13,
    "empty": 19,
    "refused": 43,
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> KnowledgeConfig:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    config = KnowledgeConfig().with_fields(
        {"describe.concurrency": 8, "describe.max_characters": 200}
    )
    return config


def prompt_of(row: int) -> str:
    return f"item {row // 2}"  # every prompt twice


def describe(
    folder: pathlib.Path, config: KnowledgeConfig, num_rows: int = 400
) -> tuple[list[tuple[str, str]], Usage]:
    with AnswerCache(folder) as cache:
        keys = keys_of(num_rows, prompt_of, chat.CHAT, config)
        usage = chat.request_answers(
            cache.unanswered(keys), keys, prompt_of, cache, config, "items"
        )
        return list(described(keys, cache, lambda row: f"template {row}")), usage


def test_a_server_that_misbehaves(tmp_path: pathlib.Path, settings: Any) -> None:
    """An item would be left out, paid for twice or get another's text, or the endpoint see more requests at once than it allows."""
    with running(ChatServer(FAULTS)) as server:
        settings = settings.with_fields({"describe.base_url": server.url})
        found, usage = describe(tmp_path, settings)
        assert usage.requests == 200 and usage.prompt_tokens > 0
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
    content = {
        name: every
        for name, every in FAULTS.items()
        if name in ("na", "endless", "empty", "refused")
    }
    tables = []
    for folder, faults in (("bad", FAULTS), ("good", content)):
        with running(ChatServer(faults)) as server:
            settings = settings.with_fields({"describe.base_url": server.url})
            tables.append(describe(tmp_path / folder, settings, 100)[0])
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        (
            401,
            r"the key in OPENAI_API_KEY is refused \(status 401\); set another key. No more requests were sent",
            1,
        ),
        (403, r"refused \(status 403\)", 1),
        (404, "no model 'gpt-4o-mini' here", 1),
        (400, "refused the first request", 1),
        (500, "no answer after 3 attempts: .*; all answers so far are kept", 3),
    ],
)
def test_what_cannot_go_well_stops_at_once(
    tmp_path: pathlib.Path, settings: Any, status: int, expected: str, requests: int
) -> None:
    """A wrong key would be tried ten thousand times, or stand in the error; or the caller of a service be blamed, and read the address."""
    with running(ChatServer(status=status)) as server:
        settings = settings.with_fields({"describe.base_url": server.url})
        with pytest.raises(EndpointError, match=expected) as raised:
            describe(tmp_path, settings)
        assert server.requests == requests and raised.value.where == server.url
    assert "sk-secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_endpoint_that_goes_down_later_keeps_what_it_answered(
    tmp_path: pathlib.Path, settings: Any
) -> None:
    """Answers that were paid for would be lost, or the run go on for ever."""
    settings = settings.with_fields({"describe.retries": 1})
    with socket.socket() as kept:  # so that no other program gets the port between the two servers
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        server = ChatServer(seconds=0.0, port=kept.getsockname()[1])
        settings = settings.with_fields({"describe.base_url": server.url})
        with running(server):
            describe(tmp_path, settings, 40)
        with pytest.raises(UserError, match="no answer after 2 attempts"):
            describe(tmp_path, settings, 400)
        with running(server):
            describe(tmp_path, settings, 400)
    assert set(server.answered.values()) == {1} and len(server.answered) == 200


def test_no_key_for_openai_itself(
    tmp_path: pathlib.Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error would come from the client, with a traceback."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(
        UserError, match="the environment has no OPENAI_API_KEY; set it to your key"
    ):
        describe(tmp_path, settings)


def test_estimate_counts_what_is_missing(tmp_path: pathlib.Path, settings: Any) -> None:
    """--dry-run would announce the price of answers that are already there."""
    settings = settings.with_fields({"describe.price_prompt": 1.0, "describe.price_answer": 2.0})
    with running(ChatServer()) as server:
        settings = settings.with_fields({"describe.base_url": server.url})
        describe(tmp_path, settings, 40)
        asked = server.requests
        with AnswerCache(tmp_path) as cache:
            rows = cache.unanswered(keys_of(60, prompt_of, chat.CHAT, settings))
        assert rows.tolist() == list(range(40, 60, 2)) and server.requests == asked
    usage = estimate(rows, prompt_of, settings.describe.max_tokens)
    assert usage.requests == 10 and usage.answer_tokens == 10 * settings.describe.max_tokens
    np.testing.assert_allclose(
        usage.cost(settings.describe), (usage.prompt_tokens + 2 * usage.answer_tokens) / 1e6
    )


def test_an_address_without_its_scheme(tmp_path: pathlib.Path, settings: Any) -> None:
    """A newcomer would be told that the endpoint is down, after three attempts."""
    settings = dataclasses.replace(
        settings, describe=dataclasses.replace(settings.describe, base_url="localhost:8000/v1")
    )
    with pytest.raises(
        UserError,
        match="base_url: 'localhost:8000/v1'; expected an address such as http://localhost:8000/v1",
    ):
        describe(tmp_path, settings)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(tmp_path: pathlib.Path, settings: Any, status: int) -> None:
    """Prompts would go to a host that nobody named, and the user not learn of it."""
    with running(ChatServer()) as other, running(ChatServer(status=status)) as server:
        server.location = f"http://localhost:{other.port}/v1/chat/completions?token=abc"
        settings = settings.with_fields({"describe.base_url": server.url})
        message = refusal(describe, tmp_path, settings)
        assert (other.requests, server.requests) == (0, 1)
    assert (
        f"{server.url}: redirects to localhost (status {status}), which is not followed" in message
        and "abc" not in message
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html><body>Please log in</body></html>", "not the protocol's JSON"),
        (b'{"choices": []}', "not the protocol's JSON"),
        (b'{"choices": [{"message": {"content": ["a", "b"]}}]}', "content is"),
        (b'{"error": "overloaded"}', "with the error 'overloaded'"),
        (b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not the protocol's JSON"),
    ],
    ids=["html", "empty", "parts", "error", "deep"],
)
def test_replies_that_are_none_are_one_line(
    tmp_path: pathlib.Path, settings: Any, content: bytes, reason: str
) -> None:
    """A login page, or JSON nested absurdly deep, would end in a traceback or become an item's text."""
    settings = settings.with_fields({"describe.retries": 0})
    with running(ChatServer(content=content)) as server:
        settings = settings.with_fields({"describe.base_url": server.url})
        message = refusal(describe, tmp_path, settings)
    assert "1 times no answer to one request" in message and reason in message


SECRETS = {
    "http://host/v1?api_key=SECRET1": "a query or a fragment",
    "http://host/v1#SECRET1": "a query or a fragment",
    "http://user:SECRET1@host/v1": "a name or a password",
    "http://host/v1/sk-SECRET1": "what looks like a key",
    "sk-SECRET1": "what looks like a key",
    "http://host/v1;key=SECRET1": "no address",
    "ftp://host/SECRET1": "no address",
    "http://host:99999/v1": "'http://host:99999/v1'",
    "localhost:8000/v1": "'localhost:8000/v1'",
}


@pytest.mark.parametrize("address", SECRETS)
def test_an_address_is_nothing_but_an_address(settings: Any, address: str) -> None:
    """A key would stand in config.json, results.json and the terminal."""
    message = refusal(settings.with_fields, {"embed.base_url": address})
    assert message == refusal(
        check_endpoint,
        dataclasses.replace(settings.embed, base_url=address),
        "config.knowledge.embed",
    )
    assert (
        message.startswith("config.knowledge.embed.base_url: ")
        and SECRETS[address] in message
        and "http://localhost:8000/v1" in message
    )
    assert "SECRET1" not in message


@pytest.mark.parametrize(
    "key", ["sk-SECRET1", "abcSECRET1", "A" * 65, "AKIA0123456789SECRET1", "KEY SECRET1"]
)
def test_a_key_is_no_name_of_a_variable(settings: Any, key: str) -> None:
    """A key given in place of its variable's name would be written and printed; what the environment has is a name."""
    message = refusal(
        check_endpoint,
        dataclasses.replace(settings.describe, key_variable=key),
        "config.knowledge.describe",
        {},
    )
    assert message == refusal(settings.with_fields, {"describe.key_variable": key})
    assert message.startswith(
        "config.knowledge.describe.key_variable: not the name of an environment variable, such as OPENAI_API_KEY"
    )
    assert key not in message
    for name, environment in (
        ("OPENAI_API_KEY", {}),
        ("K2", {}),
        ("my_key", {"my_key": "x"}),
        ("", {}),
    ):
        check_endpoint(
            dataclasses.replace(settings.describe, key_variable=name),
            "config.knowledge.describe",
            environment,
        )


def test_where_it_goes_is_said_as_the_client_has_it(
    tmp_path: pathlib.Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--dry-run would say OpenAI, and the prompts go to where an old variable of the environment points."""
    settings = settings.with_fields(
        {"describer": "openai", "describe.cache": str(tmp_path / "answers")}
    )
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert f"go to OpenAI ({OPENAI})" in describers.what_is_missing("items", 4, prompt_of, settings)
    with running(ChatServer()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY")
        assert f"go to OPENAI_BASE_URL={server.url}, model" in describers.what_is_missing(
            "items", 4, prompt_of, settings
        )
        describe(tmp_path / "asked", settings, 4)
        assert server.requests == 2
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host/v1?key=SECRET1")
    message = refusal(describers.what_is_missing, "items", 4, prompt_of, settings)
    assert message.startswith("the environment's OPENAI_BASE_URL: ") and "SECRET1" not in message
    settings = settings.with_fields({"describe.base_url": "http://own/v1"})
    assert resolved(settings.describe).in_words == "http://own/v1", (
        "the config's own address comes first"
    )


def test_answers_of_two_servers_do_not_mix(tmp_path: pathlib.Path, settings: Any) -> None:
    """Texts of another model of the same name would be taken for those of this one; or old ones be paid for again."""
    settings = settings.with_fields({"describer": "openai", "describe.cache": str(tmp_path)})
    by_model = settings.with_fields({"describe.cache_by": "model"})
    with running(ChatServer()) as server, running(ChatServer()) as other:
        settings, by_model, elsewhere = (
            own.with_fields({"describe.base_url": url})
            for own, url in ((settings, server.url), (by_model, server.url), (settings, other.url))
        )
        describe(tmp_path, by_model, 4)  # as version 0.3.0 kept them
        said = describers.what_is_missing("items", 4, prompt_of, settings)
        assert f"2 of the answers are in {tmp_path} without their server's address" in said
        assert "config.knowledge.describe.cache_by=model" in said
        assert describers.count_unanswered(4, prompt_of, settings)[0] == 2
        message = refusal(describers.by_language_model, "items", 4, prompt_of, settings)
        assert message.startswith("describe items: 2 of the answers") and server.requests == 2
        new = {"describe.cache": str(tmp_path / "new")}
        settings, elsewhere = settings.with_fields(new), elsewhere.with_fields(new)
        for own in (settings, elsewhere, settings, elsewhere):
            describers.by_language_model("items", 4, prompt_of, own)
        assert (server.requests, other.requests) == (4, 2)
        assert "not used" not in describers.what_is_missing("items", 4, prompt_of, settings)


def test_answers_of_an_address_are_used_without_it(tmp_path: pathlib.Path, settings: Any) -> None:
    """Who sets cache_by=model because the server moves would pay for all answers again, without a word."""
    settings = settings.with_fields({"describer": "openai", "describe.cache": str(tmp_path)})
    with running(ChatServer()) as server, running(ChatServer()) as moved:
        kept, here = (
            settings.with_fields({"describe.base_url": server.url, "describe.cache_by": by})
            for by in ("address", "model")
        )
        there = here.with_fields({"describe.base_url": moved.url})
        texts = [describers.by_language_model("items", 4, prompt_of, kept)[0]]
        assert "all 4 are answered" in describers.what_is_missing("items", 4, prompt_of, here)
        assert describers.count_unanswered(4, prompt_of, there)[0] == 2, "a dry run changes nothing"
        describers.by_language_model("items", 4, prompt_of, here)
        assert describers.count_unanswered(4, prompt_of, there) == (0, "")
        texts += [describers.by_language_model("items", 6, prompt_of, there)[0][:4]]
        assert texts[0] == texts[1] and (server.requests, moved.requests) == (2, 1)


def test_keys_are_taken_out_of_a_command_line() -> None:
    """results.json, which is passed on, would hold the key; or a setting be taken for one."""
    command = "main --a=sk-SECRET1 --b=http://u:SECRET1@h/v1?api_key=SECRET1&x=1 Authorization: Bearer SECRET1 --password=SECRET1"
    assert (
        redacted(command)
        == "main --a=*** --b=http://***h/v1?api_key=***&x=1 Authorization: Bearer *** --password=***"
    )
    plain = "main --config.model.start_token=True --config.knowledge.describe.max_tokens=300 --workdir=runs/task-secretary"
    assert redacted(plain) == plain


class Saying(ChatServer):
    """Answers every prompt with one text, in which REF is the reference."""

    text: Any = ""
    ended = "stop"
    message: ClassVar[dict[str, Any]] = {}
    more: ClassVar[dict[str, Any]] = {}

    def chat(self, body: dict[str, Any], due: str) -> dict[str, Any]:
        content = super().chat(body, due)
        named = content["choices"][0]["message"]["content"][1:9]
        text = self.text.replace("REF", named) if isinstance(self.text, str) else self.text
        content["choices"][0] |= {"finish_reason": self.ended}
        content["choices"][0]["message"] |= {"content": text} | self.message
        return content | self.more


def one_answer(
    server: Saying, folder: pathlib.Path, settings: Any, **fields: Any
) -> tuple[tuple[str, str], Usage]:
    with running(server):
        named = {f"describe.{name}": value for name, value in fields.items()}
        config = settings.with_fields({"describe.base_url": server.url, **named})
        answers, usage = describe(folder, config, 1)
    return answers[0], usage


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nREF? A secret.\n</think>\n\n[REF] A soap.",
        "It wants a secret.</think>[REF] A soap.",
        "**[REF]** A soap.",
        "[REF]: A soap.",
        "Reference: [REF]\nA soap.",
        "**Reference:** REF\n\nA soap.",
        "```text\n[REF] A soap.\n```",
        "<think>a</think>```\nA soap.```",
    ],
)
@pytest.mark.parametrize("upper", [False, True])
def test_an_answer_is_found_in_what_is_around_it(
    text: str, upper: bool, tmp_path: pathlib.Path, settings: Any
) -> None:
    """Thoughts of a reasoning model, marks of a format or the reference would be encoded as the item's text."""
    server = Saying()
    server.text = text
    if upper:
        whole = server.chat
        server.chat = lambda body, due: _upper(whole(body, due))  # type: ignore[method-assign]
    assert one_answer(server, tmp_path, settings)[0] == ("A soap.", "ok")


def _upper(content: dict[str, Any]) -> dict[str, Any]:
    message = content["choices"][0]["message"]
    message["content"] = re.sub(r"\b[0-9a-f]{8}\b", lambda m: m[0].upper(), message["content"])
    return content


@pytest.mark.parametrize(
    ("text", "ended", "message", "expected", "said"),
    [
        ("[REF] A soap that", "length", {}, ("A soap that", "ok"), " (1 cut at max_tokens)"),
        ("<think>I think", "length", {}, ("template 0", "na"), " (1 cut at max_tokens)"),
        (
            "[REF]",
            "content_filter",
            {},
            ("template 0", "refused"),
            " (1 cut by the server's content filter)",
        ),
        ("[REF] A soap", "content_filter", {}, ("A soap", "ok"), "content filter)"),
        (None, "stop", {"refusal": "No."}, ("template 0", "refused"), "of answers"),
    ],
)
def test_answers_that_are_not_whole_are_counted(
    text: Any,
    ended: str,
    message: dict[str, Any],
    expected: tuple[str, str],
    said: str,
    tmp_path: pathlib.Path,
    settings: Any,
) -> None:
    """A limit that cuts all descriptions would stay unseen, or an answer without text be taken for one."""
    server = Saying()
    server.text, server.ended, server.message = text, ended, message
    answer, usage = one_answer(server, tmp_path, settings)
    assert answer == expected
    assert describers.summary(
        usage, np.zeros(1, np.uint8), settings.with_fields({"describer": "openai"})
    ).endswith(said)


@pytest.mark.parametrize("fault", ["busy", "broken", "dropped", "malformed"])
def test_attempts_are_counted_once(fault: str, tmp_path: pathlib.Path, settings: Any) -> None:
    """Two loops would multiply: an endpoint that is down is asked (retries + 1)^2 times for each prompt, outside of the rate limit."""
    settings = settings.with_fields(
        {"describe.retries": 2, "describe.concurrency": 1, "describe.requests_per_minute": 6000}
    )
    with running(ChatServer({fault: 1})) as server:
        settings = settings.with_fields({"describe.base_url": server.url})
        taken = []
        whole = client.Endpoint.__init__

        def counting(self: client.Endpoint, config: Any) -> None:
            whole(self, config)
            acquire = self._requests.acquire
            self._requests.acquire = lambda: taken.append(1) or acquire()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client.Endpoint, "__init__", counting)
            refusal(describe, tmp_path, settings, 1)
        assert server.requests == 3 == len(taken)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "3600"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], expected: float) -> None:
    """A run would wait an hour, or end with a traceback, because of a header."""
    response = types.SimpleNamespace(headers=headers)
    assert client._retry_after(response) == expected


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": 5}, {"prompt_tokens": None}, [1], "x"]
)
def test_a_server_that_does_not_count_tokens(
    usage: Any, tmp_path: pathlib.Path, settings: Any
) -> None:
    """A description would be refused because the server does not say how long it is."""
    server = Saying()
    server.text, server.more = "[REF] A soap.", {"usage": usage}
    answer, found = one_answer(server, tmp_path, settings)
    assert answer == ("A soap.", "ok") and (found.prompt_tokens, found.answer_tokens) == (0, 0)


def test_content_in_parts(tmp_path: pathlib.Path, settings: Any) -> None:
    """An answer in the protocol's other form would end in a message about JSON."""
    server = Saying()
    server.text = [{"type": "text", "text": "A "}, {"type": "image_url"}, {"text": "soap."}]
    assert one_answer(server, tmp_path, settings)[0] == ("A soap.", "ok")
    server = Saying()
    server.text = {"text": "A soap"}
    message = refusal(one_answer, server, tmp_path / "other", settings, retries=0)
    assert "choices[0].message.content is" in message and "expected text" in message


def test_an_error_with_status_200_is_shown(tmp_path: pathlib.Path, settings: Any) -> None:
    """A user would read "KeyError, not the protocol's JSON", and not that the server is overloaded; or the key in the server's words."""
    content = b'{"error": {"message": "overloaded, key sk-secret"}}'
    config = settings.with_fields({"describe.retries": 0})
    with running(ChatServer(content=content)) as server:
        config = config.with_fields({"describe.base_url": server.url})
        message = refusal(describe, tmp_path, config, 1)
    assert "status 200 with the error 'overloaded, key ***'" in message
