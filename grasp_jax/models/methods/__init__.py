"""Every method by the name that a config gives it."""

from grasp_jax.models.methods import grasp, llminit, plain, rlmrec
from grasp_jax.models.methods.method import Method

METHODS: dict[str, Method] = {
    "plain": plain.METHOD,
    "llminit": llminit.METHOD,
    "rlmrec_con": rlmrec.CON,
    "rlmrec_gen": rlmrec.GEN,
    "grasp": grasp.GRASP,
    "grasp_wo_attention": grasp.WITHOUT_ATTENTION,
    "grasp_wo_similar": grasp.WITHOUT_SIMILAR,
    "grasp_wo_global": grasp.WITHOUT_GLOBAL,
    "grasp_softmax": grasp.SOFTMAX,
}
