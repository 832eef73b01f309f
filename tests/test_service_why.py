"""What an answer says about the reasons for an item: gates and trust are those with which the model computed its score."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logsumexp

import grasp_jax as gj
from grasp_jax.config import ModelConfig
from grasp_jax.models.gates import NAMES
from grasp_jax.models.methods import METHODS
from tests.running_service import Running, compilations, with_settings
from tests.test_export import SMALL

pytest_plugins = ("tests.running_service",)  # the fixtures

EARLY: dict[str, Any] = {"method": "grasp_plus", "plus__fusion": "early", "plus__gate": "learned"}


def three_logits(model: gj.Recommender, rows: np.ndarray, history: list[Any]) -> np.ndarray:
    """[n, 3] logits of Eq. 3 and 4 between the person of a history and items, by NumPy."""
    vectors, tables = model.query_vectors([history]), model.artifact.tables
    pairs = (("text_vector", "items"), ("similar_vector", "items_similar"))
    s1, s2 = (np.asarray(tables[items][rows]) @ vectors[own][0] for own, items in pairs)
    scale = np.sqrt(tables["items"].shape[1])
    return np.stack([s1, s2, (s1 + s2) / np.sqrt(2)], axis=1) / scale


def expected_gates(model: gj.Recommender, rows: np.ndarray, history: list[Any]) -> np.ndarray:
    """[n, 3] gates, by NumPy."""
    artifact, logits = model.artifact, three_logits(model, rows, history)
    if artifact.method == "grasp_softmax":
        read = [artifact.catalogue.rows[str(item)] for item in history[-SMALL["max_length"] :]]
        own = three_logits(model, np.array(read), history)
        alone = logsumexp(own, axis=0)
        return np.exp(logits - np.logaddexp(logits, alone))
    encoder = artifact.params["encoder"]
    text = encoder.get("text", encoder)
    if "temperature" in text:
        logits = logits * text["temperature"] + text["gate_bias"]
    return expit(logits)


@pytest.mark.parametrize(
    "options",
    [
        EARLY,
        pytest.param({"method": "grasp"}, marks=pytest.mark.slow),
        pytest.param({"method": "grasp_softmax"}, marks=pytest.mark.slow),
    ],
    ids=lambda options: options["method"],
)
def test_gates_are_those_of_the_score(
    options: dict[str, Any], shop: gj.Dataset, tmp_path: Any
) -> None:
    """People would read numbers of another item, of another person in the batch, or of no gate that the model has."""
    model = gj.Recommender(**options, backbone="gru4rec", **SMALL).fit(shop, tmp_path / "run")
    running = Running(tmp_path / "run", with_settings(batch_sizes=(4,), lengths=()))
    asked = [[5, 9, 5, 70], [40], [*range(1, 15)]]
    with compilations("backend_compile") as compiled:
        found = running.post("/recommend", histories=asked, k=6, why=1, diversity=0.5)["results"]
        plain = running.post("/recommend", histories=asked, k=6)["results"]
    assert not compiled
    rows_of = model.artifact.catalogue.rows
    for history, result in zip(asked, found, strict=True):
        rows = np.array([rows_of[str(item["item"])] for item in result["items"]])
        given = np.array([[item["gates"][name] for name in NAMES] for item in result["items"]])
        np.testing.assert_allclose(given, expected_gates(model, rows, history), atol=1e-5)
    assert not any({"gates", "trust"} & set(item) for result in plain for item in result["items"])
    if options is EARLY:
        counts = model.artifact.catalogue.counts
        for item in found[0]["items"]:
            n = counts[rows_of[str(item["item"])]]
            assert item["trust"] == {"id": pytest.approx(n / (n + 100.0), rel=1e-6)}
    running.service.stop()


def test_other_methods_have_neither(running: Running) -> None:
    """A page would show gates that a model without gates does not have."""
    result = running.post("/recommend", histories=[[5, 9]], why=1)["results"][0]
    assert all(set(item) == {"item", "title", "score", "why"} for item in result["items"])


def test_learned_trust_in_texts() -> None:
    """A new item would get the trust of another one, or a model of an earlier version be refused."""
    learned = {"plus.fusion": "late", "plus.text_trust": "learned"}
    config, counts = ModelConfig().with_fields(learned), np.array([4, 0, 9, 0])
    fitted = {"text_trust": np.array([0.9, 0.4, 0.2], np.float32), "share_right": np.array(0.7)}
    found = METHODS["grasp_plus"].trust(config, counts, fitted)
    np.testing.assert_allclose(found["text"], [0.9, 0.4, 0.2, 0.7], rtol=1e-6)
    assert not METHODS["grasp_plus"].trust(config, counts, {"share_right": np.array(0.7)})
    early = dataclasses.replace(config, plus=dataclasses.replace(config.plus, fusion="early"))
    trust = METHODS["grasp_plus"].trust(early, counts, {})["id"]
    np.testing.assert_allclose(trust, counts / (counts + 100.0), rtol=1e-6)
