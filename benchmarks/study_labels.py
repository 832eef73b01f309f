"""What the rows of studies are called in README.md and docs/: a method by its exact name, a variant of `grasp_plus` in words."""

from grasp_jax.models.methods import METHODS

VARIANTS = {  # of the study `ahead`; each sets fields of `model.plus`, or trains for fewer epochs
    "three_id_towers": "control: three ID towers, no text",
    "no_match": "`grasp_plus` without the match",
    "idtext-validated_match": "`grasp_plus`, IDs start from text, match chosen by validation",
    "validated_match": "`grasp_plus`, match chosen by validation",
    "decay1-validated_match": "`grasp_plus`, match chosen by validation, weight decay 1",
    "id_and_match": "one ID tower and the match",
    "id_and_validated_match": "one ID tower and the match, chosen by validation",
    "grasp_plus_15_epochs": "`grasp_plus`, 15 epochs",
    "two_towers": "two towers and the match, IDs start from text",
}


def shown(name: str) -> str:
    """ "sasrec_ce, 40 epochs" becomes "`sasrec_ce`, 40 epochs"; what is neither a method nor a variant stays."""
    first, comma, rest = name.partition(", ")
    own = f"`{first}`" if first in METHODS else VARIANTS.get(first, first)
    return f"{own}{comma}{rest}"
