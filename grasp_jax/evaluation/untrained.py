"""How tables show methods that are not trained: they have no backbone, no dropout and no learning rate.

Their results are stored under a backbone of the config like all others, and are the same under each, so one row of them is enough.
"""

from collections.abc import Iterable

from grasp_jax.models.methods import METHODS
from grasp_jax.workdir import trial_name

NONE = "-"


def is_trained(method: str) -> bool:
    """Whether a method is trained. A method that this program does not know counts as trained."""
    # a page may add the run's name after the method's
    registered = METHODS.get(method.partition(" ")[0])
    return registered is None or registered.trained


def shown_backbone(method: str, backbone: str) -> str:
    """The backbone as a table shows it."""
    return backbone if is_trained(method) else NONE


def stand_together(first: str, second: str) -> bool:
    """Whether methods on two shown backbones are compared: on the same backbone, or one of the methods has none."""
    return first == second or NONE in (first, second)


def trial_label(method: str, backbone: str) -> str:
    """Method and backbone as one word."""
    return trial_name(method, backbone) if is_trained(method) else method


def without_repeats(trials: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each (method, backbone) once, a method that is not trained only with its first backbone."""
    distinct: dict[tuple[str, str], tuple[str, str]] = {}
    for method, backbone in trials:
        distinct.setdefault((method, shown_backbone(method, backbone)), (method, backbone))
    return list(distinct.values())
