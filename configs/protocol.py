"""The settings in which the protocol of LLM-ESR's public code differs from ours (docs/deviations.md); the paper reports its rows."""

from ml_collections import ConfigDict

from grasp_jax.core.errors import UserError

SUFFIX = "@llm_esr"


def as_variant(config: ConfigDict, variant: str) -> ConfigDict:
    """The config with the backbones and the protocol that `variant` names.

    Args:
      config: is changed in place.
      variant: one backbone or several with commas between them, for our protocol; or one backbone and `@llm_esr` for LLM-ESR's protocol, as
        in "gru4rec@llm_esr".

    Raises:
      UserError: `@llm_esr` does not follow exactly one of sasrec, gru4rec and bert4rec.
    """
    backbone = variant.removesuffix(SUFFIX)
    config.model.backbone = backbone
    if variant == backbone:
        return config
    if backbone not in ("sasrec", "gru4rec", "bert4rec"):
        raise UserError(
            f"{variant}: expected one backbone before {SUFFIX}: sasrec, gru4rec or bert4rec, whose protocols differ"
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
