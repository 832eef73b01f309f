"""From the `data` section of a config to a dataset: files, the synthetic shop, or raw Amazon dumps."""

import dataclasses
import os
import pathlib

import jax

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.attributes import AttributeTable, Texts, aligned, lacking, read_attributes
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import find_interactions, known_files, read_with_report
from grasp_jax.data.summary import SAMPLED_ROWS, ReadReport, sample_rows
from grasp_jax.data.synthetic import ShopSpec, make_shop
from grasp_jax.errors import UserError

MEMORY_SHARE = 0.3  # of the memory, for the frozen tables; projections, optimiser and the program take the rest


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Interactions with whatever text belongs to them.

    Attributes:
      log: the interactions.
      texts: attributes of items and users.
      report: what was read and how it was understood.
    """

    log: InteractionLog
    texts: Texts
    report: ReadReport = dataclasses.field(default_factory=ReadReport)


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
        items = read_attributes(path.parent / config.items_file, config.items_id_column, "item", config.title_column)
    log, report = read_with_report(
        path, config.name, config.columns.to_dict(), config.min_rating, items.ids if items else None, config.max_missing_text
    )
    notes = list(report.notes)
    if items is not None:
        without_text = log.num_items - len(items.ids)
        notes += items.notes
        items = aligned(items, log.item_ids)
        report = dataclasses.replace(report, without_text=without_text)
    if config.users_file:
        users = read_attributes(path.parent / config.users_file, config.users_id_column, "user")
        notes += users.notes
        if strangers := lacking(AttributeTable(log.user_ids, {}), users.ids):
            notes.append(f"users table: {strangers:,} of its rows are of users without interactions, and are not used")
        report = dataclasses.replace(report, without_attributes=lacking(users, log.user_ids))
        users = aligned(users, log.user_ids)
    notes += _unread(config, path)
    return Dataset(log, Texts(items, users), dataclasses.replace(report, notes=tuple(notes)))


def _unread(config: ConfigDict, path: pathlib.Path) -> list[str]:
    """What was given and is not used: other interaction files of the folder, and a name of a file inside what is a file itself."""
    if pathlib.Path(config.path) == path:
        return [f"config.data.interactions_file={config.interactions_file} is not used, for config.data.path is a file"] * bool(
            config.interactions_file
        )
    others = [] if config.interactions_file else [other.name for other in known_files(path.parent) if other != path]
    return [f"also in the folder, and not read: {', '.join(others)}"] * bool(others)


def _from_shop(config: ConfigDict) -> Dataset:
    options = config.synthetic.to_dict()
    bytes_per_row, cpu_items = options.pop("bytes_per_row"), options.pop("cpu_items")
    if bytes_per_row:
        factor, reason = scale_factor(options["num_users"], options["num_items"], bytes_per_row, cpu_items)
        options |= {name: max(100, int(options[name] * factor)) for name in ("num_users", "num_items")}
        print(f"synthetic data at {factor:.4f} of full size ({reason}): {options['num_users']} users, {options['num_items']} items")
    shop = make_shop(ShopSpec(name=config.name, **options))
    made = f"a synthetic shop, made from seed {options['seed']}; no data of yours is in it"
    report = ReadReport((made,), order="by the time of purchase")
    return Dataset(shop.log, Texts(shop.items, of_users=shop.user_texts), report)


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
    report = ReadReport(
        files=(f"{config.path} (Amazon reviews, category {options.category})",),
        used=(("user", "reviewerID"), ("item", "asin"), ("timestamp", "unixReviewTime"), ("rating", "overall")),
        order="by column 'unixReviewTime'",
        sample=sample_rows(log.user_ids[log.users[:SAMPLED_ROWS]], log.item_ids[log.items[:SAMPLED_ROWS]], None),
        notes=(f"filtered: {options}",),
    )
    return Dataset(dataclasses.replace(log, name=config.name), Texts(items), report)
