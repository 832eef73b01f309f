"""Searches the settings of the match of `grasp_plus` by validation alone, and records every setting: python -m benchmarks.match_search

    python -m benchmarks.match_search WORKDIR... [--out=JSON]

Each workdir holds a trained `grasp_plus` with late fusion and the match; workdirs with the same towers and other seeds belong together.
Training does not see the match, so nothing is trained again. The rule is fixed here: the setting with the highest mean validation NDCG@10
(`full_unseen`) over the seeds is chosen. Only after that are test scores computed, of the chosen setting and of the one in the config.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, place, run, table
from grasp_jax.config import Config
from grasp_jax.config.stored import identity, read_config
from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.evaluation_set import EvaluationSet, in_user_order
from grasp_jax.evaluation.metrics import group_rows, ndcg_at_10
from grasp_jax.evaluation.ranker import Ranker, UserBlock
from grasp_jax.evaluation.ranking import FullRanks, lowest_tie
from grasp_jax.evaluation.seen import seen_in_block, seen_pairs
from grasp_jax.models.text_match import match_weights
from grasp_jax.parallel.mesh import on_host
from grasp_jax.trials.evaluation_sets import evaluation_of
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import Trial, make_trial, trained

WEIGHTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # and 0, which is no match
RARE = (0.0, 1.0, 2.0, 4.0, 8.0)
DECAYS = (0.4, 0.6, 0.8, 1.0)
SETTINGS = len(WEIGHTS) * len(RARE) * len(DECAYS)
METRICS = ("NDCG@10", "HR@10")


class Setting(NamedTuple):
    """`match_weight`, `match_rare` and `match_decay` of `config.model.plus`."""

    weight: float
    rare: float
    decay: float


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model whose match can be changed.

    Attributes:
      trial: its trial.
      ranker: of the best epoch, with the match of the config.
      seed: of the training.
    """

    trial: Trial
    ranker: Ranker
    seed: int

    @property
    def config(self) -> Config:
        return self.trial.config

    @property
    def setting(self) -> Setting:
        """Of the config."""
        plus = self.config.model.plus
        return Setting(plus.match_weight, plus.match_rare, plus.match_decay)

    @property
    def towers(self) -> tuple[int, int, int]:
        """Numbers of ID, text and company towers."""
        plus = self.config.model.plus
        return plus.id_towers, plus.text_towers, plus.company_towers

    def with_match(self, rare: float, decay: float) -> Ranker:
        """The ranker with another match, of weight 1."""
        counts, (weight, of_rare, _) = self.trial.run.split.item_counts, self.setting
        factors = match_weights(counts, 1.0, rare) / match_weights(counts, weight, of_rare)
        columns = self.width_of_towers
        features = self.ranker.features
        features = features.at[:, columns:].multiply(jnp.asarray(factors))
        backbone = self.ranker.model.backbone.clone(match_decay=decay)
        model = self.ranker.model.clone(backbone=backbone)
        return dataclasses.replace(self.ranker, model=model, features=features)

    @property
    def width_of_towers(self) -> int:
        """Number of columns of an item vector before the text of the match."""
        return sum(self.towers) * self.config.model.features


def read_models(workdir: pathlib.Path) -> list[TrainedModel]:
    """The models of a workdir, one for each seed.

    Raises:
      UserError: the workdir holds no such model.
    """
    config = read_config(workdir)
    prepared = prepare(open_run(config, workdir))
    trial = make_trial(prepared, "grasp_plus", config.model.backbone)
    plus = trial.config.model.plus
    if plus.fusion != "late" or not plus.match_weight or plus.text_trust != "full":
        raise UserError(
            f"{workdir}: expected a grasp_plus with model.plus.fusion=late, match_weight above 0 and text_trust=full"
        )
    if trial.data.valid is None or trial.data.valid_seen is None:
        raise UserError(f"{workdir}: expected a validation set and eval.select=full_unseen")
    snapshot = trained(trial)
    return [
        TrainedModel(trial, trial.ranker(snapshot, m), replica.seed)
        for m, replica in enumerate(trial.replicas)
    ]


@functools.partial(jax.jit, static_argnames="towers")
def _ranks_of_block(
    ranker: Ranker,
    block: UserBlock,
    targets: jax.Array,
    seen: jax.Array,
    weights: jax.Array,
    towers: int,
) -> jax.Array:
    """[B, 2, S] ranks of the targets among all items, and the number of seen items that rank before them, for S weights of the match.

    Args:
      ranker: with the match of weight 1 in the columns from `towers` on.
      block: B users.
      targets: [B] item rows.
      seen: [J, 2] of `seen_pairs`.
      weights: [S].
      towers: number of columns of the towers.
    """
    states, items = ranker.states(block).states, ranker.features
    own = states[:, :towers] @ items[:, :towers].T
    match = states[:, towers:] @ items[:, towers:].T
    known = seen_in_block(seen, len(targets), jnp.int32(0), len(items))
    other = jnp.arange(len(items)) != targets[:, None]

    def one_weight(weight: jax.Array) -> jax.Array:
        scores = own + weight * match
        threshold = lowest_tie(jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0])
        higher = ~(scores < threshold) & other
        return jnp.stack([higher.sum(axis=1), (higher & known).sum(axis=1)], axis=1)

    return jnp.moveaxis(jax.lax.map(one_weight, weights), 0, -1)


def ranks_of(
    model: TrainedModel,
    questions: EvaluationSet,
    seen: np.ndarray,
    match: tuple[float, float],
    weights: Sequence[float],
) -> list[FullRanks]:
    """Ranks for each weight of the match.

    Args:
      model: the model.
      questions: users and targets.
      seen: [S, J, 2] of `seen_pairs`.
      match: `rare` and `decay` of the settings.
      weights: their weights.
    """
    ranker, found = model.with_match(*match), []
    for step in range(len(questions.batches)):
        block, targets = questions.block(step)
        given = block, targets, jnp.asarray(seen[step]), jnp.asarray(weights, jnp.float32)
        found.append(_ranks_of_block(ranker, *given, towers=model.width_of_towers))
    counts = in_user_order(np.stack(on_host(found)), questions)
    return [
        FullRanks(full, full - above) for full, above in np.moveaxis(counts, -1, 0).swapaxes(1, 2)
    ]


def searched(models: Sequence[TrainedModel]) -> dict[Setting, list[float]]:
    """Validation NDCG@10 without seen items of each model, by setting. With weight 0 it is the same for all other settings."""
    found: dict[Setting, list[float]] = {}
    for model in models:
        valid, seen = model.trial.data.valid, model.trial.data.valid_seen
        assert valid is not None and seen is not None
        (without,) = ranks_of(model, valid, seen, (RARE[0], DECAYS[0]), [0.0])
        for rare, decay in itertools.product(RARE, DECAYS):
            each = [without, *ranks_of(model, valid, seen, (rare, decay), WEIGHTS)]
            for weight, ranks in zip((0.0, *WEIGHTS), each, strict=True):
                found.setdefault(Setting(weight, rare, decay), []).append(ndcg_at_10(ranks.unseen))
            print(f"seed {model.seed}: match_rare {rare:g}, match_decay {decay:g}", flush=True)
    return found


def best_of(found: dict[Setting, list[float]]) -> Setting:
    """The setting with the highest mean; of equal ones, as all with weight 0 are, the first."""
    return max(found, key=lambda setting: float(np.mean(found[setting])))


def tested(models: Sequence[TrainedModel], setting: Setting) -> list[dict[str, Any]]:
    """Test metrics of each model with a setting, of all targets and of tail items, by protocol."""
    rows: list[dict[str, Any]] = []
    for model in models:
        run_, trial = model.trial.run, model.trial
        questions = evaluation_of(trial.prepared, "test", trial.method, trial.backbone)
        seen = seen_pairs(run_.split.log, run_.split.test, questions.batches)
        (ranks,) = ranks_of(model, questions, seen, setting[1:], [setting.weight])
        for protocol, own in (("full_unseen", ranks.unseen), ("full", ranks.full)):
            labels = {"seed": model.seed, "protocol": protocol}
            users, targets = questions.users, questions.targets
            for row in group_rows(own, users, targets, run_.groups, labels):
                if row["group"] in ("all", "tail_item"):
                    rows.append({key: row[key] for key in (*labels, "group", *METRICS)})
    return rows


def measured(models: Sequence[TrainedModel]) -> dict[str, Any]:
    """The whole search for models with the same towers; the test comes after the choice."""
    found = searched(models)
    chosen, own = best_of(found), models[0].setting
    return {
        "towers": models[0].towers,
        "seeds": [model.seed for model in models],
        "epochs": models[0].config.train.max_epochs,
        "searched": [
            {**setting._asdict(), "valid_ndcg@10": scores} for setting, scores in found.items()
        ],
        "chosen": chosen._asdict(),
        "config": own._asdict(),
        "test_chosen": tested(models, chosen),
        "test_config": tested(models, own),
    }


def by_config(models: Iterable[TrainedModel]) -> list[list[TrainedModel]]:
    """Groups of models that differ in their seed alone.

    Raises:
      UserError: a seed comes twice.
    """
    groups: dict[str, list[TrainedModel]] = {}
    for model in models:
        fields = {name: of for name, of in identity(model.config).items() if name != "train.seeds"}
        groups.setdefault(repr((sorted(fields.items()), model.trial.run.fingerprint)), []).append(
            model
        )
    for group in groups.values():
        seeds = [model.seed for model in group]
        if repeated := {seed for seed in seeds if seeds.count(seed) > 1}:
            raise UserError(f"seed {min(repeated)}: two workdirs have it; expected different seeds")
    return list(groups.values())


def main() -> None:
    """Searches, prints and stores."""
    parser = parser_of("match_search", __doc__)
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, help="workdirs of trained models")
    given, contention = parser.parse_args(), Contention()
    models = [model for workdir in given.workdirs for model in read_models(workdir)]
    runs = [measured(group) for group in by_config(models)]
    body = []
    for one in runs:
        for name in ("config", "chosen"):
            of = [
                row["NDCG@10"]
                for row in one[f"test_{name}"]
                if (row["protocol"], row["group"]) == ("full_unseen", "all")
            ]
            body.append(
                [
                    str(one["towers"]),
                    name,
                    *map(str, one[name].values()),
                    f"{100 * np.mean(of):.2f}",
                ]
            )
    print(table(["towers", "match of", "weight", "rare", "decay", "test NDCG@10, %"], body))
    given.out = place(given, "study-match.json")
    keep(
        "study-match",
        {"runs": runs},
        contention,
        given,
        f"{len(runs)} searches of {SETTINGS} settings with a match, and of none",
    )


if __name__ == "__main__":
    run(main)
