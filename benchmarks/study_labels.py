"""What the rows of studies are called in README.md and docs/: a method by its exact name, a variant of `grasp_plus` in words."""

from grasp_jax.models.methods import METHODS

DEFAULT = "idtext-validated_match"  # how runs of today's `grasp_plus` were called before its settings became the defaults
VARIANTS = {  # of the study `ahead`; each sets fields of `model.plus`, or trains for fewer epochs
    "grasp_plus": "`grasp_plus`, former defaults",
    "three_id_towers": "control: three ID towers, no text",
    "no_match": "`grasp_plus`, former defaults, without the match",
    DEFAULT: "`grasp_plus`",
    "validated_match": "`grasp_plus`, IDs start at random",
    "decay1-validated_match": "`grasp_plus`, IDs start at random, weight decay 1",
    "id_and_match": "one ID tower and the match",
    "id_and_validated_match": "one ID tower and the match, chosen by validation",
    "idtext_and_match": "LLMInit with the match",
    "three_idtext_towers": "three LLMInit towers",
    "grasp_plus_15_epochs": "`grasp_plus`, former defaults, 15 epochs",
    "two_towers": "two towers and the match, IDs start from text",
}


def shown(name: str) -> str:
    """ "sasrec_ce, 40 epochs" becomes "`sasrec_ce`, 40 epochs"; what is neither a method nor a variant stays."""
    first, comma, rest = name.partition(", ")
    own = VARIANTS.get(first, f"`{first}`" if first in METHODS else first)
    return f"{own}{comma}{rest}"
