"""Times evaluation against training and against unfactorised scoring: python -m benchmarks.evaluation [--quick] [--out=JSON]

(a) The test of all users among 100 stored negatives, compared with one training epoch of the same model. (b) The ranking of the full
catalogue by GRASP: factorised, as in the package, and candidate by candidate through Eq. 3-5. Both are timed on a sample of users and
extrapolated to all. Before that, their scores of the same pairs must agree. The knowledge bank has random rows, because only time is
measured.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import names_of, parser_of
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.plain_jax import plain_layers
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import median_seconds
from benchmarks.workload import (
    QUICK,
    Sizes,
    config_of,
    random_tables,
    sharpened,
    temporary_bytes,
    training_of,
)
from grasp_jax.config import EvalConfig
from grasp_jax.core.errors import UserError
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.evaluation import ranking
from grasp_jax.evaluation.evaluation_set import EvaluationSet, evaluation_set
from grasp_jax.evaluation.ranker import NO_PAIRS, Ranker, UserStates, item_features, user_states
from grasp_jax.evaluation.ranking import full_ranks, sampled_ranks
from grasp_jax.models.batch import Tables
from grasp_jax.models.encoders.holistic import holistic_attention
from grasp_jax.models.methods import METHODS

MODELS = ("plain-sasrec", "grasp-sasrec", "plain-gru4rec", "grasp-gru4rec")
NEGATIVES, USER_BLOCK, ITEM_BLOCK = 100, EvalConfig().user_block, 4096
PLAIN_BLOCK = 1024  # candidates of one user that the unfactorised model embeds at once
REPEATS = 3
PARITY_ITEMS, PARITY_LIMIT = 256, 1e-4  # of the largest score


def test_set(split: Split, tables: Tables, users: int = 0) -> EvaluationSet:
    """The test items of all users, or of a number of users drawn at random, with their stored negatives."""
    index, histories = (
        exclusion_index(split.log, split.log.offsets[:-1], split.log.offsets[1:]),
        split.test,
    )
    everyone = histories.evaluated
    if users:
        kept = np.sort(np.random.default_rng(0).permutation(everyone)[:users])
        target = np.full_like(histories.target, -1)
        target[kept] = histories.target[kept]
        histories = dataclasses.replace(histories, target=target)
    drawn = draw_candidates(index, histories.evaluated, NEGATIVES, seed=0)
    return evaluation_set(histories, drawn, tables, USER_BLOCK)


def time_sampled(name: str, step: FactorisedStep, split: Split) -> dict[str, Any]:
    """Times of the sampled test of all users and of an epoch, without compilation and without the test set, which a run makes once."""
    seconds = step.run_warm()
    started = time.perf_counter()
    asked = test_set(split, step.data.tables)
    jax.block_until_ready((asked.candidates, asked.candidate_logits))
    prepared = time.perf_counter() - started
    evaluated = median_seconds(lambda: sampled_ranks(step.ranker(), asked), REPEATS)
    ranker = step.ranker()
    return {
        "model": name,
        "users": len(asked.users),
        "candidates": 1 + NEGATIVES,
        "epoch_seconds": seconds,
        "evaluation_seconds": evaluated,
        "share_of_epoch": evaluated / seconds,
        "prepared_once_seconds": prepared,
        "temporary_bytes": ranking_bytes(
            ranker, ranker.features, ranking._sampled_ranks.lower(ranker, asked.blocks)
        ),
    }


def plain_item_vectors(
    layers: list[dict[str, jax.Array]], tables: Tables, user: jax.Array, items: jax.Array
) -> jax.Array:
    """Eq. 3-5 as written for one user and [C] items: [C, D]."""
    x = holistic_attention(
        tables["users"][user],
        tables["users_similar"][user],
        tables["items"][items],
        tables["items_similar"][items],
    )
    for k, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"]
        x = jax.nn.gelu(x, approximate=True) if k + 1 < len(layers) else x
    return x


@functools.partial(jax.jit, static_argnames=("num_items", "block"))
def plain_scores(
    layers: list[dict[str, jax.Array]],
    tables: Tables,
    users: jax.Array,
    states: jax.Array,
    num_items: int,
    block: int,
) -> jax.Array:
    """[B] users and their states [B, D] -> [B, num_items] scores of the first items, `block` candidates at once."""
    blocks = jnp.minimum(jnp.arange(-(-num_items // block) * block), num_items - 1).reshape(
        -1, block
    )

    def of_user(user: tuple[jax.Array, jax.Array]) -> jax.Array:
        row, state = user
        return jax.lax.map(
            lambda items: plain_item_vectors(layers, tables, row, items) @ state, blocks
        ).ravel()[:num_items]

    return jax.lax.map(of_user, (users, states))


def largest_difference(
    ranker: Ranker, layers: Any, users: jax.Array, states: jax.Array, width: int
) -> float:
    """Largest difference between the scores of both forms, as a share of the largest; user rows have length E, so that gates differ."""
    items = min(PARITY_ITEMS, ranker.num_items)
    rows = {
        name: table[users] if name.startswith("users") else table[:items]
        for name, table in ranker.tables.items()
    }
    few = sharpened(rows, width)
    own = UserStates(states, None, jnp.arange(len(users)))
    ours = jax.jit(Ranker.scores)(
        Ranker.of(ranker.model, ranker.params, ranker.data, few), own, jnp.arange(items)
    )
    plain = plain_scores(layers, few, own.queries, states, items, items)
    return float(jnp.abs(ours - plain).max() / jnp.abs(plain).max())


def ranking_bytes(ranker: Ranker, kept: Any, ranks: jax.stages.Lowered) -> int:
    """Bytes that a compiled ranking needs in addition to parameters and tables; 0 if the device does not report them.

    Args:
      ranker: the model.
      kept: the items' arrays, which are made first and stay in memory.
      ranks: the lowered function that ranks with them.
    """
    temporary = [
        temporary_bytes(own.compile()) or 0
        for own in (item_features.lower(ranker.model, ranker.params, ranker.tables), ranks)
    ]
    # the functions run one after the other
    return sum(leaf.nbytes for leaf in jax.tree.leaves(kept)) + max(temporary)


def full_ranking_bytes(ranker: Ranker, asked: EvaluationSet, item_block: int) -> int:
    """`ranking_bytes` of the full catalogue."""
    expansion = ranker.expansion()
    ranks = ranking._full_ranks.lower(ranker, expansion, *asked.block(0), NO_PAIRS, item_block)
    return ranking_bytes(ranker, (ranker.features, expansion), ranks)


def time_full(
    step: FactorisedStep, split: Split, sizes: Sizes, num_users: int, plain_users: int
) -> dict[str, Any]:
    """Ranking the full catalogue, factorised and as written.

    Raises:
      UserError: the scores differ.
    """
    ranker, everyone = step.ranker(), len(split.test.evaluated)
    layers = plain_layers(ranker.params["encoder"], float(np.sqrt(sizes.width)))
    asked = test_set(split, ranker.tables, num_users)
    users, states = (
        asked.queries[0][:plain_users],
        user_states(ranker, asked.block(0)[0])[:plain_users],
    )
    # otherwise the difference would only be that between TF32 and float32
    with jax.default_matmul_precision("highest"):
        difference = largest_difference(ranker, layers, users, states, sizes.width)
    if not difference <= PARITY_LIMIT:
        raise UserError(
            f"factorised and plain scores differ by {difference:.1e} of the largest, so their times cannot be compared"
        )

    item_block = min(ITEM_BLOCK, ranker.num_items)
    projected = median_seconds(
        lambda: item_features(ranker.model, ranker.params, ranker.tables), REPEATS
    )
    ranked = median_seconds(lambda: full_ranks(step.ranker(), asked, item_block), REPEATS)
    arguments = (
        layers,
        ranker.tables,
        users,
        states,
        ranker.num_items,
        min(PLAIN_BLOCK, ranker.num_items),
    )
    plain = median_seconds(lambda: plain_scores(*arguments), REPEATS)
    per_user = max(ranked - projected, 0.0) / len(asked.users)
    ours, theirs = projected + per_user * everyone, plain / len(users) * everyone
    return {
        "users": everyone,
        "items": ranker.num_items,
        "largest_difference": difference,
        "factorised": {
            "sampled_users": len(asked.users),
            "seconds_once": projected,
            "seconds_per_user": per_user,
            "extrapolated_seconds": ours,
            "extra_bytes": full_ranking_bytes(ranker, asked, item_block),
        },
        "as_written": {
            "sampled_users": len(users),
            "seconds_per_user": plain / len(users),
            "extrapolated_seconds": theirs,
            "extra_bytes": temporary_bytes(plain_scores.lower(*arguments).compile()) or 0,
        },
        "speed_up": theirs / ours,
    }


def found_of(sampled: Sequence[dict[str, Any]], full: dict[str, Any] | None) -> str:
    """The benchmark's last line."""
    tests = ", ".join(
        f"{row['share_of_epoch']:.0%} of an epoch of {row['model']}" for row in sampled
    )
    faster = (
        f"; factorised, the full ranking is {full['speed_up']:.1f}x as fast as written out"
        if full
        else ""
    )
    return f"the test among 100 negatives takes {tests}{faster}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times each model, prints, and writes JSON."""
    parser = parser_of("evaluation", __doc__)
    parser.add_argument(
        "--models",
        default=",".join(MODELS[:2]),
        help=f"models, comma separated: some of {', '.join(MODELS)}",
    )
    parser.add_argument(
        "--full-users",
        type=int,
        default=256,
        help="users whose full ranking is timed; 0 leaves it out",
    )
    parser.add_argument(
        "--plain-users", type=int, default=4, help=f"users, at most {USER_BLOCK}, ranked as written"
    )
    given = parser.parse_args(arguments)
    models = names_of(parser, "--models", given.models, MODELS)
    sizes = QUICK if given.quick else Sizes()
    contention, log = Contention(), log_to_time(given.quick)
    split, sampled, full = leave_one_out(log, sizes.max_length), [], None
    for name in models:
        method, backbone = name.split("-")
        tables = random_tables(log, sizes.width) if METHODS[method].needs_bank else {}
        step = FactorisedStep(
            training_of(config_of(sizes), split, tables, method, backbone), len(split.train.end)
        )
        sampled.append(time_sampled(name, step, split))
        if METHODS[method].needs_bank and given.full_users:
            full = time_full(
                step, split, sizes, given.full_users, min(given.plain_users, USER_BLOCK)
            )
    keys = ("epoch_seconds", "evaluation_seconds", "prepared_once_seconds")
    rows = [
        [row["model"], *(f"{row[key]:.2f}" for key in keys), f"{row['share_of_epoch']:.1%}"]
        for row in sampled
    ]
    print(
        table(
            ["100 negatives, all users", "epoch, s", "test, s", "prepared once, s", "of an epoch"],
            rows,
        )
    )
    if full:
        factorised, written = full["factorised"], full["as_written"]
        print(
            f"full catalogue, extrapolated to {full['users']:,} users: {factorised['extrapolated_seconds']:,.1f} s and "
            f"{factorised['extra_bytes'] / 2**20:,.0f} MiB factorised, {written['extrapolated_seconds']:,.1f} s and "
            f"{written['extra_bytes'] / 2**20:,.0f} MiB as written: {full['speed_up']:.1f}x; scores within {full['largest_difference']:.1e}"
        )
    facts = {**sizes._asdict(), "data": log.name, "users": log.num_users, "items": log.num_items}
    keep(
        "evaluation",
        {"sizes": facts, "sampled": sampled, "full": full},
        contention,
        given,
        found_of(sampled, full),
    )


if __name__ == "__main__":
    run(main)
