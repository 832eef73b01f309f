"""Every method on Amazon Beauty 5-core with given text vectors, under one protocol: each with its paper's loss, or all with cross-entropy.

    python -m grasp_jax.main --config=configs/compare.py:published --config.data.path=FOLDER --workdir=runs/published
    python -m grasp_jax.main --config=configs/compare.py:ce --config.data.path=FOLDER --workdir=runs/ce

FOLDER is that of `configs/beauty5.py:minilm`. `ce` trains all methods with cross-entropy over the whole catalogue, for 20 epochs in which
the learning rate falls to 0, so that rows differ by their method only. Validation on the whole catalogue without the items that a user has
had (`full_unseen`) chooses the epoch and the dropout, for every method from the same two rates; the test set chooses nothing. To run one
row, add `--config.model.method=llm_esr` with the same workdir. Five seeds: `--config.train.seeds=(42,43,44,45,46)`.
"""

from ml_collections import ConfigDict

from configs import beauty5
from grasp_jax.core.errors import UserError

METHODS = (
    "popularity,semantic_neighbours,plain,gsasrec,llminit,rlmrec_con,rlmrec_gen,llm_esr,"
    "id_text_sum,id_text_concat,unisrec,unisrec_id,grasp,grasp_plus"
)
DROPOUT = (0.3, 0.5)  # for every method


def get_config(variant: str = "published") -> ConfigDict:
    """`variant` is "published" (each method has the loss of its paper) or "ce" (all have cross-entropy)."""
    if variant not in ("published", "ce"):
        raise UserError(f"configs/compare.py:{variant}: expected published or ce")
    config = beauty5.get_config("minilm")
    config.model.method = METHODS
    config.model.dropout = DROPOUT
    config.train.patience = 10
    config.eval.select = "full_unseen"
    config.eval.valid_users = 0
    if variant == "ce":
        config.train.loss = "ce"
        config.train.learning_rate = (2e-3,)
        config.train.max_epochs = config.train.decay_epochs = 20
        config.train.patience = 20
        config.model.plus.text_width = 192  # as configs/beauty5.py:best
    return config
