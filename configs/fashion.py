"""The paper's Fashion: plain backbones with IDs only, for comparison with the paper's row; text is optional.

    python -m grasp_jax.main --config=configs/fashion.py:sasrec --config.data.path=FOLDER --workdir=runs/fashion

FOLDER holds `inter.txt`. Paper (Table 2, SASRec): NDCG@10 44.13, HR@10 49.95.
"""

from ml_collections import ConfigDict

from configs.protocol import as_variant
from grasp_jax.config import default_config


def get_config(variant: str = "sasrec") -> ConfigDict:
    """`variant` names backbones and, optionally, LLM-ESR's protocol: `configs.protocol.as_variant`."""
    config = default_config()
    config.data.name = "fashion"
    config.data.tail_user_below = 3
    config.data.tail_item_below = 4
    config.model.method = "plain"
    config.model.dropout = (0.5,)
    config.train.seeds = (42, 43, 44)
    config.eval.select = "sampled100"  # as in the paper, for comparison with its numbers
    config.eval.groups = "paper"
    return as_variant(config, variant)
