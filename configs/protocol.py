"""The protocol of LLM-ESR's public code, whose rows the paper reports, where ours is another (docs/deviations.md)."""

from ml_collections import ConfigDict

from grasp_jax.errors import UserError

SUFFIX = "@llm_esr"


def as_variant(config: ConfigDict, variant: str) -> ConfigDict:
    """A backbone, or several with commas, by our protocol; one backbone and `@llm_esr` by LLM-ESR's, as in "gru4rec@llm_esr"."""
    backbone = variant.removesuffix(SUFFIX)
    config.model.backbone = backbone
    if variant == backbone:
        return config
    if backbone not in ("sasrec", "gru4rec", "bert4rec"):
        raise UserError(
            f"{variant}: expected one backbone before {SUFFIX}, for their protocols differ"
        )
    config.eval.include_short_users = True
    config.model.causal = False
    config.model.padded_length = 200
    config.train.one_item_users = True
    if backbone == "bert4rec":
        config.model.mask_noise = 0.1
    if backbone == "gru4rec":
        config.model.start_token = True
        config.model.dropout = (0.0,)
        config.train.targets = "last"
    return config
