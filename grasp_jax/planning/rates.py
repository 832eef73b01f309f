"""Measured costs of stages, for `--mode=plan`. They are constants here, because the records are not installed with the package.

`record` names a file of `benchmarks/results`. `tests/test_whole_job.py` computes each constant from its record and compares them. Records
with names in -cpu are from virtual machines with two cores (AMD EPYC, Intel Xeon), in -gpu from an NVIDIA H100 or H200 with 16 cores.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rate:
    """A cost that was measured.

    Attributes:
      seconds: seconds per unit.
      record: the record with the measurement.
      on: the machine, in words.
      units: number of units in the measurement; for more units the cost is an extrapolation.
      planned: seconds per unit by `planning.step`; 0 if it has no estimate.
    """

    seconds: float
    record: str
    on: str
    units: float
    planned: float = 0.0


TWO_CORES = "two cores"
# Seconds of an interaction: reading Parquet with string ids and splitting; smaller logs take less, down to a third at 5 million.
READ = Rate(1.204e-06, "rehearsal-cpu", TWO_CORES, 207_207_673)
# Processor seconds of an interaction: fingerprint, split, packing of an epoch and exclusion indices.
PACK = Rate(1.193e-07, "reading-cpu", "one core", 5e6)
# Processor seconds of an evaluated user: 100 stored negatives, the packed history, the seen items.
EVALUATION_SET = Rate(1.116e-05, "reading-cpu", "one core", 1e5)
# Processor seconds of a text, template filled twice, hashed and encoded by lsa; and of a pair of rows in a group of 1,000 (rehearsal).
ENCODE = Rate(4.37e-05, "rehearsal-cpu", "one core", 11_205_282)
GROUPED = Rate(3.77e-08, "rehearsal-cpu", "one core", 1.12e10)
# Seconds of a pair of rows and a number of their vectors, for exact neighbours: 16,384 of the rows among all, E=1536, fed from the host.
EXACT_GPU = Rate(3.68e-13, "retrieval-gpu", "an H200", 16_384 * 1_205_282.0 * 1536)
# Seconds of a row by ScaNN, index and search of an eighth of the leaves: 1 million rows, E=1024.
SCANN = Rate(7.85e-03, "bank-cpu", TWO_CORES, 1e6)
# Processor seconds of rows to the power 1.5 times the numbers of a vector, by clusters: as many clusters as the root of the rows.
CLUSTERS = Rate(2.324e-09, "neighbours-cpu", "one core", 1e5**1.5 * 1024)
NEGATIVES = 100  # stored negatives of a user, of the rates above and below
# Validation of all users among 100 negatives, as a share of an epoch, of models with gates and without.
VALIDATION_GATED = Rate(0.203, "evaluation-cpu", TWO_CORES, 50_498)
VALIDATION = Rate(0.196, "evaluation-cpu", TWO_CORES, 50_498)
# Seconds of a user's representation, written as Parquet; and of a step of the industrial size, E=4096, of two methods.
REPRESENT = Rate(3.37e-05, "representations-cpu", TWO_CORES, 1e6)
STEP_GRASP = Rate(1.65e-03, "profile-industry-gpu", "an H200", 512, planned=4.59e-04)
STEP_PLAIN = Rate(4.00e-04, "profile-industry-gpu", "an H200", 512, planned=3.99e-04)
# Seconds of compilation, without a cache, in a training of SASRec without text.
COMPILE = Rate(9.26, "train-cpu", TWO_CORES, 1)
COMPILE_GPU = Rate(17.0, "train-gpu", "an H100", 1)
# Seconds of an operation of SASRec without text at the shape of Beauty, its start included: all of them are short.
LAUNCH = Rate(1.705e-06, "profile-gpu", "an H100", 208)
# Kernels of a step with two layers at the shape of Beauty, as XLA compiles it for an H100 (kernels-h100): of GRASP, without text, and of
# late fusion with three towers.
TOWERS = 3
KERNELS = {
    "sasrec": {"grasp": 175, "plain": 151, "grasp_plus": 440},
    "bert4rec": {"grasp": 185, "plain": 159, "grasp_plus": 463},
    # without its kernel: operations of plain-gru4rec in profile-gpu, for each tower
    "gru4rec": {"grasp": 2_255, "plain": 2_255, "grasp_plus": TOWERS * 2_255},
}
FUSED_KERNELS = {
    "sasrec": {"grasp": 60, "plain": 34, "grasp_plus": 129},
    "bert4rec": {"grasp": 63, "plain": 36, "grasp_plus": 131},
    "gru4rec": {"grasp": 60, "plain": 35, "grasp_plus": 122},
}
# Kernels of a step on SASRec in addition to those of GRASP (llm_esr, unisrec), whose networks read texts too, or of plain SASRec (rlmrec):
# cross-attention, experts, and additional losses (kernels-h100). Assumed: as many on other backbones, and for unisrec_id as for unisrec.
ADDED_KERNELS = {"llm_esr": 84, "rlmrec_con": 75, "rlmrec_gen": 40, "unisrec": 9, "unisrec_id": 9}
