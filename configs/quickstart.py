"""Two minutes with GRASP, no data needed: compares plain SASRec, GRASP and grasp_plus on a synthetic shop.

    make quickstart        (python -m grasp_jax.main --config=configs/quickstart.py --workdir=runs/quickstart)

For your own data, `grasp-jax init FOLDER` writes a config for the files of a folder. Or use this config with `--config.data.path=FOLDER`,
and with `--config.data.items_file=items.jsonl` for your items table (id, title, any attributes); docs/data-formats.md describes the
formats. Settings that were tuned on the synthetic shop are in `by_source` and are not used for your data.
"""

from ml_collections import ConfigDict

from grasp_jax.config import default_config

SHOP = {  # settings that were tuned on the synthetic shop
    "data": {"name": "synthetic-shop", "max_length": 50, "tail_item_below": 4},
    "train": {"learning_rate": (2e-3,), "max_epochs": 60, "patience": 5},  # minutes, not hours
    "model": {
        "dropout": (0.3,),
        "row_norm": 16.0,  # sqrt(E): better on head items and the full ranking, worse on tail items than 1
    },
    "eval": {"select": "sampled100"},  # as for the README's numbers
}


def get_config() -> ConfigDict:
    config = default_config()
    config.data.source = "auto"  # the shop, or your files once there is a path
    config.data.synthetic.num_users = 2000
    config.data.synthetic.num_items = (
        5000  # most items are rare, as in a real shop: there is little for an ID to learn from
    )
    config.data.synthetic.repeat_rate = 0.03
    config.model.method = "plain,grasp,grasp_plus"
    config.train.max_epochs = 40
    config.train.patience = 5
    with config.unlocked():
        config.by_source = {"synthetic": SHOP}
    return config
