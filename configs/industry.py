"""Synthetic data or your own, of the size of the paper's Industry-100K: 99,711 users, 1,205,282 items, mean length 20.88, E=4096.

    python -m grasp_jax.main --config=configs/industry.py --workdir=runs/industry
    python -m grasp_jax.main --config=configs/industry.py --config.data.path=FOLDER --config.data.items_file=items.jsonl --workdir=...
    python -m grasp_jax.main --config=configs/industry.py:10m --mode=plan --config.plan.device=H100

Without a path it makes synthetic data of this size, scaled down to the available memory, and prints the factor; on a CPU there are at most
`config.data.synthetic.cpu_items` items. Then it trains for a few epochs, which shows speed but not quality: raise `config.train.max_epochs`
for quality. With a path it uses your own files.

The variant 10m has the paper's full size: 10 million users on 32 GPUs, with batches of 128 users on each.

    python -m benchmarks.rehearsal --users=100000 --folder=FOLDER --out=rehearsal.json

The variant rehearsal runs all stages with up to 10 million users, the same number of items and narrow text vectors, on a machine with two
cores: 200 steps of a small model, validation of 100,000 users, and answers by a model whose scores are dot products. It shows the failures
and the costs of that size, but not quality. `benchmarks.rehearsal` writes the data and runs the stages.
"""

from ml_collections import ConfigDict

from grasp_jax.config import default_config
from grasp_jax.core.errors import UserError


def get_config(variant: str = "100k") -> ConfigDict:
    """`variant` is 100k, 10m or rehearsal.

    Raises:
      UserError: there is no such variant.
    """
    if variant not in ("100k", "10m", "rehearsal"):
        raise UserError(f"configs/industry.py:{variant}; expected 100k, 10m or rehearsal")
    config = default_config()
    config.data.name = "industry"
    config.data.source = "auto"
    config.data.tail_user_below = 29
    config.data.tail_item_below = 2
    config.data.synthetic.num_users = 99_711
    config.data.synthetic.num_items = 1_205_282
    config.data.synthetic.mean_length = 20.88
    # two float16 tables of E=4096 for users and for items
    config.data.synthetic.bytes_per_row = 2 * 4096 * 2
    config.knowledge.encoder = "tfidf_projection"
    config.knowledge.width = 4096
    config.knowledge.dtype = "float16"
    config.model.method = "plain,grasp"
    config.model.table_dtype = "float16"
    config.train.max_epochs = 4
    config.eval.select = "sampled100"  # because ranking a million items takes longer than an epoch
    config.eval.full_users = 2_000
    if variant == "10m":
        config.data.synthetic.num_users = 10_000_000
        config.mesh.data, config.mesh.table, config.tables.users = 8, 4, "sharded"
        config.train.batch_size = 32 * 128
        config.eval.valid_users = 100_000
    return _rehearsal(config) if variant == "rehearsal" else config


def _rehearsal(config: ConfigDict) -> ConfigDict:
    """Reduces a config to two cores: E=32, D=16, the user tables on the host, neighbours within the groups of the tables."""
    config.data.name = "rehearsal"
    config.data.tail_user_below = config.data.tail_item_below = 0
    config.data.max_length = 20
    config.data.synthetic.num_users = 10_000_000
    config.data.synthetic.bytes_per_row = 2 * 32 * 2
    config.knowledge.encoder = "lsa"
    config.knowledge.width = 32
    config.knowledge.item_template = "titled_item"
    config.by_source = {  # not for the synthetic shop, which --mode=plan uses: it has no groups
        "files": {
            "data": {"items_file": "items.parquet", "users_file": "users.parquet"},
            "knowledge": {"group_column": "category", "user_group_column": "segment"},
        }
    }
    config.model.method = "grasp,grasp_plus"
    config.model.features, config.model.mlp, config.model.num_layers = 16, (32,), 1
    config.model.plus.fusion = "early"
    config.tables.users = "host"
    config.train.batch_size = 256
    config.train.max_epochs, config.train.epoch_steps = 1, 200
    config.eval.valid_users = 100_000
    config.eval.user_block = 64  # so a block has 8 MiB of scores, which stay in the cache
    config.eval.item_block = 32_768
    return config
