"""From the `data` section of a config to a dataset: files, the synthetic shop, or raw Amazon dumps."""

import dataclasses
import pathlib

import ml_collections

from grasp_jax.data.items import ItemTable, read_items
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import find_interactions, read_interactions
from grasp_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Interactions with whatever text belongs to them.

    Attributes:
      log: the interactions.
      items: text of the items, or None.
      user_texts: [N] ready-made user descriptions, or None to write them from a template.
    """

    log: InteractionLog
    items: ItemTable | None = None
    user_texts: list[str] | None = None


def load_dataset(config: ml_collections.ConfigDict) -> Dataset:
    """Reads or makes the dataset that the `data` section names.

    Raises:
      UserError: naming the file or field at fault.
    """
    return {"files": _from_files, "synthetic": _from_shop, "amazon": _from_amazon}[config.source](config)


def _from_files(config: ml_collections.ConfigDict) -> Dataset:
    if not config.path:
        raise UserError("config.data.path is empty; give the folder or file of your interactions with --config.data.path=...")
    path = find_interactions(config.path, config.interactions_file)
    items = read_items(path.parent / config.items_file, config.items_id_column) if config.items_file else None
    log = read_interactions(path, config.name, config.columns.to_dict(), config.min_rating, items.ids if items else None)
    return Dataset(log, items)


def _from_shop(config: ml_collections.ConfigDict) -> Dataset:
    from grasp_jax.data.synthetic import ShopSpec, make_shop

    shop = make_shop(ShopSpec(name=config.name, **config.synthetic.to_dict()))
    return Dataset(shop.log, shop.items, shop.user_texts)


def _from_amazon(config: ml_collections.ConfigDict) -> Dataset:
    from grasp_jax.data.amazon import AmazonFilter, read_amazon  # needs tensorflow-datasets, which files and the shop do not

    options = AmazonFilter(min_rating=config.min_rating, **config.amazon.to_dict())
    log, items = read_amazon(config.path, str(pathlib.Path(config.path) / "tfds"), options)
    return Dataset(dataclasses.replace(log, name=config.name), items)
