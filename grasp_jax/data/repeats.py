"""Who takes an item again: targets that their users had before."""

import numpy as np

# share of the users whose next item is a repeat; beyond it, `full_unseen` tells little of what a shop should show
MANY_REPEATS = 0.1


def repeated_targets(
    items: np.ndarray, offsets: np.ndarray, ends: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """[N] bool, whether each user's target is among the items that the user had before it.

    Args:
      items: [I] item rows, user after user.
      offsets: [N+1]; user n owns `items[offsets[n]:offsets[n+1]]`.
      ends: [N] the end, exclusive, of what each user had before the target.
      targets: [N] item rows; -1 for none.
    """
    same = np.flatnonzero(items == np.repeat(targets, np.diff(offsets)))
    owners = np.searchsorted(offsets, same, side="right") - 1
    found = np.zeros(len(targets), bool)
    found[owners[same < ends[owners]]] = True
    return found
