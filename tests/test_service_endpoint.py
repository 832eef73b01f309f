"""A service whose text encoder is a server elsewhere: a new item is sent there once, and no caller is blamed for a server that is down."""

import pathlib

import pytest

import grasp_jax as gj
from grasp_jax.config import Config
from tests.chat_server import ChatServer, running
from tests.running_service import Running, with_settings
from tests.trained import SMALL, small_shop


def test_a_new_item_is_encoded_by_an_endpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All texts would be sent and paid for again; or the caller be blamed for a server that is down, and read its address."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    shop = small_shop()
    with running(ChatServer()) as server:
        fields = {
            "knowledge.encoder": "openai",
            "knowledge.embed.base_url": server.url,
            "knowledge.embed.dimensions": SMALL["knowledge__width"],
            "knowledge.embed.cache": str(tmp_path / "vectors"),
            "knowledge.embed.retries": 0,
        }
        config = Config().with_fields(fields)
        gj.Recommender(config, method="id_text_concat", **SMALL).fit(shop).save(tmp_path / "model")
        service = Running(tmp_path / "model", with_settings(batch_sizes=(2,), lengths=()))
        before = sum(server.answered.values())
        new = {"item": 5000, "title": "Red soap"}
        answer = service.client.put("/items", json={"items": [new]})
        assert answer.json() == {"added": 1, "restored": 0, "items": 101}, answer.text
        assert sum(server.answered.values()) == before + 1
        model = gj.Recommender.load(tmp_path / "model")
        model.add_items({name: [value] for name, value in new.items()})
        assert sum(server.answered.values()) == before + 1  # this vector is paid for already
    expected = model.recommend(histories=[[5, 5000]], k=30)
    found = service.post("/recommend", histories=[[5, 5000]], k=30)["results"][0]["items"]
    assert [own["item"] for own in found] == expected["item"].tolist()
    down = service.client.put("/items", json={"items": [{**new, "item": 5001, "title": "Oil"}]})
    assert down.status_code == 503 and down.headers["retry-after"] == "1", down.text
    assert "does not answer" in down.json()["error"] and "127.0.0.1" not in down.text
    assert service.client.get("/ready").json()["items"] == 101
    log = service.lines.getvalue()
    assert "endpoint_failed" in log and server.url in log and "sk-secret" not in log
    assert 'overload_total{reason="endpoint"} 1' in service.client.get("/metrics").text
    assert service.post("/recommend", histories=[[5]])["results"][0]["items"]
    service.service.stop()
