"""A log that was read once is stored as arrays, and later calls map them into memory instead of reading the source again.

The folder holds `stored_log.json`, sealed, and one `.npy` file for each array of the log. `stored_log.json` names the arrays with their
checksums, and says what the log was made from: the SHA-256 of every source file, and everything that decides how they are read, the code
included. All of it is compared before the arrays are used; if anything differs, the source is read again and the store is written again.
"""

import contextlib
import dataclasses
import pathlib
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    checksums,
    first_damaged,
    read_array,
    read_sealed,
    write_array,
    write_sealed,
)
from grasp_jax.core.locks import only_one
from grasp_jax.core.log import logger
from grasp_jax.core.paths import check_folder, check_name
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.log_source import LogSource
from grasp_jax.data.read_report import ReadReport

FIELD = "config.data.store"
AUTO, OFF = "auto", "off"  # values of `config.data.store`; any other is a folder
AUTO_FROM = 5_000_000  # interactions; fewer are read within seconds
MANIFEST, LOCK = "stored_log.json", "stored_log.lock"  # no other program writes such files
FORMAT_VERSION = 1
ARRAYS = ("user_ids", "item_ids", "items", "offsets", "timestamps", "low_rated")
OWN = re.compile(  # names of arrays, and of those half written, that no file of the user has
    rf"\.?log-[0-9a-f]{{32}}-({'|'.join(ARRAYS)})\.npy(\..*\.partial)?"
)

Read = tuple[InteractionLog, ReadReport]


@dataclasses.dataclass(frozen=True)
class LogStore:
    """Where a log is stored, and which logs are.

    Attributes:
      folder: of the arrays; other files in it are left alone.
      min_interactions: of the smallest log that is stored.
      fits: whether a log may be stored there; called after the log is read.
    """

    folder: pathlib.Path
    min_interactions: int = 0
    fits: Callable[[InteractionLog], bool] = lambda log: True


def store_of(config: DataConfig) -> LogStore | None:
    """The folder that `config.data.store` names; None where it names none.

    A folder that holds a stored log may be read-only.

    Raises:
      UserError: it cannot be a folder, or no log is stored there and it cannot be written.
    """
    if not names_folder(config):
        return None
    folder = check_name(config.store, FIELD)
    stored = (folder / MANIFEST).is_file()
    return LogStore(folder if stored else check_folder(config.store, FIELD))


def names_folder(config: DataConfig) -> bool:
    """Whether `config.data.store` is the name of a folder."""
    return config.store not in (AUTO, OFF)


def read_through(store: LogStore, source: LogSource, read: Callable[[], Read]) -> Read:
    """The stored log if it was made from this source, else the result of `read`, which is stored.

    A store that cannot be written is only a warning, because the log is there.

    Raises:
      UserError: the store lies within the source, or the source is a folder that is no whole table; and what `read` raises.
    """
    if source.path.is_dir() and store.folder.resolve().is_relative_to(source.path.resolve()):
        raise UserError(
            f"{FIELD}: {store.folder} lies within {source.path}, whose files are all read as interactions; expected a folder outside"
        )
    stamps = source.stamps()  # first: a folder that is no whole table is not a fault of the store
    started, before = time.perf_counter(), (store.folder / MANIFEST).exists()
    if before:
        found = _open(store.folder, source)
        if not isinstance(found, str):
            seconds = time.perf_counter() - started
            logger.info(
                f"Read {found[0].num_interactions:,} interactions from the stored log ({seconds:.1f} s); source files unchanged."
            )
            return found
        logger.info(f"{store.folder}: {found}; the source is read again")
    log, report = read()
    if (before or log.num_interactions >= store.min_interactions) and store.fits(log):
        _store_log(store.folder, source, stamps, (log, report), replaces=before)
    return log, report


def _open(folder: pathlib.Path, source: LogSource) -> Read | str:
    """The stored log with its arrays mapped into memory; or in words why it is not the log of the source."""
    remedy = "it is written again"
    try:
        manifest = read_sealed(folder / MANIFEST, remedy)
        if manifest.get("format") != FORMAT_VERSION:
            return f"the stored log has format {manifest.get('format')}, not {FORMAT_VERSION}"
        if difference := _difference(manifest, source):
            return difference
        files = {name: entry["file"] for name, entry in manifest["arrays"].items()}
        expected = {entry["file"]: entry["sha256"] for entry in manifest["arrays"].values()}
        if damage := first_damaged(folder, expected):
            return f"the stored log is damaged ({damage})"
        # As plain arrays: a slice of `np.memmap` is a `np.memmap`, which is slow to make.
        arrays = {
            name: np.asarray(read_array(folder / file, remedy, mmap_mode="r"))
            for name, file in files.items()
        }
    except UserError as error:
        return f"the stored log is damaged ({str(error).removesuffix(f'; {remedy}')})"
    except OSError as error:
        return f"the stored log cannot be compared with its source ({error.strerror or error})"
    described = manifest["report"]
    report = ReadReport(**{name: _tuples(value) for name, value in described.items()})
    return InteractionLog(source.name, time_unit=manifest["time_unit"], **arrays), report


def _difference(manifest: Mapping[str, Any], source: LogSource) -> str:
    """In words, the first difference between the source and what the stored log was made from; empty if there is none."""
    made_by = manifest["settings"]
    for name in sorted(source.settings.keys() | made_by.keys()):
        then, now = made_by.get(name), source.settings.get(name)
        if then != now:
            return f"the log was stored with another {name} ({then!r} then, {now!r} now)"
    before = manifest["source"]
    sizes = {name: size for name, (size, _) in source.stamps().items()}
    for name in sorted(before.keys() | sizes.keys()):
        if name not in before or name not in sizes:
            happened = "came" if name in sizes else "went"
            return f"since the log was stored, the source file {name} {happened}"
    changed = [name for name, size in sizes.items() if before[name]["bytes"] != size]
    if not changed:  # only now is it worth reading them
        found = source.fingerprints()
        changed = [name for name in sizes if before[name]["sha256"] != found[name]]
    return f"since the log was stored, the source file {changed[0]} changed" if changed else ""


def _store_log(
    folder: pathlib.Path,
    source: LogSource,
    stamps: dict[str, tuple[int, int]],
    content: Read,
    replaces: bool,
) -> None:
    """Stores a log that was read; warns where that cannot be done.

    Args:
      folder: of the store.
      source: what was read.
      stamps: of its files, when reading began.
      content: the log and its report.
      replaces: whether there was a store, which is not of this source.
    """
    try:
        started, fingerprints = time.perf_counter(), source.fingerprints()
        if source.stamps() != stamps:
            logger.warning(
                f"{source.path}: changed while it was read, so the log is not stored; expected a file that is complete"
            )
            return
        described = {
            name: {"bytes": size, "sha256": fingerprints[name]}
            for name, (size, _) in stamps.items()
        }
        with only_one(folder / LOCK, "it stores the log"):
            if not replaces and (folder / MANIFEST).exists():
                return  # another process of the same job was faster
            size = _write(folder, content, {"settings": source.settings, "source": described})
        seconds = time.perf_counter() - started
        logger.info(
            f"Stored the log in {folder} ({size / 2**20:,.0f} MiB, {seconds:.1f} s); later calls need not read the source files."
        )
    except UserError as error:
        logger.info(f"{folder}: the log was not stored ({error})")
    except OSError as error:
        logger.warning(
            f"{folder}: the log was not stored ({error.strerror or error}); this run continues without; free space there, name another "
            "folder with config.data.store, or set it to 'off'"
        )


def _write(folder: pathlib.Path, content: Read, made_from: Mapping[str, Any]) -> int:
    """Writes a store atomically, and removes the one that it replaces; the caller must hold the lock. Returns the size in bytes.

    The arrays get new names, and `stored_log.json` names them last, so the earlier store stays complete for its readers until then.

    Raises:
      OSError: there is no room, or the folder cannot be written.
    """
    log, report = content
    arrays = {name: getattr(log, name) for name in ARRAYS if getattr(log, name) is not None}
    label = uuid.uuid4().hex
    files = {name: f"log-{label}-{name}.npy" for name in arrays}
    in_use = set[str]()
    with contextlib.suppress(UserError):
        earlier = read_sealed(folder / MANIFEST, "") if (folder / MANIFEST).exists() else {}
        if earlier.get("format") == FORMAT_VERSION:
            in_use = {entry["file"] for entry in earlier["arrays"].values()}
    try:
        for name, array in arrays.items():
            write_array(folder / files[name], array)
        written = checksums(folder, files.values())
        described = {name: {"file": file, "sha256": written[file]} for name, file in files.items()}
        of_log = {"time_unit": log.time_unit, "report": dataclasses.asdict(report)}
        manifest = {"format": FORMAT_VERSION, **made_from, "arrays": described, **of_log}
        write_sealed(folder / MANIFEST, manifest)
        in_use = set(files.values())
    finally:
        for path in folder.iterdir():
            if OWN.fullmatch(path.name) and path.name not in in_use:
                path.unlink(missing_ok=True)
    return sum(array.nbytes for array in arrays.values())


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
