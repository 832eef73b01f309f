"""Hashes that decide what is stored."""

import numpy as np

from grasp_jax.core.hashing import hash_of_texts, mixed
from grasp_jax.serving.represent import hash_of_ids

IDS = ["ann", "b7", "é"]


def test_bits_stay() -> None:
    """Ties of earlier workdirs would be in another order, and users of earlier representations would be searched in other shards."""
    for key, expected in (
        (b"", [0xA5F323BF6ADF3A8D, 0xF2FDC299159AF8F1, 0x2F19F3EF8BBF1ACB]),
        (b"3", [0xC3314563E5BE12E8, 0x722EF80E88F213D5, 0x06F72D20FBB963BC]),
        (b"-4", [0xA522DB5487AF5272, 0x39CBBCC8F867DAAD, 0x2F38732584C0E3E3]),
    ):
        np.testing.assert_array_equal(hash_of_texts(IDS, key), np.array(expected, np.uint64))
    np.testing.assert_array_equal(
        mixed(np.array([0, 1, 2**63 + 5], np.uint64)),
        np.array([0, 0x5692161D100B05E5, 0x4C90C93F432D261A], np.uint64),
    )
    np.testing.assert_array_equal(
        hash_of_ids(np.array([0, 7, -1])),
        np.array([0xE220A8397B1DCDAF, 0x63CBE1E459320DD7, 0xE4D971771B652C20], np.uint64),
    )
    np.testing.assert_array_equal(hash_of_ids(np.array(IDS, object)), hash_of_texts(IDS))
