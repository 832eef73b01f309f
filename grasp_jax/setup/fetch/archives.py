"""Tables inside archives, read without unpacking anything to the disk.

An archive from the network may hold names that lead out of the folder, links, or a few bytes that become terabytes. Nothing of it is
written under its own name, and an archive with such a member is refused as a whole: it is not the publisher's.
"""

import contextlib
import pathlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from grasp_jax.core.errors import UserError

MOST_RATIO = 200  # bytes out of one byte; tables of ratings and JSON have 4 to 12
DAMAGED = (  # what the standard library raises of an archive that it cannot read
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # a member that is encrypted, or packed by a method that it does not know
)
REMEDY = "remove it and fetch it again, or download it by hand from the publisher's page"


def open_zip(path: pathlib.Path) -> zipfile.ZipFile:
    """A zip archive whose members were looked at.

    Raises:
      UserError: it is damaged, or has a member that no such archive has.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable zip archive ({error}); {REMEDY}") from error
    seen = set()
    for member in archive.infolist():
        link = stat.S_ISLNK(member.external_attr >> 16)
        huge = member.file_size > MOST_RATIO * max(member.compress_size, 1024)
        for wrong, is_so in (
            ("leads out of the archive", leads_out(member.filename)),
            ("is a link", link),
            ("is there twice", member.filename in seen),
            (f"grows to {member.file_size:,} bytes", huge),
        ):
            if is_so:
                archive.close()
                raise UserError(f"{path}: member {member.filename[:100]!r} {wrong}; {REMEDY}")
        seen.add(member.filename)
    return archive


def leads_out(name: str) -> bool:
    """Whether a member's name is absolute or goes up."""
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]


def member_called(archive: zipfile.ZipFile, name: str) -> str | None:
    """The only member with this last part of its name.

    Raises:
      UserError: there are several.
    """
    found = [
        member
        for member in archive.namelist()
        if member.rsplit("/", 1)[-1] == name and not member.startswith("__MACOSX/")
    ]
    if len(found) > 1:
        raise UserError(
            f"{archive.filename}: {len(found)} members are called {name}; expected one; {REMEDY}"
        )
    return found[0] if found else None


@contextlib.contextmanager
def zip_lines(
    archive: zipfile.ZipFile, member: str, encoding: str = "utf-8"
) -> Iterator[Iterator[str]]:
    """The lines of a member as text, without their ends.

    Raises:
      UserError: it is damaged, or no text of this encoding.
    """
    what = f"{archive.filename}: {member}"
    try:
        file = archive.open(member)
    except DAMAGED as error:
        raise UserError(f"{what}: not readable ({error}); {REMEDY}") from error
    with file:
        yield lines_of(file, encoding, what)


def first_bytes(archive: zipfile.ZipFile, member: str, size: int) -> bytes:
    """Up to `size` bytes of a member.

    Raises:
      UserError: it is damaged.
    """
    try:
        with archive.open(member) as file:
            return file.read(size)
    except DAMAGED as error:
        raise UserError(
            f"{archive.filename}: {member}: not readable ({error}); {REMEDY}"
        ) from error


def lines_of(file: IO[bytes], encoding: str, what: str) -> Iterator[str]:
    """The lines of a file as text, without their ends.

    Args:
      file: its bytes.
      encoding: of the text.
      what: the file, for messages.

    Raises:
      UserError: it is damaged, or no text of this encoding.
    """
    done = 0
    try:
        for line in file:
            yield line.decode(encoding).rstrip("\r\n")
            done += 1
    except DAMAGED as error:
        raise UserError(f"{what}: damaged after line {done} ({error}); {REMEDY}") from error


@contextlib.contextmanager
def _tar_stream(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """The bytes of a tar file: the file itself, or the only .tar or .tgz within a zip archive."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with open_zip(path) as archive:
        found = [
            member
            for member in archive.namelist()
            if member.endswith((".tar", ".tgz", ".tar.gz")) and not member.startswith("__MACOSX/")
        ]
        if len(found) != 1:
            raise UserError(
                f"{path}: {len(found)} .tar files in it; expected one, as in the publisher's archive; {REMEDY}"
            )
        with archive.open(found[0]) as file:
            yield file


def tar_lines(path: pathlib.Path, wanted: str) -> Iterator[str]:
    """The lines of the member of a tar file with this last part of its name.

    Args:
      path: a .tar or .tgz, or a zip archive with one in it.
      wanted: such as "review.json".

    Raises:
      UserError: there is no such member, it is a link, its name leads out of the folder, or it is damaged.
    """
    try:
        with _tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                if leads_out(member.name) or member.issym() or member.islnk():
                    kind = "leads out of the archive" if leads_out(member.name) else "is a link"
                    raise UserError(f"{path}: member {member.name[:100]!r} {kind}; {REMEDY}")
                if member.name.rsplit("/", 1)[-1] == wanted and member.isfile():
                    file: Any = archive.extractfile(member)
                    yield from lines_of(file, "utf-8", f"{path}: {member.name}")
                    return
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable tar archive ({error}); {REMEDY}") from error
    raise UserError(f"{path}: no {wanted} in it; expected the publisher's archive as it is")
