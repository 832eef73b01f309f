"""Bytes of ranking as XLA counts them and as planned: python -m tests.ranking_memory FOLDER METHOD MESH."""

import json
import pathlib
import sys

import jax

from benchmarks.scaling_compiled import BACKBONE, config_of, write_data
from grasp_jax.evaluation import ranking
from grasp_jax.evaluation.ranker import NO_PAIRS, Ranker, item_expansion, item_features
from grasp_jax.planning.plan import Sizes, workload
from grasp_jax.planning.ranking import ranking_bytes
from grasp_jax.planning.workload import Layout
from grasp_jax.training.replicas import one_replica
from grasp_jax.training.snapshot import initial_snapshot
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import make_trial

USERS, ITEMS, WIDTH = 300, 3000, 32
BLOCKS = ((32, 256), (256, 2900))  # users, items


def main(folder: pathlib.Path, method: str, layout: Layout) -> None:
    """Prints a row for each block."""
    write_data(folder / "data", USERS, ITEMS, WIDTH)
    rows = []
    for users, items in BLOCKS:
        fields = {"eval.user_block": users, "eval.item_block": items, "model.mlp": (64,)}
        config = config_of(folder, layout, 64, method).with_fields(
            {**fields, "model.features": 16, "eval.num_negatives": 50}
        )
        trial = make_trial(prepare(open_run(config, folder / "runs")), method, BACKBONE)
        snapshot = initial_snapshot(trial.model, trial.replicas, trial.data)
        params, valid = one_replica(snapshot.best_params, 0), trial.data.valid
        assert valid is not None
        ranker = Ranker.of(trial.model, params, trial.data.device, trial.data.tables)
        expansion = ranker.expansion()
        kept = [
            leaf.addressable_shards[0].data
            for leaf in jax.tree.leaves((ranker.features, expansion))
        ]
        pairs = jax.device_put(NO_PAIRS)
        programs = [
            item_features.lower(ranker.model, ranker.params, ranker.tables),
            item_expansion.lower(ranker.model, ranker.params, ranker.features),
            ranking._full_ranks.lower(ranker, expansion, *valid.block(0), pairs, items),
        ]
        temporary = [own.compile().memory_analysis().temp_size_in_bytes for own in programs]
        work = workload(config, Sizes(config.data), WIDTH, method, layout.devices)
        rows.append(
            {
                "items": sum(leaf.nbytes for leaf in kept),
                "temporaries": max(temporary),
                "planned": ranking_bytes(work, layout),
            }
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    shape = [int(size) for size in sys.argv[3].split("x")]
    main(pathlib.Path(sys.argv[1]), sys.argv[2], Layout(*shape))
