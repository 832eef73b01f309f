"""Vectors from an embeddings endpoint: each belongs to its text, batches are bounded, none is requested twice."""

import hashlib
import json
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import leave_one_out
from grasp_jax.knowledge.describe import shared_answers as sharing
from grasp_jax.knowledge.describe.model_folder import check_sentence_folder
from grasp_jax.knowledge.describe.shared_answers import shared_answers
from grasp_jax.knowledge.encoders import sentences
from grasp_jax.knowledge.encoders.base import RejectedText
from grasp_jax.knowledge.encoders.embeddings import (
    as_answer,
    batches,
    keys_of,
    what_is_missing,
)
from grasp_jax.knowledge.encoders.openai import OpenAiEncoder
from grasp_jax.knowledge.encoders.sentences import SentenceEncoder
from grasp_jax.knowledge.endpoint.cache import AnswerCache, answer_key, open_answers
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.knowledge.texts import dry_run
from tests.chat_server import ChatServer, running
from tests.refusal import assert_names, refusal

FAULTS = {"busy": 7, "broken": 9, "dropped": 11, "malformed": 13}
ITEMS, USERS = [f"item {k % 90}" for k in range(100)], [f"user {k}" for k in range(50)] + [""]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnowledgeConfig:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    config = KnowledgeConfig().with_fields(
        {
            "embed.cache": str(tmp_path / "vectors"),
            "embed.batch_texts": 8,
            "embed.dimensions": 12,
        }
    )
    return config


def expected(text: str) -> np.ndarray:
    return (
        np.frombuffer(hashlib.sha512((text or " ").encode()).digest()[:12], np.uint8).astype(
            np.float32
        )
        - 128
    ) / 128


def encode_endpoint(
    item_texts: list[str], user_texts: list[str], config: Any
) -> tuple[np.ndarray, np.ndarray]:
    encoder = OpenAiEncoder.from_config(config)
    with encoder.session({"items": item_texts, "users": user_texts}):
        return encoder.encode(item_texts), encoder.encode(user_texts)


def test_vectors_are_their_texts_own(config: Any) -> None:
    """Answers that come in another order, or again after a fault, would give a text another's vector."""
    with running(ChatServer(FAULTS)) as server:
        config = config.with_fields({"embed.base_url": server.url})
        items, users = encode_endpoint(ITEMS, USERS, config)
        asked = server.requests
        again, _ = encode_endpoint(ITEMS, USERS, config)
        assert (
            server.requests == asked
            and set(server.answered.values()) == {1}
            and server.most_in_flight <= 8
        )
    np.testing.assert_array_equal(again, items)
    np.testing.assert_allclose(items, [expected(text) for text in ITEMS], rtol=1e-6)
    np.testing.assert_allclose(users, [expected(text) for text in USERS], rtol=1e-6)


def test_only_vectors_of_another_width_are_requested_again(
    config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored vectors of two widths would end in an error of NumPy; or the user pay for all vectors once more."""
    config = config.with_fields({"embed.dimensions": 0})
    with running(ChatServer()) as server:
        config = config.with_fields({"embed.base_url": server.url})
        texts = ["soap", "wax", "oil"]
        with open_answers(config.embed.cache) as cache:
            for key, width in zip(keys_of(texts, config.embed), (16, 16, 7), strict=True):
                cache.add(key.tobytes(), as_answer(np.ones(width)))
        for _ in range(2):
            items, _ = encode_endpoint(texts, ["wax"], config)
            assert dict(server.answered) == {"oil": 1}
            assert items.shape == (3, 16) and (items[:2] == 1).all() and items[2].min() < 0
    said = capsys.readouterr().out
    assert said.count("1 of 3 vectors by the model") == 1 and "server" not in said


class Widening(ChatServer):
    """Its third answer, or each from there on, has vectors of another width."""

    for_ever = False

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        content = super().embed(body)
        if self.requests == 3 or (self.for_ever and self.requests > 3):
            for entry in content["data"]:
                entry["embedding"].append(0.5)
        return content


@pytest.mark.parametrize("for_ever", [False, True])
def test_another_width_in_mid_run(for_ever: bool, config: Any) -> None:
    """One bad answer would be stored, and make the whole cache unusable; or the message blame another server that there is not."""
    config = config.with_fields({"embed.dimensions": 0, "embed.retries": 1, "embed.concurrency": 1})
    server = Widening()
    server.for_ever = for_ever
    with running(server):
        config = config.with_fields({"embed.base_url": server.url})
        if not for_ever:
            items, _ = encode_endpoint(ITEMS, USERS, config)
            assert items.shape == (100, 16)
            return
        message = refusal(encode_endpoint, ITEMS, USERS, config)
        assert_names(
            message,
            (
                "2 times no answer",
                "vectors of 17 numbers; the other vectors",
                "have 16; run the same command again",
            ),
        )
        assert message == refusal(encode_endpoint, ITEMS, USERS, config), "16 is known from before"
        with open_answers(config.embed.cache) as cache:
            assert len(cache) == 16


class Mirrored(ChatServer):
    """Has another model of the same name: its vectors point the other way."""

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        content = super().embed(body)
        for entry in content["data"]:
            entry["embedding"] = [-number for number in entry["embedding"]]
        return content


def test_vectors_of_two_servers_do_not_mix(config: Any) -> None:
    """Vectors of equal width from another server would be taken for those of this one."""
    with running(ChatServer()) as one, running(Mirrored()) as other:
        found = [
            encode_endpoint(["soap"], ["soap"], config.with_fields({"embed.base_url": url}))[0][0]
            for url in (one.url, other.url, f"{one.url}/")
        ]
        assert (one.requests, other.requests) == (1, 1)
    np.testing.assert_allclose(found, [expected("soap"), -expected("soap"), expected("soap")])


def test_vectors_without_an_address_are_not_believed_and_not_forgotten(config: Any) -> None:
    """Vectors that an earlier version kept would be another server's; or be paid for again."""
    by_model = config.with_fields({"embed.cache_by": "model"})
    with open_answers(config.embed.cache) as cache:
        # the key of version 0.3.0
        key = answer_key("soap", config.embed.model, {"dimensions": 12})
        assert keys_of(["soap"], by_model.embed).tobytes() == key
        cache.add(key, as_answer(np.ones(12)))
    reason = f"1 of the answers are in {config.embed.cache} without their server's address and are not used"
    with running(ChatServer()) as server:
        config, by_model = (
            own.with_fields({"embed.base_url": server.url}) for own in (config, by_model)
        )
        assert reason in what_is_missing("items", ["soap", "oil"], config.embed)
        message = refusal(encode_endpoint, ["soap"], ["soap"], config)
        assert message.startswith(f"encode items: {reason}") and "embed.cache_by=model" in message
        kept, _ = encode_endpoint(["soap"], ["soap"], by_model)
        assert server.requests == 0
    np.testing.assert_array_equal(kept, np.ones((1, 12)))


def test_vectors_of_an_address_are_used_without_it(config: Any) -> None:
    """Who sets cache_by=model because the server moves would pay for all vectors again, without a word."""
    with running(ChatServer()) as server, running(ChatServer()) as moved:
        config, there = (config.with_fields({"embed.base_url": own.url}) for own in (server, moved))
        encode_endpoint(["soap"], ["soap"], config)
        by_model, there = (own.with_fields({"embed.cache_by": "model"}) for own in (config, there))
        assert "nothing leaves this machine" in what_is_missing("items", ["soap"], by_model.embed)
        assert "1 texts" in what_is_missing("items", ["soap"], there.embed), "it changes nothing"
        encode_endpoint(["soap"], ["soap"], by_model)
        found, _ = encode_endpoint(["soap", "oil"], ["soap"], there)
        assert (server.requests, moved.requests) == (1, 1)
        assert set(moved.answered) == {"oil"}
    np.testing.assert_allclose(found, [expected("soap"), expected("oil")])


def test_several_threads_encode_at_once(config: Any) -> None:
    """Of two requests to a service one would be refused, because "another process" has the answers open."""
    with running(ChatServer()) as server:
        config = config.with_fields({"embed.base_url": server.url})
        encoder = OpenAiEncoder.from_config(config)
        with ThreadPoolExecutor(8) as threads:  # which also open and close the answers
            found = list(threads.map(lambda text: encoder.encode([text])[0], ITEMS[:24]))
    np.testing.assert_allclose(found, [expected(text) for text in ITEMS[:24]], rtol=1e-6)
    with open_answers(config.embed.cache) as cache:
        assert len(cache) == 24


def test_a_folder_that_another_process_has_delays_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests of a service would wait for the answers of one model, and callers of the others would time out."""
    monkeypatch.setattr(sharing, "OTHERS_SECONDS", 10.0)
    busy, free, tried = str(tmp_path / "busy"), str(tmp_path / "free"), threading.Event()
    whole = open_answers

    def opened(folder: str) -> AnswerCache:
        if folder == busy:
            tried.set()
        return whole(folder)

    def number_of_answers() -> int:
        with shared_answers(busy) as cache:
            return len(cache)

    with ThreadPoolExecutor(1) as threads:
        with open_answers(busy):  # as another process would have it
            monkeypatch.setattr(sharing, "open_answers", opened)
            waiting = threads.submit(number_of_answers)
            assert tried.wait(60.0)
            with shared_answers(free):
                assert not waiting.done()
        assert waiting.result() == 0


def test_two_names_of_a_folder_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call would be refused, because "another process" has the answers open, which is this one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path)
    with shared_answers("~/own") as one:
        for name in (tmp_path / "own", tmp_path / "link" / "own"):
            with shared_answers(str(name)) as same:
                assert same is one


def test_answers_that_cannot_be_opened_are_no_fault_of_a_caller(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller of a service would be blamed, and read the path of a folder, if another process has the answers open."""
    monkeypatch.setattr(sharing, "OTHERS_SECONDS", 0.1)
    encoder = OpenAiEncoder.from_config(config)
    with open_answers(config.embed.cache), pytest.raises(EndpointError, match="another process"):
        encoder.encode(["soap"])
    (tmp_path / "file").write_text("")
    config = config.with_fields({"embed.cache": str(tmp_path / "file")})
    with pytest.raises(EndpointError, match="cannot keep answers here"):
        OpenAiEncoder.from_config(config).encode(["soap"])


def test_another_width_than_asked_for_is_refused(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bank's tables would not fit together, much later."""
    plain = ChatServer.embed
    monkeypatch.setattr(
        ChatServer, "embed", lambda self, body: plain(self, body | {"dimensions": 5})
    )
    with running(ChatServer()) as server:
        config = config.with_fields({"embed.base_url": server.url})
        with pytest.raises(
            UserError,
            match=r"vectors of 5 numbers; config\.knowledge\.embed\.dimensions asks for 12",
        ):
            encode_endpoint(ITEMS, USERS, config)


BAD = {
    "nan": ('{"index": 0, "embedding": [NaN, 1.0]}', "no finite number"),
    "text": ('{"index": 0, "embedding": ["a", "b"]}', "not the protocol's JSON"),
    "ragged": ('{"index": 0, "embedding": [[1.0], 2.0]}', "not the protocol's JSON"),
    "last": ('{"index": -1, "embedding": [1.0, 1.0]}', "a vector of text -1, and 1 were sent"),
    "none": ("", "0 vectors for 1 texts"),
}


def test_an_error_with_status_200_and_usage_without_fields(config: Any) -> None:
    """A user would not read what the server says; or vectors be refused because their tokens are not counted."""
    config = config.with_fields({"embed.dimensions": 0, "embed.retries": 0})
    with running(ChatServer(content=b'{"error": {"message": "overloaded"}}')) as server:
        config = config.with_fields({"embed.base_url": server.url})
        assert "status 200 with the error 'overloaded'" in refusal(
            encode_endpoint, ["soap"], [], config
        )
    content = b'{"data": [{"index": 0, "embedding": [1.0, 2.0]}], "usage": {"total_tokens": 5}}'
    with running(ChatServer(content=content)) as server:
        config = config.with_fields({"embed.base_url": server.url})
        assert encode_endpoint(["soap"], ["soap"], config)[0].tolist() == [[1, 2]]


@pytest.mark.parametrize("fault", BAD)
def test_vectors_that_are_none_are_refused(config: Any, fault: str) -> None:
    """What is no number would be kept as one for good; or a text be given another's vector."""
    entry, reason = BAD[fault]
    config = config.with_fields({"embed.dimensions": 0, "embed.retries": 0})
    with running(
        ChatServer(content=b'{"object": "list", "data": [%s]}' % entry.encode())
    ) as server:
        config = config.with_fields({"embed.base_url": server.url})
        assert reason in refusal(encode_endpoint, ["soap"], [], config)


def test_a_login_page_and_a_redirect_are_one_line(config: Any) -> None:
    """A traceback; or texts would go to a host that nobody named."""
    config = config.with_fields({"embed.retries": 0})
    with running(ChatServer(content=b"<html>log in</html>")) as server:
        config = config.with_fields({"embed.base_url": server.url})
        assert "not the protocol's JSON" in refusal(encode_endpoint, ["soap"], [], config)
    with running(ChatServer()) as other, running(ChatServer(status=307, location="")) as server:
        server.location, config = (
            f"{other.url}/embeddings",
            config.with_fields({"embed.base_url": server.url}),
        )
        assert (
            "redirects to 127.0.0.1 (status 307)" in refusal(encode_endpoint, ["soap"], [], config)
            and other.requests == 0
        )


def test_it_says_what_leaves_this_machine(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts would go to an endpoint, and be paid for, without a word."""
    config = config.with_fields({"embed.price_prompt": 1e6})
    with running(ChatServer()) as server:
        config = config.with_fields({"embed.base_url": server.url})
        missing = what_is_missing("items", ["red soap", "red soap", "oil"], config.embed)
        assert (
            missing
            == f"encode items: 2 texts for 3 items go to {server.url}, model text-embedding-3-small; about 2 tokens, cost about 2.00"
        )
        assert server.requests == 0
        encode_endpoint(["red soap", "red soap", "oil"], ["oil"], config)
        assert capsys.readouterr().out == missing + "\n", "the user's text is an item's"
        assert "nothing leaves this machine" in what_is_missing("items", ["oil"], config.embed)


def test_batches_are_bounded() -> None:
    """The endpoint would refuse a batch for its number of texts or its tokens; or a long text be left out."""
    texts = ["x" * 40] * 10 + ["y" * 4000] + ["z" * 40] * 5
    found = [batch.tolist() for batch in batches(np.arange(16), texts, max_texts=4, max_tokens=100)]
    assert [row for batch in found for row in batch] == list(range(16)) and [10] in found
    assert max(map(len, found)) == 4


class Words:
    """A model that reads words and has no length but five."""

    max_seq_length = 5

    def tokenizer(self, texts: list[str], **_: Any) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}

    def encode(self, texts: list[str], **_: Any) -> Iterator[list[float]]:
        return np.array([[len(text), 1.0] for text in texts])  # type: ignore[return-value]


def test_sentences_say_what_they_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Any
) -> None:
    """A user would not learn that long histories are read in part, or the instruction be left out."""
    monkeypatch.setattr(sentences, "load_model", lambda settings: Words())
    config = config.with_fields({"sentence.prefix": "say: "})
    encoder = SentenceEncoder.from_config(config)
    with encoder.session({}):
        items, users = encoder.encode(["a b", "a b c d e f"]), encoder.encode(["u"])
    assert items.tolist() == [[8, 1], [16, 1]] and users.dtype == np.float32
    assert "encode: 1 of 3 texts are longer than the 5 tokens" in capsys.readouterr().out


def test_model_that_is_not_there(config: Any) -> None:
    """A typing error would end in the hub's traceback."""
    with pytest.raises(
        UserError, match=r"config\.knowledge\.sentence\.model is empty; give a model folder"
    ):
        sentences.load_model(config.sentence)


def test_pickled_weights_are_not_loaded(tmp_path: Path, config: Any) -> None:
    """A folder from the net would run code: of the model itself, or of one of its small modules."""
    folder = tmp_path / "model"
    (folder / "2_Dense").mkdir(parents=True)
    config = config.with_fields({"sentence.model": str(folder)})
    (folder / "pytorch_model.bin").write_bytes(b"x")
    message = refusal(sentences.load_model, config.sentence)
    assert (
        message.startswith("config.knowledge.sentence.model: ")
        and "pytorch_model.bin' may hold code and is not loaded" in message
    )
    (folder / "pytorch_model.bin").unlink()
    assert "has no *.safetensors" in refusal(sentences.load_model, config.sentence)
    (folder / "model.safetensors").write_bytes(b"x")
    (folder / "pytorch_model.bin").write_bytes(b"x")  # beside safetensors, which are taken
    check_sentence_folder(folder, "here")
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "2_Dense", "type": "sentence_transformers.x"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    check_sentence_folder(folder, "here")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"x")
    assert "2_Dense/pytorch_model.bin' may hold code" in refusal(
        sentences.load_model, config.sentence
    )
    for damaged in ("{", "[1]", "[" * 100_000, '[{"type": "x"}]'):
        (folder / "modules.json").write_text(damaged)
        assert "modules.json: " in refusal(sentences.load_model, config.sentence)
    (folder / "modules.json").write_text('[{"path": "../other"}]')
    assert "lies outside the folder" in refusal(sentences.load_model, config.sentence)


def test_a_model_is_loaded_without_its_code(
    tmp_path: Path, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub's model would be loaded from a pickle, or with code of its own."""
    seen: list[tuple[str, dict[str, Any]]] = []
    package = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = lambda name, **options: seen.append((name, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    config = config.with_fields({"sentence.model": "BAAI/bge"})
    sentences.load_model(config.sentence)
    assert seen == [
        (
            "BAAI/bge",
            {"device": None, "trust_remote_code": False, "model_kwargs": {"use_safetensors": True}},
        )
    ]


def test_pooling_of_a_real_model(tmp_path: Path, config: Any) -> None:
    """The pooling of the config would be ignored, and that of the model be used."""
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "soap"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(
        tmp_path / "bert"
    )
    tokenizer.save_pretrained(tmp_path / "bert")
    modules = pytest.importorskip("sentence_transformers.models")
    words_of, pooled = modules.Transformer(str(tmp_path / "bert")), modules.Pooling(8, "mean")
    sentence_transformers.SentenceTransformer(modules=[words_of, pooled]).save(
        str(tmp_path / "model")
    )
    config.sentence.model, found = str(tmp_path / "model"), {}
    for config.sentence.pooling in ("model", "mean", "cls"):
        found[config.sentence.pooling] = SentenceEncoder.from_config(config).encode(
            ["red soap", "soap"]
        )
    np.testing.assert_array_equal(found["model"], found["mean"])
    assert np.abs(found["cls"] - found["mean"]).max() > 1e-3


def test_dry_run_says_what_the_encoder_would_send(config: Any) -> None:
    """A user would see what goes to the describer, and not that all texts go to another endpoint."""
    split = leave_one_out(
        build_log("shop", np.repeat(np.arange(2), 4), np.tile(np.arange(4), 2)), 10
    )
    sources = SourceTexts(AttributeTable(np.arange(4), {"title": ["soap", "oil", "wax", "gel"]}))
    config = config.with_fields(
        {
            "encoder": "openai",
            "embed.base_url": "http://embed/v1",
            "describe.base_url": "http://chat/v1",
        }
    )
    lines = list(dry_run(config, split, sources))
    assert (
        lines[0] == "describe items: 4 texts from the template; nothing leaves this machine"
        and len(lines) == 4
    )
    assert lines[2].startswith(
        "encode items: 4 texts for 4 items go to http://embed/v1, model text-embedding-3-small; about"
    )
    assert lines[3].startswith("encode users: 1 texts for 2 users go to http://embed/v1")
    config = config.with_fields({"describer": "openai", "describe.cache": config.embed.cache})
    lines = list(dry_run(config, split, sources))
    assert "4 prompts for 4 items go to http://chat/v1" in lines[0] and len(lines) == 3
    assert (
        lines[2]
        == "encode: the descriptions of 4 items and 2 users go to http://embed/v1, model text-embedding-3-small"
    )


class Picky(ChatServer):
    """Rejects a batch with a certain text."""

    bad = "item 77"

    async def reply(self, path: str, body: dict[str, Any]) -> Any:
        if any(self.bad in text for text in body["input"]):
            return 400, {}, b'{"error": {"message": "too long, says sk-secret"}}'
        return await super().reply(path, body)


@pytest.mark.parametrize("bad", ["item 77", "item 0"])
def test_a_text_that_is_rejected_is_found(bad: str, config: Any) -> None:
    """A user with a million items would read neither which text is at fault, nor why; and pay again for those beside it."""
    server = Picky()
    server.bad = bad
    texts = [f"item {k}." for k in range(100)]
    with running(server):
        config = config.with_fields({"embed.base_url": server.url, "embed.concurrency": 1})
        with pytest.raises(RejectedText) as caught:
            encode_endpoint(texts, [], config)
    row = int(bad.split()[1])
    assert (caught.value.kind, caught.value.row) == ("items", row)
    assert "too long, says ***" in str(caught.value)
    if row:
        with open_answers(config.embed.cache) as cache:
            assert len(cache) == row


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        (
            {},
            "config.knowledge.item_template, or name fewer columns in config.knowledge.text_columns",
        ),
        ({"describer": "openai"}, "lower config.knowledge.describe.max_characters"),
    ],
)
def test_a_rejected_text_is_named_by_its_item(
    fields: dict[str, str], remedy: str, config: Any, tmp_path: Path
) -> None:
    """The user would be told a row of an order that they do not know, and to change a field that is not read."""
    server = Picky()
    server.bad = "blue"
    ids = np.array([f"B{k:02d}" for k in range(12)])
    titles = [f"{'blue' if k == 7 else 'red'} thing {k}" for k in range(12)]
    sources = SourceTexts(AttributeTable(ids, {"title": titles}))
    rows = np.arange(48)
    split = leave_one_out(build_log("shop", rows // 6, ids[rows * 5 % 12], catalogue=ids), 10)
    with running(server), running(ChatServer()) as chat:
        config = config.with_fields(
            {
                "encoder": "openai",
                "num_neighbours": 2,
                "embed.base_url": server.url,
                "describe.base_url": chat.url,
                "describe.cache": str(tmp_path / "answers"),
                **fields,
            }
        )
        message = refusal(prepare_bank, config, split, sources, tmp_path / "bank")
    assert_names(message, ("the text of item B07 (", "too long, says ***", remedy))
