"""Amazon Beauty 2014, 5-core, with real text: GRASP against plain SASRec. Validation chooses the dropout of each.

    python -m grasp_jax.main --config=configs/beauty5.py --config.data.path=FOLDER --workdir=runs/beauty5-lsa
    python -m grasp_jax.main --config=configs/beauty5.py:minilm --config.data.path=FOLDER --workdir=runs/beauty5-minilm
    python -m grasp_jax.main --config=configs/beauty5.py:best --config.data.path=FOLDER --workdir=runs/beauty5-best
    python -m grasp_jax.main --config=configs/beauty5.py:paper --config.data.path=FOLDER --workdir=runs/beauty5-paper
    python -m grasp_jax.main --config=configs/beauty5.py:endpoint --config.data.path=FOLDER --workdir=runs/beauty5-endpoint
    python -m grasp_jax.main --config=configs/beauty5.py:time --config.data.path=FOLDER --workdir=runs/beauty5-time

FOLDER holds `inter_time.tsv`, `items.jsonl` and, for `best`, `minilm` and `paper`, `minilm_items.npy` and `minilm_users.npy`.

`best` trains `grasp_plus` with the settings of our best result and the vectors of the two .npy files. Validation ranks the whole catalogue
without the items that a user has had. `--config.knowledge.encoder=lsa` computes vectors from the texts of `items.jsonl` instead. With
fewer users an epoch has fewer steps, so on smaller data raise `train.max_epochs` and `train.decay_epochs` (docs/studies.md: other domains),
and give other data another `--config.data.name`.

`paper` is `minilm` with the protocol of the paper (arXiv 2511.20177): histories of 100 items, D=64, batches of 128 users, Adam with a
learning rate of 1e-3, a patience of 20 epochs on the validation NDCG@10 of all users among 100 negatives, seeds 42, 43 and 44. The paper
does not state the dropout, so validation chooses between two rates, as in the other variants. `--config.model.method` names other methods.

`endpoint` uses a server of your own at `ENDPOINT` for both language models: one describes every item and user, the other encodes the
descriptions. `--config.knowledge.describe.model` and `--config.knowledge.embed.model` name them (`docs/knowledge.md`).

`time` splits by two days, which are the same for all users, instead of by each user's last two interactions (docs/deviations.md, "The
split"): 80 % of the interactions are before the first day, 10 % between the two. It computes its own vectors, because the texts behind the
given user vectors name items that are validation or test targets in this split.
"""

from ml_collections import ConfigDict

from grasp_jax.config import default_config
from grasp_jax.core.errors import UserError

VALID_AFTER, TEST_AFTER = "2014-03-07", "2014-05-13"  # 80 and 90 % of the interactions are earlier
ENDPOINT = "http://localhost:8000/v1"


def get_config(variant: str = "lsa") -> ConfigDict:
    """The config of one variant.

    Args:
      variant: "lsa": vectors computed from the texts; "minilm": vectors from files; "endpoint": vectors from a language model; "best":
        `grasp_plus` with the vectors of "minilm"; "time": "lsa" with the split by time, where validation uses the full ranking; "paper":
        "minilm" with the paper's protocol.

    Raises:
      UserError: there is no such variant.
    """
    config = default_config()
    config.data.name = "beauty5"
    config.data.interactions_file = "inter_time.tsv"
    config.data.items_file = "items.jsonl"
    config.data.max_length = 50
    config.data.tail_user_below = 9
    config.data.tail_item_below = 4
    config.model.method = "plain,grasp"
    config.model.dropout = (0.2, 0.5)
    config.train.patience = 10  # 20, as in the paper, takes many more epochs; docs/deviations.md
    config.eval.select = "sampled100"  # as in the paper
    config.eval.valid_users = 5_000
    if variant in ("minilm", "paper", "best"):
        config.knowledge.encoder = "file"
        config.knowledge.item_file = "minilm_items.npy"
        config.knowledge.user_file = "minilm_users.npy"
    elif variant == "endpoint":
        config.knowledge.describer = config.knowledge.encoder = "openai"
        config.knowledge.describe.base_url = config.knowledge.embed.base_url = ENDPOINT
    elif variant == "time":
        config.data.split = "time"
        config.data.valid_after, config.data.test_after = VALID_AFTER, TEST_AFTER
        config.eval.select = "full"
    elif variant != "lsa":
        raise UserError(
            f"configs/beauty5.py:{variant}: expected lsa, minilm, best, paper, endpoint or time"
        )
    protocols = {"paper": paper, "best": best}
    return protocols[variant](config) if variant in protocols else config


def best(config: ConfigDict) -> ConfigDict:
    """Adds the settings that validation on the whole catalogue chose for late fusion (docs/studies.md)."""
    config.model.method = "grasp_plus"
    config.model.dropout = (0.5,)
    config.model.plus.text_width = 192  # all items are encoded once a step; 384 takes twice as long
    config.train.batch_size = 128
    config.train.learning_rate = (2e-3,)
    config.train.max_epochs = config.train.decay_epochs = 20
    config.train.patience = 20
    config.eval.select = "full_unseen"
    config.eval.valid_users = 0
    return config


def paper(config: ConfigDict) -> ConfigDict:
    """Adds the settings of the paper's protocol, including those that are defaults here."""
    config.data.max_length = 100
    config.model.features = 64
    config.train.learning_rate = (1e-3,)
    config.train.batch_size = 128
    config.train.patience = 20
    config.train.seeds = (42, 43, 44)
    config.eval.num_negatives = 100
    config.eval.valid_users = 0
    return config
