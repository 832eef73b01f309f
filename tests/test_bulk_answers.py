"""The best items of many people on large catalogues, whose scores no array holds, against a ranking of all scores."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import build_log
from grasp_jax.data.split import leave_one_out
from grasp_jax.evaluation import audience as module
from grasp_jax.evaluation import top_k
from grasp_jax.evaluation.audience import Audience, Lists, Wanted, best_items, whole_histories
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.training.snapshot import snapshot_like
from tests.assembly import assembled

ITEMS, LENGTH, WIDTH, TOP = 203, 8, 6, 7
EARLY = {"mlp": (10,), "plus.fusion": "early", "plus.gate": "none"}


@pytest.fixture(scope="module", params=["plain", "grasp_plus"])
def audience(request: pytest.FixtureRequest) -> Audience:
    """An untrained model of 23 people, of whom one has had 60 of the 203 items; `grasp_plus` has features that are no vectors yet."""
    rng = np.random.default_rng(0)
    lengths = [60, *rng.integers(3, 12, 22)]
    owners = np.repeat(np.arange(23), lengths)
    bought = np.concatenate([rng.choice(ITEMS, n, replace=False) for n in lengths])
    log = build_log("bulk", owners, bought, catalogue=np.arange(ITEMS))
    split = leave_one_out(log, LENGTH)
    fields: dict[str, Any] = {"features": 5, "num_layers": 1}
    fields |= EARLY if request.param == "grasp_plus" else {}
    config = ModelConfig().with_fields(fields)
    texts = rng.standard_normal((2, ITEMS, WIDTH)).astype(np.float32)
    bank = {"items": texts[0], "items_similar": texts[1]}
    declared = METHODS[request.param].tables(bank, Facts(config, split.item_counts, split=split))
    tables = {table.name: jnp.asarray(table.rows) for table in declared}
    given = {"data.max_length": LENGTH, "model": fields | {"projection": "token"}}
    made = assembled(log, tables, request.param, "sasrec", given)
    params = snapshot_like(made.model, made.replicas, made.data).best_params
    one = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape[1:]), jnp.float32), params
    )
    ranker = Ranker.of(made.model, one, made.data.device, tables)
    queries = np.arange(log.num_users, dtype=np.int32)
    return Audience(ranker, log, queries, whole_histories(log, LENGTH), make_mesh())


def lists_of(audience: Audience, wanted: Wanted) -> dict[int, tuple[list[int], list[float]]]:
    """Items and scores of each person."""
    found = {}
    everybody = np.arange(audience.log.num_users)
    for block in best_items(audience, everybody, wanted):
        found |= _by_person(block)
    return found


def _by_person(block: Lists) -> dict[int, tuple[list[int], list[float]]]:
    ends = np.cumsum(block.counts)
    parts = zip(block.people, ends - block.counts, ends, strict=True)
    return {int(n): (block.items[a:b].tolist(), block.scores[a:b].tolist()) for n, a, b in parts}


@pytest.mark.parametrize("longest", [256, 30])
@pytest.mark.parametrize("some", [False, True])
def test_same_as_a_ranking_of_all_scores(
    audience: Audience, some: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Something that a person has had, or that is not allowed, or a row that fills up is given; with `longest` 30, one person has had more.
    rng = np.random.default_rng(1)
    allowed = rng.random(ITEMS) < 0.2 if some else None
    excluded = np.stack([np.arange(23), rng.integers(0, ITEMS, 23)], axis=1).astype(np.int32)
    wanted = Wanted(TOP, True, allowed, excluded, user_block=8, item_block=50)
    right = lists_of(audience, wanted)
    used: list[bool] = []
    by_products = module.top_items_by_products
    monkeypatch.setattr(module, "MIN_ITEMS", ITEMS)
    monkeypatch.setattr(module, "MIN_PEOPLE", 23)
    monkeypatch.setattr(module, "MAX_EXCLUDED", longest)
    monkeypatch.setattr(top_k, "BLOCK", 64)
    monkeypatch.setattr(
        module,
        "top_items_by_products",
        lambda *given: used.append(True) or by_products(*given),
    )
    found = lists_of(audience, wanted)
    assert len(used) == (3 if longest == 256 else 2)
    for person, (items, scores) in right.items():
        assert found[person][0] == items
        np.testing.assert_allclose(found[person][1], scores, atol=1e-5 * np.abs(scores).max())
