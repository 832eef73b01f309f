"""Five minutes with GRASP, no data needed: a synthetic shop, GRASP and plain SASRec side by side.

    make quickstart        (python -m grasp_jax.main --config=configs/quickstart.py --workdir=runs/quickstart)

To use your own data, copy this file and set `config.data.source = "files"`, `config.data.path` to your folder and
`config.data.items_file` to your items table (id, title, any attributes); README.md, "Your own data", has the formats.
"""

from grasp_jax.config import default_config
from grasp_jax.config_dict import ConfigDict


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "synthetic-shop"
    config.data.source = "synthetic"
    config.data.synthetic.num_users = 2500
    config.data.synthetic.num_items = 5000  # most items are rare, as in a real shop: there is little for an ID to learn from
    config.data.synthetic.repeat_rate = 0.03
    config.data.max_length = 50
    config.data.tail_item_below = 4
    config.model.method = "plain,grasp"
    config.model.dropout = (0.3,)
    config.model.row_norm = 16.0  # sqrt(E): better on head items and the full ranking, worse on tail items than 1
    config.train.max_epochs = 40
    config.train.patience = 5
    return config
