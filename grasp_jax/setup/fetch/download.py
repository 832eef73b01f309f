"""Downloads one file over HTTP: resumes an earlier call, checks the length, and compares a checksum.

urllib, since a resumed download is needed: pooch, the usual choice, starts each download from its first byte.
"""

import dataclasses
import hashlib
import http.client
import json
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from grasp_jax import __version__
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import write_text
from grasp_jax.core.log import logger
from grasp_jax.core.progress import EVERY, progress_bar

BLOCK = 1 << 18  # bytes
TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 5  # in a row without a new byte
WAIT = 0.2  # seconds before the second of them; each further one waits twice as long
SPARE = 64 << 20  # bytes of the disk that a download leaves free
AGAIN = "run the same command again"
_FAULTS = (urllib.error.URLError, http.client.HTTPException, OSError)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to anything else, because plain HTTP can be tampered with on the way."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """As urllib's.

        Raises:
          UserError: the new address is not https where the old one was.
        """
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise UserError(
                f"{req.full_url}: leads to {newurl[:200]}, which is not https; expected https; download the file by hand if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


OPENER = urllib.request.build_opener(_NoDowngrade)


@dataclasses.dataclass
class _Partial:
    """An incomplete file: `path`, and next to it the server's validator (ETag or Last-Modified) of the complete file.

    Attributes:
      path: ends in .part.
      url: where it comes from.
    """

    path: pathlib.Path
    url: str

    @property
    def about(self) -> pathlib.Path:
        return self.path.with_name(self.path.name + ".json")

    def resumable(self) -> tuple[int, str]:
        """The number of bytes downloaded so far, and the validator by which the server knows whether its file has changed.

        (0, "") for a new download.
        """
        try:
            stored = json.loads(self.about.read_text(encoding="utf-8"))
            have = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        same_url = isinstance(stored, dict) and stored.get("url") == self.url
        validator = stored.get("mark") if same_url else ""
        return (have, validator) if isinstance(validator, str) and validator else (0, "")

    def note(self, headers: Mapping[str, str]) -> None:
        """Stores the validator of the server's file; a weak ETag does not guarantee equal bytes, so it is not used."""
        tag = headers.get("ETag") or ""
        validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""
        write_text(self.about, json.dumps({"url": self.url, "mark": validator}))

    def remove(self) -> None:
        """Deletes both files."""
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


def download(url: str, path: pathlib.Path) -> None:
    """Downloads a file; bytes of an earlier, interrupted call are not requested again.

    Args:
      url: http or https.
      path: the complete file; until then it is called `path`.part.

    Raises:
      UserError: the server has no such file, does not answer, breaks off again and again, or the disk has no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(path.with_name(path.name + ".part"), url)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        before = partial.resumable()[0]
        try:
            if _once(partial):
                partial.path.replace(path)
                partial.remove()
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise UserError(_refused(url, error)) from error
            reason = f"status {error.code}"
        except _FAULTS as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of this machine's disk, not of the connection
            reason = str(getattr(error, "reason", "") or error)[:120] or type(error).__name__
        failures = 0 if partial.resumable()[0] > before else failures + 1
        time.sleep(min(WAIT * 2 ** max(failures - 1, 0), 5.0))
    have = partial.path.stat().st_size if partial.path.is_file() else 0
    begins = "continues there" if partial.resumable()[0] else "begins at the first byte"
    raise UserError(
        f"{url}: {reason}; {have:,} bytes are in {partial.path}; {AGAIN}, and it {begins}"
    )


def _once(partial: _Partial) -> bool:
    """One request; whether the file is complete after it."""
    have, validator = partial.resumable()
    request = urllib.request.Request(
        partial.url,
        headers={"User-Agent": f"grasp-jax/{__version__}", "Accept-Encoding": "identity"},
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        answer = OPENER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers["Content-Range"] or "")
        if total and int(total[1]) == have:
            return True  # the earlier call was ended after the last byte
        partial.remove()  # the server's file is shorter now: from the first byte
        return False
    with answer:
        begin = _begin(answer, have)
        if "html" in (answer.headers.get_content_type() or ""):
            raise UserError(
                f"{partial.url}: the server sent a web page, not a file; open the address in a browser to see what it wants"
            )
        left = answer.length  # of Content-Length; None where the server states none
        _check_room(partial.path.parent, left or 0)
        if begin == 0:
            # bytes of an earlier file must not be combined with the validator of this one
            partial.remove()
            partial.note(answer.headers)
        return _receive(answer, partial.path, begin, left)


def _begin(answer: Any, have: int) -> int:
    """The offset in the file at which the response begins; 0 if the server sends the whole file."""
    if answer.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers["Content-Range"] or "")
    if not found or int(found[1]) != have:
        raise http.client.HTTPException("the server continued at another place")
    return have


def _receive(answer: Any, path: pathlib.Path, begin: int, left: int | None) -> bool:
    """Writes the body of a response; whether it was complete."""
    got, total, name = 0, begin + (left or 0), path.name.removesuffix(".part")
    bar, reported = progress_bar(total, name, "B", initial=begin), time.monotonic()
    with path.open("r+b" if begin else "wb") as file, bar:
        file.seek(begin)
        file.truncate()
        while block := answer.read(BLOCK):
            file.write(block)
            got += len(block)
            bar.update(len(block))
            if bar.disable and time.monotonic() - reported > EVERY:  # no terminal: log lines
                reported = time.monotonic()
                logger.info("%s: %s of %s bytes", name, f"{begin + got:,}", f"{total:,}")
    return left is None or got == left


def _check_room(folder: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise UserError(
            f"{folder}: {free:,} bytes are free, and the download needs {needed:,}; free some, or name a folder on another disk with --into"
        )


def _refused(url: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        why = "the server wants you to sign in or accept terms; download the file by hand"
    else:
        why = (
            "the publisher may have moved it; its page says where, and --mirror=URL reads elsewhere"
        )
    return f"{url}: status {error.code} ({error.reason}); {why}"


def text_at(url: str) -> str:
    """The content of a small text file, such as a checksum; empty if the server has none.

    Raises:
      UserError: the server does not answer.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"grasp-jax/{__version__}"})
    try:
        with OPENER.open(request, timeout=TIMEOUT) as answer:
            return str(answer.read(4096).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return ""
        raise UserError(_refused(url, error)) from error
    except _FAULTS as error:
        raise UserError(f"{url}: {getattr(error, 'reason', error)}; {AGAIN}") from error


def digest_of(path: pathlib.Path, kind: str) -> str:
    """The "md5" or "sha256" of a file, in hexadecimal. MD5 finds damage; it is no protection against an attacker."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()
