"""Gates and their logits against the written formulas, in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config.model import GATES
from grasp_jax.models.gates import (
    candidate_normaliser,
    history_normaliser,
    pair_gates,
    pair_logits,
    sigmoid_attention,
    three_logits,
)

WIDTH = 12
SEGMENTS = np.array([[4, 4, 4, 9, 9, -1], [2, 7, 7, 7, 7, 7]])


def rows(seed: int, *shape: int) -> np.ndarray:
    """Random rows, not of length one, so that gates lie far from one half."""
    return np.random.default_rng(seed).standard_normal((*shape, WIDTH)).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def three_by_hand(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return np.stack(
        [logits[..., 0], logits[..., 1], (logits[..., 0] + logits[..., 1]) / np.sqrt(2)], axis=-1
    )


def test_sigmoid_attention_is_equation_three() -> None:
    """The plain reference itself would be wrong: scale by sqrt(width), sigmoid, times the value and not the query."""
    q, v = rows(0, 3, 5), rows(1, 3, 5)
    logit = (q.astype(np.float64) * v).sum(axis=-1, keepdims=True) / np.sqrt(WIDTH)
    np.testing.assert_allclose(
        sigmoid_attention(jnp.asarray(q), jnp.asarray(v)), sigmoid(logit) * v, rtol=1e-5, atol=1e-6
    )


def test_pair_logits_of_matching_rows() -> None:
    """Every cached gate would be wrong if a logit mixed own and similar vectors or lost its 1/sqrt(E)."""
    u, ubar, i, ibar = (rows(seed, 2, 7) for seed in range(4))
    expected = np.stack(
        [(u.astype(np.float64) * i).sum(-1), (ubar.astype(np.float64) * ibar).sum(-1)], axis=-1
    ) / np.sqrt(WIDTH)
    np.testing.assert_allclose(
        pair_logits(*map(jnp.asarray, (u, ubar, i, ibar))), expected, rtol=1e-5, atol=1e-6
    )


def test_pair_logits_of_all_pairs() -> None:
    """Full ranking would gate items with another user's logits if "ue,ve->uv" did not pair every user with every item."""
    u, ubar, i, ibar = rows(0, 3), rows(1, 3), rows(2, 5), rows(3, 5)
    ours = pair_logits(*map(jnp.asarray, (u, ubar, i, ibar)), subscripts="ue,ve->uv")
    assert ours.shape == (3, 5, 2)
    for a in range(3):
        for b in range(5):
            np.testing.assert_allclose(
                ours[a, b],
                pair_logits(*map(jnp.asarray, (u[a], ubar[a], i[b], ibar[b]))),
                rtol=1e-5,
                atol=1e-6,
            )


def test_pair_logits_of_half_precision_tables_sum_in_float32() -> None:
    """bfloat16 tables would give logits with two digits if the E products were not widened before they are summed."""
    tables = [jnp.asarray(rows(seed, 50)).astype(jnp.bfloat16) for seed in range(4)]
    u, ubar, i, ibar = (np.asarray(table.astype(jnp.float32), np.float64) for table in tables)
    ours = pair_logits(*tables)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(
        ours,
        np.stack([(u * i).sum(-1), (ubar * ibar).sum(-1)], -1) / np.sqrt(WIDTH),
        rtol=1e-5,
        atol=1e-6,
    )


def test_third_logit_is_that_of_the_concatenated_vectors() -> None:
    """Global attention would have the wrong temperature: its vectors are 2E wide, so the sum is divided by sqrt(2)."""
    u, ubar, i, ibar = (rows(seed, 9) for seed in range(4))
    joined = (np.concatenate([u, ubar], -1).astype(np.float64) * np.concatenate([i, ibar], -1)).sum(
        -1
    ) / np.sqrt(2 * WIDTH)
    three = three_logits(pair_logits(*map(jnp.asarray, (u, ubar, i, ibar))))
    np.testing.assert_allclose(three[:, 2], joined, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", GATES.names)
def test_gates_by_formula(kind: str) -> None:
    """A config would name one gate and get another, or temperature and bias would meet the wrong one of the three gates."""
    logits = np.random.default_rng(0).standard_normal((2, 6, 2)).astype(np.float32)
    temperature, bias, normaliser = (
        np.array([2.0, -0.5, 3.0]),
        np.array([0.3, 1.0, -2.0]),
        np.array([0.5, 1.0, 2.0]),
    )
    three = three_by_hand(logits)
    expected = {
        "paper": sigmoid(three),
        "learned": sigmoid(three * temperature + bias),
        "none": np.ones_like(three),
        "softmax": np.exp(three) / np.exp(normaliser),
    }
    ours = pair_gates(
        kind, *(jnp.asarray(x, jnp.float32) for x in (logits, temperature, bias, normaliser))
    )
    np.testing.assert_allclose(ours, expected[kind], rtol=1e-5, atol=1e-6)


def test_history_normaliser_equals_a_loop() -> None:
    """Softmax gates would be normalised over a neighbour in the same packed row, over empty slots, or over what was bought later."""
    logits = np.random.default_rng(1).standard_normal((*SEGMENTS.shape, 2)).astype(np.float32)
    three, expected = three_by_hand(logits), np.zeros((*SEGMENTS.shape, 3))
    for r, row in enumerate(SEGMENTS):
        for q, segment in enumerate(row):
            if segment >= 0:
                expected[r, q] = np.log(
                    sum(np.exp(three[r, k]) for k in range(q + 1) if row[k] == segment)
                )
    np.testing.assert_allclose(
        jax.jit(history_normaliser)(logits, SEGMENTS),
        expected,
        rtol=1e-5,
        atol=1e-6,
    )


def test_softmax_gates_of_a_history_sum_to_one() -> None:
    """Table 4's softmax would not be one: by the newest denominator, the gates of a history add up to one in all three attentions."""
    logits = np.random.default_rng(0).standard_normal((*SEGMENTS.shape, 2)).astype(np.float32)
    normaliser = np.asarray(jax.jit(history_normaliser)(logits, SEGMENTS))
    gates = jax.jit(lambda logits, normaliser: pair_gates("softmax", logits, normaliser=normaliser))
    for segment in np.unique(SEGMENTS[SEGMENTS >= 0]):
        own = segment == SEGMENTS
        found = np.asarray(gates(logits[own], normaliser[own][-1]))
        np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-5)


def test_softmax_gate_of_a_target_is_that_of_a_candidate() -> None:
    """Training and ranking would be two models: the next item's gate must be that of a candidate appended to the history before it."""
    logits = jax.random.normal(jax.random.key(4), (*SEGMENTS.shape, 2))
    normaliser = history_normaliser(logits, jnp.asarray(SEGMENTS))
    as_input = pair_gates("softmax", logits, normaliser=normaliser)
    as_candidate = pair_gates(
        "softmax", logits[:, 1:], normaliser=candidate_normaliser(logits[:, 1:], normaliser[:, :-1])
    )
    has_next = (SEGMENTS[:, 1:] == SEGMENTS[:, :-1]) & (SEGMENTS[:, 1:] >= 0)
    assert has_next.sum() > 2
    np.testing.assert_allclose(as_input[:, 1:][has_next], as_candidate[has_next], rtol=1e-5)


def test_candidate_is_appended_to_the_history() -> None:
    """A candidate would be normalised without itself, and its gate could exceed one."""
    logits = np.random.default_rng(2).standard_normal((*SEGMENTS.shape, 2)).astype(np.float32)
    normaliser = history_normaliser(jnp.asarray(logits), jnp.asarray(SEGMENTS))[
        0, 4
    ]  # newest of user 9
    candidates = np.random.default_rng(3).standard_normal((4, 2)).astype(np.float32)
    ours = pair_gates(
        "softmax",
        jnp.asarray(candidates),
        normaliser=candidate_normaliser(jnp.asarray(candidates), normaliser),
    )
    history = np.exp(three_by_hand(logits[0, 3:5])).sum(axis=0)
    alone = np.exp(three_by_hand(candidates))
    np.testing.assert_allclose(ours, alone / (history + alone), rtol=1e-5, atol=1e-6)
