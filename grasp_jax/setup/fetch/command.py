"""`grasp-jax fetch NAME [--into=FOLDER]`: downloads a public data set and writes the files that a run reads."""

import argparse
import datetime
import json
import pathlib
import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_sealed, sha256, write_sealed
from grasp_jax.core.flags import Once, command_parser, filled
from grasp_jax.core.locks import only_one
from grasp_jax.core.paths import check_folder
from grasp_jax.setup.fetch.amazon import amazon
from grasp_jax.setup.fetch.download import digest_of, download, text_at
from grasp_jax.setup.fetch.movielens import movielens
from grasp_jax.setup.fetch.sources import (
    CATEGORIES,
    EDITIONS,
    FIXED,
    PublicDataset,
    RemoteFile,
    dataset_named,
)
from grasp_jax.setup.fetch.tables import NAMES, Tables, write_tables
from grasp_jax.setup.fetch.yelp import FILES, yelp
from grasp_jax.setup.names import RECORD

DOWNLOADS = "downloads"
ABOUT = """\
Downloads a public data set and writes interactions.csv and items.jsonl into FOLDER (by default data/NAME). An interrupted download
continues where it stopped. FOLDER/SOURCES.json keeps where each file came from and its SHA-256."""
USAGE = "grasp-jax fetch NAME [--into=FOLDER] [--archive=FILE] [--mirror=URL]"
REMEDY = "remove it, and the next call records the download again"


def parser() -> argparse.ArgumentParser:
    """The flags; --help and --list print all names."""
    made = command_parser(USAGE, ABOUT, "\n".join(_examples()))
    made.add_argument("--list", action="help", help="prints this text")
    made.add_argument("name", metavar="NAME", help="of the data set, one of those below")
    made.add_argument(
        "--into", metavar="FOLDER", action=Once, type=filled, help="where the files are written"
    )
    made.add_argument(
        "--archive",
        metavar="FILE",
        action=Once,
        type=filled,
        help="an archive that you downloaded by hand: needed for yelp, possible for movielens",
    )
    made.add_argument(
        "--mirror",
        metavar="URL",
        action=Once,
        type=_folder_address,
        help="a folder of another server that has the same files",
    )
    return made


def _examples() -> list[str]:
    """Calls, and the names of all data sets."""
    return [
        "examples:",
        "  grasp-jax fetch movielens-1m --into=data/ml-1m",
        "  grasp-jax fetch amazon-2023-5core:All_Beauty",
        "",
        "names (CATEGORY is one of those below, as in amazon-2023:All_Beauty):",
        *(f"  {name}" for name in FIXED),
        *(f"  {edition}:CATEGORY" for edition in EDITIONS),
        "",
        *(
            textwrap.fill(f"categories of {year}: {', '.join(categories)}", 140)
            for year, categories in CATEGORIES.items()
        ),
    ]


def main(arguments: Sequence[str]) -> None:
    """Runs the command; `arguments` are those after `fetch`.

    Raises:
      UserError: they are not understood, the download fails or differs from its checksum, or its files are not what they should be.
    """
    given = parser().parse_args(arguments)
    dataset, archive = dataset_named(given.name), given.archive
    out = check_folder(given.into or f"data/{dataset.name.replace(':', '-')}", "--into")
    if not archive and not dataset.files:
        raise UserError(_by_hand(dataset))
    if archive and len(dataset.files) > 1:
        raise UserError(_no_archive(dataset))
    with only_one(out / ".fetching", "wait for it, or name another folder with --into"):
        path = pathlib.Path(archive).expanduser() if archive else None
        fetch(dataset, out, path, given.mirror or "")


def fetch(
    dataset: PublicDataset, out: pathlib.Path, archive: pathlib.Path | None = None, mirror: str = ""
) -> None:
    """Downloads missing files, verifies them, and writes the tables.

    Args:
      dataset: the data set.
      out: the folder.
      archive: what the user has downloaded by hand; its checksum is recorded, not compared.
      mirror: a folder of another server.

    Raises:
      UserError: as `main`.
    """
    print(f"{dataset.name}: {dataset.page}\n{dataset.terms}")
    known = _recorded(out, dataset)
    if archive is None:
        paths, entries = _downloaded(dataset, out, known, mirror)
    else:
        if not archive.exists():
            raise UserError(
                f"--archive: {archive} does not exist; expected the archive of {dataset.name}, as {dataset.page} has it"
            )
        paths, entries = [archive], _entries_of_archive(archive)
    if known and known.get("files") == entries and _intact(out, known):
        print("interactions.csv and items.jsonl exist already and are unchanged")
    else:
        _refuse_other_files(out, known)
        tables = _tables(dataset, paths)
        # A record without checksums, so that the tables of a call that is killed now are known as ours.
        lines = write_tables(tables, out, lambda: _record(out, dataset, entries, {}))
        _record(out, dataset, entries, {name: sha256(out / name) for name in NAMES})
        print(
            "\n".join([*(f"wrote {line}" for line in lines), *(f"note: {n}" for n in tables.notes)])
        )
        if archive is None:
            print(f"note: {out / DOWNLOADS} is no longer needed; you may remove it")
    print(f"next: grasp-jax init {shlex.quote(str(out))}")


def _folder_address(text: str) -> str:
    """The type of an address of a folder on a server, which holds nothing secret.

    Raises:
      argparse.ArgumentTypeError: it is none.
    """
    if not re.match(r"https?://[^/?#@]+(/[^?#@]*)?$", text):
        raise argparse.ArgumentTypeError(
            f"{text[:100]!r} is no address of a folder; expected https://HOST/FOLDER, without a user's name or a query"
        )
    return text


def _by_hand(dataset: PublicDataset) -> str:
    return (
        f"{dataset.name}: a person must accept terms first; open {dataset.page}, download the archive (Yelp-JSON.zip), then run "
        f"grasp-jax fetch {dataset.name} --archive=FILE"
    )


def _no_archive(dataset: PublicDataset) -> str:
    return f"--archive: {dataset.name} consists of {len(dataset.files)} files; expected no archive; leave the flag out"


def _recorded(out: pathlib.Path, dataset: PublicDataset) -> dict[str, Any]:
    """The SOURCES.json of an earlier call; empty if there is none.

    Raises:
      UserError: the folder holds another data set.
    """
    path = out / RECORD
    if not path.is_file():
        return {}
    known = read_sealed(path, REMEDY)
    if known.get("source") != dataset.name:
        raise UserError(
            f"{path}: the folder holds {known.get('source')}; expected {dataset.name}; name another folder with --into"
        )
    return known


def _downloaded(
    dataset: PublicDataset, out: pathlib.Path, known: dict[str, Any], mirror: str
) -> tuple[list[pathlib.Path], list[dict[str, Any]]]:
    """The verified files on disk, and their entries for SOURCES.json."""
    before = {str(entry["name"]): entry for entry in known.get("files", ())}
    intact = bool(before) and _intact(out, known)
    paths, entries = [], []
    for file in dataset.files:
        path = out / DOWNLOADS / file.name
        paths.append(path)
        if intact and not path.is_file() and file.name in before:
            entries.append(before[file.name])  # the tables are there, and the download was removed
            continue
        url = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url
        fresh = not path.is_file()
        if fresh:
            print(f"downloading {url}")
            download(url, path)
        digest = sha256(path)
        recorded = before.get(file.name, {})
        how = _verified(file, path, digest, str(recorded.get("sha256", "")), f"{url}.md5", fresh)
        entry = {"name": file.name, "url": url, "bytes": path.stat().st_size, "sha256": digest}
        entries.append(recorded or entry | {"checked": how})
        print(f"{file.name}: {path.stat().st_size:,} bytes; {how}")
    return paths, entries


def _verified(
    file: RemoteFile, path: pathlib.Path, digest: str, recorded: str, md5_url: str, fresh: bool
) -> str:
    """The checksum with which a downloaded file was compared, and where it is from.

    Raises:
      UserError: it differs. A fresh download is removed, so that the next call begins from the first byte.
    """
    kind, _, expected = file.digest.partition(":")
    where = "the checksum that grasp_jax knows"
    if recorded:
        kind, expected, where = "sha256", recorded, f"the SHA-256 of the first download ({RECORD})"
    elif not expected and file.md5_file:
        found = re.search(r"\b[0-9a-f]{32}\b", text_at(md5_url).lower())
        kind, expected, where = "md5", found[0] if found else "", f"the checksum of {md5_url}"
    if not expected:
        return "no checksum was published; its SHA-256 is recorded, and later downloads are compared with it"
    seen = digest if kind == "sha256" else digest_of(path, kind)
    if seen != expected:
        if fresh:
            path.unlink()
        before = "it was removed:" if fresh else "move it away, and"
        newer = (
            "if the publisher has replaced the file, name another folder with --into"
            if recorded
            else "or give a newer file that you trust with --archive"
        )
        raise UserError(
            f"{path}: its {kind} is {seen}, and {where} is {expected}; {before} run the same command again; {newer}"
        )
    return f"equal to {where}"


def _entries_of_archive(archive: pathlib.Path) -> list[dict[str, Any]]:
    """The entries for SOURCES.json of a file that was downloaded by hand, or of the files of a folder."""
    inside = [path for name in FILES if (path := archive / name).is_file()]
    return [
        {
            "name": path.relative_to(archive.parent).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "checked": "downloaded by hand",
        }
        for path in (inside if archive.is_dir() else [archive])
    ]


def _tables(dataset: PublicDataset, paths: Sequence[pathlib.Path]) -> Tables:
    match dataset.reader:
        case "movielens":
            return movielens(paths[0])
        case "amazon":
            return amazon(paths[0], paths[1])
        case _:
            return yelp(paths[0])


def _intact(out: pathlib.Path, known: dict[str, Any]) -> bool:
    """Whether both tables are as they were written."""
    written = known.get("written", {})
    return all((out / name).is_file() and sha256(out / name) == written.get(name) for name in NAMES)


def _refuse_other_files(out: pathlib.Path, known: dict[str, Any]) -> None:
    """Refuses to overwrite files of these names that fetch has not written or that were changed since."""
    if known and not known.get("written"):
        return  # an earlier call was killed while it wrote them
    for name in NAMES:
        if (out / name).exists() and sha256(out / name) != known.get("written", {}).get(name):
            raise UserError(
                f"{out / name}: exists, and is not what fetch wrote; move it away, or name another folder with --into"
            )


def _record(
    out: pathlib.Path,
    dataset: PublicDataset,
    entries: Sequence[dict[str, Any]],
    written: dict[str, str],
) -> None:
    """Writes SOURCES.json; `written` has the checksum of each table, and is empty until they are complete."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    content = {
        "source": dataset.name,
        "page": dataset.page,
        "terms": dataset.terms,
        "fetched": day,
        "files": list(entries),
        "written": written,
    }
    write_sealed(out / RECORD, json.loads(json.dumps(content)))
