"""From the `data` section of a config to what a dataset holds: files, frames, the synthetic shop, or raw Amazon dumps."""

import dataclasses
import os
import pathlib
from typing import NamedTuple

import jax

from grasp_jax.config import DataConfig
from grasp_jax.config.data import REFUSE
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.attributes import (
    AttributeTable,
    SourceTexts,
    aligned,
    attributes_of,
    read_attributes,
)
from grasp_jax.data.bad_rows import FIELD
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.log_source import source_of
from grasp_jax.data.read_report import SAMPLED_ROWS, ReadReport, sample_rows
from grasp_jax.data.readers import (
    find_interactions,
    find_table,
    folder_of,
    known_files,
    read_interactions,
)
from grasp_jax.data.split import make_split
from grasp_jax.data.stored_log import LogStore, names_folder, read_through
from grasp_jax.data.synthetic import ShopSpec, make_shop
from grasp_jax.data.ties import FILE, num_tied, ties_as

MEMORY_SHARE = 0.3  # of the memory, for the frozen tables; projections, optimiser and the program take the rest


class Loaded(NamedTuple):
    """Interactions, whatever text belongs to them, and how they were understood."""

    log: InteractionLog
    texts: SourceTexts
    report: ReadReport


def read_source(config: DataConfig, store: LogStore | None = None) -> Loaded:
    """Reads or makes what the `data` section names.

    Args:
      config: the section.
      store: where a log that was read from files is stored; None: nowhere.

    Raises:
      UserError: naming the file or field at fault.
    """
    source = config.resolved_source()
    if source == "files":
        return _from_files(config, store)
    loaded = {"synthetic": _from_shop, "amazon": _from_amazon}[source](config)
    unused = {
        f"config.data.store={config.store} is not used, because only a log of files is stored": names_folder(
            config
        ),
        f"{FIELD}={config.bad_rows} is not used, because it applies to files and frames": config.bad_rows
        != REFUSE,
    }
    return _noted(loaded, [note for note, holds in unused.items() if holds])


def read_frames(
    config: DataConfig, interactions: object, items: object | None, users: object | None
) -> Loaded:
    """What frames hold, by the same checks as files; `frames.table_of_frame` says what a frame is.

    Raises:
      UserError: naming the frame and row, or the field, at fault.
    """
    # needs pyarrow, which the synthetic shop does not need
    from grasp_jax.data.frames import refuse_index, table_of_frame
    from grasp_jax.data.interactions import log_of_table

    table, item_texts, user_texts = table_of_frame(interactions, "interactions frame"), None, None
    named = config.columns
    refuse_index(interactions, table, (named.user, named.item, named.timestamp))
    if items is not None:
        frame = table_of_frame(items, "items frame")
        refuse_index(items, frame, (config.items_id_column, config.title_column))
        item_texts = attributes_of(frame, config.items_id_column, "item", config.title_column)
    catalogue = None if item_texts is None else item_texts.ids
    log, report = log_of_table(table, config, catalogue)
    if users is not None:
        frame = table_of_frame(users, "users frame")
        refuse_index(users, frame, (config.users_id_column,))
        user_texts = attributes_of(frame, config.users_id_column, "user")
    return _with_texts(*_with_ties(config, log, report), item_texts, user_texts)


def _with_ties(
    config: DataConfig, log: InteractionLog, report: ReadReport
) -> tuple[InteractionLog, ReadReport]:
    """Orders the interactions of one user at one time as the config wants; in the synthetic shop all times differ, so nothing changes."""
    log = ties_as(log, config.ties, config.ties_seed)
    if tied := num_tied(log):
        tie_order = (
            "in the order of the file"
            if config.ties == FILE
            else f"in random order (seed {config.ties_seed})"
        )
        order = (
            f"{report.order}; interactions of a user at the same time ({tied:,}) are {tie_order}"
        )
        report = dataclasses.replace(report, order=order)
    return log, report


def _from_files(config: DataConfig, store: LogStore | None) -> Loaded:
    if not config.path:
        raise UserError(
            "config.data.path is empty; give the folder or file of your interactions with --config.data.path=..."
        )
    path = find_interactions(config.path, config.interactions_file)
    folder = folder_of(config.path)
    items, users = None, None
    if config.items_file:
        items = read_attributes(
            find_table(folder, config.items_file, "items"),
            config.items_id_column,
            "item",
            config.title_column,
        )
    catalogue = None if items is None else items.ids

    def read() -> tuple[InteractionLog, ReadReport]:
        return _with_ties(config, *read_interactions(path, config, catalogue))

    if store is None:
        log, report = read()
    else:
        log, report = read_through(store, source_of(config, path, catalogue), read)
    if config.users_file:
        users = read_attributes(
            find_table(folder, config.users_file, "users"), config.users_id_column, "user"
        )
    return _noted(_with_texts(log, report, items, users), _unread(config, path))


def _noted(loaded: Loaded, notes: list[str]) -> Loaded:
    """The same with more notes in its report."""
    whole = (*loaded.report.notes, *notes)
    return loaded._replace(report=dataclasses.replace(loaded.report, notes=whole))


def _with_texts(
    log: InteractionLog,
    report: ReadReport,
    items: AttributeTable | None,
    users: AttributeTable | None,
) -> Loaded:
    """Attributes in the order of the log's rows, and in the report what lacks some."""
    notes = list(report.notes)
    if items is not None:
        lacking = log.item_ids[len(items.ids) :]  # which stand behind those of the table
        first = str(lacking[0]) if len(lacking) else ""
        report = dataclasses.replace(report, without_text=len(lacking), first_without_text=first)
        notes += items.notes
        items, _ = aligned(items, log.item_ids)
    if users is not None:
        notes += users.notes
        num_rows = len(users.ids)
        users, lacked = aligned(users, log.user_ids)
        if unused := num_rows - (log.num_users - lacked):
            notes.append(
                f"users table: {unused:,} of its rows are of users without interactions, and are not used"
            )
        report = dataclasses.replace(report, without_attributes=lacked)
    return Loaded(log, SourceTexts(items, users), dataclasses.replace(report, notes=tuple(notes)))


def _unread(config: DataConfig, path: pathlib.Path) -> list[str]:
    """Notes on what was given and is not used: other interaction files of the folder, or `interactions_file` where the path is a file."""
    if pathlib.Path(config.path) == path:
        return [
            f"config.data.interactions_file={config.interactions_file} is not used, because config.data.path is a file"
        ] * bool(config.interactions_file)
    others = (
        []
        if config.interactions_file
        else [other.name for other in known_files(path.parent) if other != path]
    )
    return [f"also in the folder, and not read: {', '.join(others)}"] * bool(others)


def _from_shop(config: DataConfig) -> Loaded:
    options = config.synthetic.to_dict()
    bytes_per_row, cpu_items = options.pop("bytes_per_row"), options.pop("cpu_items")
    if bytes_per_row:
        factor, reason = scale_factor(
            options["num_users"], options["num_items"], bytes_per_row, cpu_items
        )
        options |= {
            name: max(100, int(options[name] * factor)) for name in ("num_users", "num_items")
        }
        logger.info(
            f"synthetic data at {factor:.4f} of full size ({reason}): {options['num_users']} users, {options['num_items']} items"
        )
    # Its users are described from what they bought in training, whatever the split.
    shop = make_shop(
        ShopSpec(name=config.name, **options), lambda log: make_split(config, log).train.end
    )
    made = f"a synthetic shop, made from seed {options['seed']}; it contains no data of yours"
    report = ReadReport((made,), order="by the time of purchase")
    log, report = _with_ties(config, shop.log, report)
    return Loaded(log, SourceTexts(shop.items, of_users=shop.user_texts), report)


def scale_factor(
    num_users: int, num_items: int, bytes_per_row: int, cpu_items: int
) -> tuple[float, str]:
    """The share of users and items that this machine takes, and what limits it."""
    device = jax.local_devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit") or os.sysconf(
        "SC_PHYS_PAGES"
    ) * os.sysconf("SC_PAGE_SIZE")
    by_memory = MEMORY_SHARE * memory / ((num_users + num_items) * bytes_per_row)
    by_time = cpu_items / num_items if device.platform == "cpu" else 1.0
    factor = min(1.0, by_memory, by_time)
    if factor == 1.0:
        return factor, "it fits"
    return factor, "a CPU's time" if by_time <= by_memory else f"{memory / 2**30:.0f} GiB of memory"


def _from_amazon(config: DataConfig) -> Loaded:
    # needs tensorflow-datasets, which files and the shop do not need
    from grasp_jax.data.amazon import AmazonFilter, read_amazon

    options = AmazonFilter(min_rating=config.min_rating, **config.amazon.to_dict())
    log, items = read_amazon(config.path, str(pathlib.Path(config.path) / "tfds"), options)
    report = ReadReport(
        files=(f"{config.path} (Amazon reviews, category {options.category})",),
        used=(
            ("user", "reviewerID"),
            ("item", "asin"),
            ("timestamp", "unixReviewTime"),
            ("rating", "overall"),
        ),
        order="by column 'unixReviewTime'",
        sample=sample_rows(
            log.user_ids[log.users[:SAMPLED_ROWS]], log.item_ids[log.items[:SAMPLED_ROWS]], None
        ),
        notes=(f"filtered: {options}",),
    )
    log, report = _with_ties(config, dataclasses.replace(log, name=config.name), report)
    return Loaded(log, SourceTexts(items), report)
