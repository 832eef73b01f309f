"""The method `plain` with losses that make SASRec a strong baseline, used if `train.loss` is "auto"."""

from typing import ClassVar

from grasp_jax.models.methods.plain import Plain


class PlainCE(Plain):
    """ID vectors by cross-entropy over the whole catalogue (Klenitskiy and Vasilev, RecSys 2023, arXiv 2309.07602)."""

    loss: ClassVar[str] = "ce"


class GSASRec(Plain):
    """ID vectors by generalised binary cross-entropy: gSASRec (Petrov and Macdonald, RecSys 2023, arXiv 2308.07192).

    Its paper has t = 0.75, the default of `train.gbce_calibration`, and 256 separate negatives for each positive. Here a batch shares its
    negatives, `train.shared_negatives` of them.
    """

    loss: ClassVar[str] = "gbce"
