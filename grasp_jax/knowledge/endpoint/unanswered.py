"""Which requests must be sent, because the cache lacks their answers."""

from collections.abc import Callable

import numpy as np

from grasp_jax.config import DescribeConfig, EmbedConfig
from grasp_jax.knowledge.endpoint.cache import AnswerCache


def rows_to_request(
    cache: AnswerCache,
    keys: np.ndarray,
    other_keys: Callable[[np.ndarray], np.ndarray],
    settings: DescribeConfig | EmbedConfig,
    copy: bool = True,
) -> tuple[np.ndarray, str]:
    """Rows whose requests must be sent, and `unused_answers_message`: if it is not empty, the user must decide first, lest they pay twice.

    With cache_by=model, answers that were stored under the config's address are used too.

    Args:
      cache: that of `settings`.
      keys: [n, 2] of all rows.
      other_keys: [m] rows -> their [m, 2] keys by the other value of `cache_by`.
      settings: of the endpoint.
      copy: whether answers under the config's address are copied to keys without it; False for a dry run, which changes nothing.
    """
    rows = cache.unanswered(keys)
    others = other_keys(rows)
    if settings.cache_by == "address":
        return rows, unused_answers_message(cache, others, settings)
    if not copy:
        return rows[cache.missing(others)], ""
    cache.copy(others, keys[rows])
    return cache.unanswered(keys), ""


def unused_answers_message(
    cache: AnswerCache, keys: np.ndarray, settings: DescribeConfig | EmbedConfig
) -> str:
    """Says how many answers are in the cache only without an address, and why they are not used; empty if there are none.

    Args:
      cache: that of `settings`.
      keys: [n, 2] keys of unanswered requests, as `cache_by="model"` makes them.
      settings: of the endpoint.
    """
    count = int((~cache.missing(keys)).sum())
    if not count:
        return ""
    return (
        f"{count:,} of the answers are in {settings.cache} without their server's address and are not used, because another server may "
        f"have had another model named {settings.model!r}; to use them, set config.{settings.SECTION}.cache_by=model; to request new ones, "
        f"name another folder in config.{settings.SECTION}.cache"
    )
