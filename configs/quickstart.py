"""Five minutes with GRASP, no data needed: a synthetic shop, GRASP and plain SASRec side by side.

    make quickstart        (python -m grasp_jax.main --config=configs/quickstart.py --workdir=runs/quickstart)

With your own data, no other config is needed: `--config.data.path=FOLDER`, and `--config.data.items_file=items.jsonl` for your items table
(id, title, any attributes); README.md, "Your own data", has the formats. What is tuned to the shop then stays behind: it stands under
`by_source`. Or copy this file and set the fields.
"""

from ml_collections import ConfigDict

from grasp_jax.config import default_config

SHOP = {  # what was tuned on it, and says nothing of other data
    "data": {"name": "synthetic-shop", "max_length": 50, "tail_item_below": 4},
    "model": {
        "dropout": (0.3,),
        "row_norm": 16.0,  # sqrt(E): better on head items and the full ranking, worse on tail items than 1
    },
    "eval": {"select": "sampled100"},  # as the README's numbers were measured
}


def get_config() -> ConfigDict:
    config = default_config()
    config.data.source = "auto"  # the shop, or your files once there is a path
    config.data.synthetic.num_users = 2500
    config.data.synthetic.num_items = (
        5000  # most items are rare, as in a real shop: there is little for an ID to learn from
    )
    config.data.synthetic.repeat_rate = 0.03
    config.model.method = "plain,grasp"
    config.train.max_epochs = 40
    config.train.patience = 5
    with config.unlocked():
        config.by_source = {"synthetic": SHOP}
    return config
