"""Tables and curves of the paper on Amazon Beauty 5-core with text, one trial after the other. After a kill the same command continues.

    python -m grasp_jax.main --config=configs/sweep.py:table2 --config.data.path=FOLDER --workdir=runs/table2
    python -m grasp_jax.main --config=configs/sweep.py:table4 --config.data.path=FOLDER --workdir=runs/table4
    python -m grasp_jax.main --config=configs/sweep.py:baselines --config.data.path=FOLDER --workdir=runs/baselines

FOLDER is that of `configs/beauty5.py:minilm`. To run some trials only, add `--config.model.method=plain,grasp
--config.model.backbone=gru4rec` with the same workdir. A point of a curve is a separate run:

    for k in 1 5 10 20; do python -m grasp_jax.main --config=configs/sweep.py:neighbours=$k ... --workdir=runs/neighbours-$k; done

The other curves are `features=D` (Figure 4), `gate=QUERY*SCALE` (gates and their leak, such as `gate=prefix*8`), `corrupt=KIND*PERCENT`
(wrong texts, such as `corrupt=swap*25`), `plus=PART` (grasp_plus with one part changed; PART is a key of PLUS below) and
`encoder=NAME*PROMPT` (kinds of text: `encoder=lsa*categories`, or `encoder=sentence_transformers*titles` with
`--config.knowledge.sentence.model=...`). `--mode=report --runs=DIR,DIR,... --out=DIR` writes a report about several runs.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import beauty5
from grasp_jax.core.errors import UserError

TABLES = {
    "table2": "plain,llminit,rlmrec_con,rlmrec_gen,llm_esr,grasp,grasp_plus",
    "baselines": "popularity,semantic_neighbours,plain,sasrec_ce,gsasrec,id_text_sum,id_text_concat,unisrec,unisrec_id",
    "table4": "grasp,grasp_wo_attention,grasp_wo_similar,grasp_wo_global,grasp_softmax",
}
POINTS = ("neighbours", "features", "gate", "corrupt", "plus", "encoder")
EARLY: dict[str, Any] = {"model.plus.fusion": "early"}
PLUS: dict[str, dict[str, Any]] = {
    "as_it_is": {},
    "no_id_tower": {"model.plus.id_towers": 0},
    "no_text_tower": {"model.plus.text_towers": 0},
    "no_company_tower": {"model.plus.company_towers": 0},
    "no_match": {"model.plus.match_weight": 0.0},
    "learned_text_trust": {"model.plus.text_trust": "learned"},
    "not_whitened": {"model.plus.text_whitening": 0.0},
    "wholly_whitened": {"model.plus.text_whitening": 1.0},
    "bce": {"train.loss": "bce"},
    "gbce": {"train.loss": "gbce"},
    "label_smoothing": {"train.label_smoothing": 0.1},
    "not_centred": {"knowledge.center": False},
    "prenorm": {"model.block": "prenorm"},
    "early_fusion": EARLY,
    "no_id_residual": EARLY | {"model.plus.id_residual": False},
    "ids_trusted_fully": EARLY | {"model.plus.id_trust": 0.0},
    "no_id_dropout": EARLY | {"model.plus.id_dropout": 0.0},
    "row_norm_1": EARLY | {"model.plus.row_norm": 1.0},
    "similarity_pooling": EARLY | {"knowledge.pooling": "similarity"},
}
PROMPTS = {"titles": "titled_item", "categories": "listed_item"}
# chosen by validation on SASRec for plain and for grasp; the other methods reuse them
ID_DROPOUT, TEXT_DROPOUT = (0.5,), (0.2,)
EARLY_DROPOUT = (0.3,)  # of grasp_plus, where text and IDs share a backbone
WITH_IDS = ("plain", "sasrec_ce", "id_text_sum", "id_text_concat", "unisrec_id")
GATE_EPOCHS = 12  # of a "gate" run: training loss and validation diverge early there


def get_config(variant: str = "table2") -> ConfigDict:
    """`variant` is a key of TABLES, or NAME=VALUE for a point of a curve, where NAME is one of POINTS."""
    name, _, value = variant.partition("=")
    if name not in (*TABLES, *POINTS) or bool(value) != (name in POINTS):
        points = ", ".join(f"{point}=..." for point in POINTS)
        raise UserError(
            f"configs/sweep.py:{variant}: expected one of {', '.join(TABLES)}, {points}"
        )
    # given vectors have no text to change
    config = beauty5.get_config("lsa" if name in ("corrupt", "encoder") else "minilm")
    config.model.method = TABLES.get(name, "grasp")
    config.model.backbone = "sasrec,gru4rec,bert4rec" if name == "table2" else "sasrec"
    config.model.dropout = TEXT_DROPOUT
    early = name == "plus" and EARLY.items() <= PLUS.get(value, {}).items()
    with config.unlocked():
        config.by_method = {
            **{
                method: {"model": {"dropout": ID_DROPOUT}}
                for method in (*WITH_IDS, "llminit", "rlmrec_con", "rlmrec_gen")
            },
            **{
                method: {"train": {"learning_rate": 3e-3}} for method in TABLES["table4"].split(",")
            },  # 1e-3 needs twice the epochs
            "grasp_plus": {"model": {"dropout": EARLY_DROPOUT if early else ID_DROPOUT}},
            "gsasrec": {
                "model": {"dropout": ID_DROPOUT},
                "train": {"shared_negatives": 256},
            },  # as in its paper
        }
    try:
        _set_point(config, name, value)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"configs/sweep.py:{variant}: {value!r} is not understood; {HOW[name]}"
        ) from error
    return config


HOW = {
    "neighbours": "expected a number, neighbours=5",
    "features": "expected a number, features=32",
    "gate": "expected a query and a scale, gate=prefix*8",
    "corrupt": "expected a kind and percent, corrupt=swap*25",
    "encoder": f"expected an encoder and one of {', '.join(PROMPTS)}, encoder=lsa*titles",
    "plus": f"expected plus= one of {', '.join(PLUS)}",
}


def _set_point(config: ConfigDict, name: str, value: str) -> None:
    # curves use the sampled protocol, as in the paper
    if name in ("neighbours", "features", "gate", "corrupt"):
        config.eval.full = False
    if name == "neighbours":
        config.knowledge.num_neighbours = int(value)
    elif name == "features":
        config.model.features = int(value)
    elif name == "gate":
        query, scale = value.split("*")
        config.model.gate_query, config.model.gate_scale = query, float(scale)
        # a quarter of the multiplications; this comparison is about the queries of the gates
        config.model.mlp = (64,)
        config.train.max_epochs = GATE_EPOCHS
    elif name == "corrupt":
        kind, percent = value.split("*")
        config.knowledge.corruption.kind, config.knowledge.corruption.share = (
            kind,
            float(percent) / 100,
        )
        config.model.method = "rlmrec_con,llm_esr,grasp,grasp_plus"
    elif name == "encoder":
        config.knowledge.encoder, prompt = value.split("*")
        config.knowledge.item_template = PROMPTS[prompt]
        config.model.method = "grasp,grasp_plus"
    elif name == "plus":
        config.model.method = "grasp_plus"
        config.update_from_flattened_dict(PLUS[value])
