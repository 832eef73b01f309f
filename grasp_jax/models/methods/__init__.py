"""Methods by their names in configs. A new method is a file in this package and a line in `METHODS`; or see `register_method`."""

from grasp_jax.models.methods.base import Method
from grasp_jax.models.methods.grasp import GRASP
from grasp_jax.models.methods.grasp_plus import GRASPPlus
from grasp_jax.models.methods.id_text import IdText
from grasp_jax.models.methods.llm_esr import LLMESR
from grasp_jax.models.methods.llminit import LLMInit
from grasp_jax.models.methods.plain import Plain
from grasp_jax.models.methods.plain_losses import GSASRec, PlainCE
from grasp_jax.models.methods.rlmrec import CONTRASTIVE, GENERATIVE, RLMRec
from grasp_jax.models.methods.unisrec import UniSRec
from grasp_jax.models.methods.untrained import Popularity, SemanticNeighbours

METHODS: dict[str, Method] = {
    "popularity": Popularity(),
    "semantic_neighbours": SemanticNeighbours(),
    "plain": Plain(),
    "sasrec_ce": PlainCE(),
    "gsasrec": GSASRec(),
    "llminit": LLMInit(),
    "rlmrec_con": RLMRec(CONTRASTIVE),
    "rlmrec_gen": RLMRec(GENERATIVE),
    "llm_esr": LLMESR(),
    "id_text_sum": IdText(),
    "id_text_concat": IdText(concatenates=True),
    "unisrec": UniSRec(),
    "unisrec_id": UniSRec(with_ids=True),
    "grasp": GRASP(),
    "grasp_wo_attention": GRASP(gate="none"),
    "grasp_wo_similar": GRASP(keep=(True, False, True)),
    "grasp_wo_global": GRASP(keep=(True, True, False)),
    "grasp_softmax": GRASP(gate="softmax"),
    "grasp_plus": GRASPPlus(),
}
