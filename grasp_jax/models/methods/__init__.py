"""Every method by the name that a config gives it."""

from grasp_jax.models.methods import grasp, grasp_plus, llm_esr, llminit, plain, rlmrec
from grasp_jax.models.methods.method import Method

METHODS: dict[str, Method] = {
    "plain": plain.METHOD,
    "llminit": llminit.METHOD,
    "rlmrec_con": rlmrec.CON,
    "rlmrec_gen": rlmrec.GEN,
    "llm_esr": llm_esr.METHOD,
    "grasp": grasp.GRASP,
    "grasp_wo_attention": grasp.WITHOUT_ATTENTION,
    "grasp_wo_similar": grasp.WITHOUT_SIMILAR,
    "grasp_wo_global": grasp.WITHOUT_GLOBAL,
    "grasp_softmax": grasp.SOFTMAX,
    "grasp_plus": grasp_plus.METHOD,
}
