"""From the `data` section of a config to a dataset: files, the synthetic shop, or raw Amazon dumps."""

import dataclasses
import os
import pathlib

import jax

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.attributes import Texts, aligned, read_attributes
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import find_interactions, read_interactions
from grasp_jax.data.synthetic import ShopSpec, make_shop
from grasp_jax.errors import UserError

MEMORY_SHARE = 0.3  # of the memory, for the frozen tables; projections, optimiser and the program take the rest


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Interactions with whatever text belongs to them.

    Attributes:
      log: the interactions.
      texts: attributes of items and users.
    """

    log: InteractionLog
    texts: Texts


def load_dataset(config: ConfigDict) -> Dataset:
    """Reads or makes the dataset that the `data` section names.

    Raises:
      UserError: naming the file or field at fault.
    """
    source = config.source
    if source == "auto":
        source = "files" if config.path else "synthetic"
    return {"files": _from_files, "synthetic": _from_shop, "amazon": _from_amazon}[source](config)


def _from_files(config: ConfigDict) -> Dataset:
    if not config.path:
        raise UserError("config.data.path is empty; give the folder or file of your interactions with --config.data.path=...")
    path = find_interactions(config.path, config.interactions_file)
    items, users = None, None
    if config.items_file:
        items = read_attributes(path.parent / config.items_file, config.items_id_column, "item", ("title",))
    log = read_interactions(path, config.name, config.columns.to_dict(), config.min_rating, items.ids if items else None)
    if config.users_file:
        users = aligned(read_attributes(path.parent / config.users_file, config.users_id_column, "user"), log.user_ids)
    return Dataset(log, Texts(items, users))


def _from_shop(config: ConfigDict) -> Dataset:
    options = config.synthetic.to_dict()
    bytes_per_row, cpu_items = options.pop("bytes_per_row"), options.pop("cpu_items")
    if bytes_per_row:
        factor, reason = scale_factor(options["num_users"], options["num_items"], bytes_per_row, cpu_items)
        options |= {name: max(100, int(options[name] * factor)) for name in ("num_users", "num_items")}
        print(f"synthetic data at {factor:.4f} of full size ({reason}): {options['num_users']} users, {options['num_items']} items")
    shop = make_shop(ShopSpec(name=config.name, **options))
    return Dataset(shop.log, Texts(shop.items, of_users=shop.user_texts))


def scale_factor(num_users: int, num_items: int, bytes_per_row: int, cpu_items: int) -> tuple[float, str]:
    """The share of users and items that this machine takes, and what limits it."""
    device = jax.local_devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    by_memory = MEMORY_SHARE * memory / ((num_users + num_items) * bytes_per_row)
    by_time = cpu_items / num_items if device.platform == "cpu" else 1.0
    factor = min(1.0, by_memory, by_time)
    if factor == 1.0:
        return factor, "it fits"
    return factor, "a CPU's time" if by_time <= by_memory else f"{memory / 2**30:.0f} GiB of memory"


def _from_amazon(config: ConfigDict) -> Dataset:
    from grasp_jax.data.amazon import AmazonFilter, read_amazon  # needs tensorflow-datasets, which files and the shop do not

    options = AmazonFilter(min_rating=config.min_rating, **config.amazon.to_dict())
    log, items = read_amazon(config.path, str(pathlib.Path(config.path) / "tfds"), options)
    return Dataset(dataclasses.replace(log, name=config.name), Texts(items))
