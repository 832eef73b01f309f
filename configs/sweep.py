"""Whole tables of the paper on Amazon Beauty 5-core with text, cell by cell; kill it and run it again, it goes on.

    python -m grasp_jax.main --config=configs/sweep.py:table2 --config.data.path=FOLDER --workdir=runs/table2
    python -m grasp_jax.main --config=configs/sweep.py:table4 --config.data.path=FOLDER --workdir=runs/table4

FOLDER is that of `configs/beauty5.py:minilm`. Some cells only: `--config.model.method=plain,grasp --config.model.backbone=gru4rec`, on
the same workdir.
"""

import ml_collections

from configs import beauty5

METHODS = {
    "table2": "plain,llminit,rlmrec_con,rlmrec_gen,llm_esr,grasp,grasp_plus",
    "table4": "grasp,grasp_wo_attention,grasp_wo_similar,grasp_wo_global,grasp_softmax",
}
ID_DROPOUT, TEXT_DROPOUT = (
    (0.5,),
    (0.2,),
)  # what validation prefers on SASRec, for methods that are an ID table and for those that read text


def get_config(variant: str = "table2") -> ml_collections.ConfigDict:
    """`variant` is a table of the paper."""
    if variant not in METHODS:
        raise ValueError(f"configs/sweep.py:{variant}: expected one of {', '.join(METHODS)}")
    config = beauty5.get_config("minilm")
    config.model.method = METHODS[variant]
    config.model.backbone = "sasrec,gru4rec,bert4rec" if variant == "table2" else "sasrec"
    config.model.dropout = TEXT_DROPOUT
    with config.unlocked():
        config.by_method = {
            **{name: {"model": {"dropout": ID_DROPOUT}} for name in ("plain", "llminit", "rlmrec_con", "rlmrec_gen", "llm_esr")},
            **{name: {"train": {"learning_rate": 3e-3}} for name in METHODS["table4"].split(",")},  # 1e-3 needs twice the epochs
            "grasp_plus": {"model": {"dropout": (0.3,)}},
        }
    return config
