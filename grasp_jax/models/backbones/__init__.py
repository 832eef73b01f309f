"""Backbones by their names in configs. A new backbone is a file in this package and a line in `BACKBONES`; or see `register_backbone`."""

from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.backbones.bert4rec import BERT4Rec
from grasp_jax.models.backbones.gru4rec import GRU4Rec
from grasp_jax.models.backbones.sasrec import SASRec

BACKBONES: dict[str, type[Backbone]] = {"sasrec": SASRec, "bert4rec": BERT4Rec, "gru4rec": GRU4Rec}
