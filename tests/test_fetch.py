"""`grasp-jax fetch`: whole files alone become data, and an interrupted download continues."""

import hashlib
import io
import json
import logging
import pathlib
import shutil
import sys
import zipfile
from collections.abc import Iterator

import pytest

from grasp_jax.data.dataset import Dataset
from grasp_jax.setup.fetch import command, download, sources
from grasp_jax.setup.fetch.command import main
from grasp_jax.setup.look import look
from tests.command_line import run_afresh
from tests.file_server import FileServer, serving
from tests.refusal import assert_names, refusal

RATINGS = "".join(
    f"{user}::{film}::{1 + film % 5}::{978300000 + film}\n" for user in (1, 2) for film in (7, 8, 9)
)
FILMS = "7::Toy Story (1995)::Animation|Comedy\n8::Misérables, Les (1995)::Drama\n9::Heat (1995)::Crime\n10::Unseen (1999)::Drama\n"


def archive(**members: str | bytes) -> bytes:
    """A zip archive; a name's double underline stands for a slash, a single one for a dot."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), content)
    return made.getvalue()


MOVIES = archive(
    ml__ratings_dat=RATINGS, ml__movies_dat=FILMS.encode("latin-1"), ml__users_dat="1::F::1\n"
)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as started:
        yield started


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAIT", 0.0)


def fetched(server: FileServer, name: str, out: pathlib.Path, *more: str) -> Dataset:
    main([name, f"--into={out}", f"--mirror={server.url}", *more])
    return Dataset.read(out)


def with_md5(server: FileServer, content: bytes = MOVIES) -> None:
    """MovieLens-32M, whose checksum is in a file of the publisher."""
    server.files["/ml-32m.zip"] = content
    said = f"MD5 (ml-32m.zip) = {hashlib.md5(content).hexdigest()}\n"
    server.files["/ml-32m.zip.md5"] = said.encode()


def test_movielens_becomes_data(
    server: FileServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Titles in Latin-1 would be garbled, genres be one word, people's ages be read; or a second call download again."""
    with_md5(server)
    data = fetched(server, "movielens-32m", tmp_path / "ml")
    assert data.log.num_interactions == 6 and "Misérables, Les (1995)" in data.titles
    assert data.texts.items is not None and data.texts.users is None
    assert data.texts.items.columns["genres"][0] == ["Animation", "Comedy"]
    said = capsys.readouterr().out
    assert "equal to the checksum of" in said and f"next: grasp-jax init {tmp_path / 'ml'}" in said
    found = look(tmp_path / "ml")
    assert found.title == "title" and not any("SOURCES" in line for line in found.undecided)
    main(["movielens-32m", f"--into={tmp_path / 'ml'}", f"--mirror={server.url}"])
    assert "exist already" in capsys.readouterr().out
    assert len(server.asked("/ml-32m.zip")) == 1


def test_an_interrupted_download_continues(
    server: FileServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Gigabytes would be requested from the first byte again, or what was there be taken for another file's beginning."""
    with_md5(server)
    server.bytes_before, server.breaks = 100, 2
    monkeypatch.setattr(download, "EVERY", -1.0)
    with caplog.at_level(logging.INFO, "grasp_jax"):
        fetched(server, "movielens-32m", tmp_path / "ml")
    assert f"ml-32m.zip: 200 of {len(MOVIES):,} bytes" in caplog.messages
    assert server.asked("/ml-32m.zip") == ["", "bytes=100-", "bytes=200-"]
    assert not list((tmp_path / "ml" / "downloads").glob("*.part*"))

    server.breaks, server.bytes_before, server.ranges = 1, 100, False  # this server cannot continue
    fetched(server, "movielens-32m", tmp_path / "whole")
    with_md5(server, archive(ml__ratings_dat="1::7::5::978300007\n", ml__movies_dat=FILMS[:38]))
    part = tmp_path / "new" / "downloads" / "ml-32m.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(MOVIES[:100])
    url = f"{server.url}/ml-32m.zip"
    part.with_name(f"{part.name}.json").write_text(json.dumps({"url": url, "mark": '"older"'}))
    server.ranges = True
    fetched(server, "movielens-32m", tmp_path / "new")
    assert (tmp_path / "new" / "downloads" / "ml-32m.zip").read_bytes() == server.files[
        "/ml-32m.zip"
    ]


def test_a_newer_file_is_not_put_behind_an_older_ones_bytes(
    server: FileServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the note of a newer file and its first byte, a download would be glued together of two, unseen."""
    with_md5(server)
    part = tmp_path / "downloads" / "ml-32m.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"older" * 20)
    about = part.with_name(f"{part.name}.json")
    about.write_text(json.dumps({"url": f"{server.url}/ml-32m.zip", "mark": '"older"'}))

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as dies, pytest.raises(KeyboardInterrupt):
        dies.setattr(download, "_receive", killed)
        fetched(server, "movielens-32m", tmp_path)
    assert not part.exists() and about.exists()


def test_a_call_that_ended_between_tables_and_record_is_repeated(
    server: FileServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables that fetch itself wrote would be refused as someone else's."""
    server.files["/ml-latest-small.zip"] = MOVIES
    write = command.write_tables

    def killed(*given: object) -> list[str]:
        write(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as dies, pytest.raises(KeyboardInterrupt):
        dies.setattr(command, "write_tables", killed)
        fetched(server, "movielens-latest-small", tmp_path)
    assert (tmp_path / "interactions.csv").exists()
    assert fetched(server, "movielens-latest-small", tmp_path).log.num_items == 3


def test_a_file_that_was_complete_is_not_sent_again(
    server: FileServer, tmp_path: pathlib.Path
) -> None:
    """A call that was killed before the last renaming would begin again."""
    with_md5(server)
    part = tmp_path / "downloads" / "ml-32m.zip.part"
    part.parent.mkdir()
    part.write_bytes(MOVIES)
    about = {"url": f"{server.url}/ml-32m.zip", "mark": server.tag}
    part.with_name(f"{part.name}.json").write_text(json.dumps(about))
    fetched(server, "movielens-32m", tmp_path)
    assert server.asked("/ml-32m.zip") == [f"bytes={len(MOVIES)}-"]


def test_wrong_and_missing_downloads(
    server: FileServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file, a web page or an error page would become data, or the line not say what to do."""
    call = ["movielens-32m", f"--into={tmp_path / 'ml'}", f"--mirror={server.url}"]
    with_md5(server)
    server.files["/ml-32m.zip"] = MOVIES[:-1] + b"x"
    assert_names(refusal(main, call), ("its md5 is", ".md5 is", "it was removed: run the same"))
    assert not (tmp_path / "ml" / "downloads" / "ml-32m.zip").exists()

    server.status["/ml-32m.zip"] = 404
    assert_names(refusal(main, call), ("ml-32m.zip: status 404", "--mirror=URL"))
    server.status["/ml-32m.zip"] = 403
    assert_names(refusal(main, call), ("status 403", "by hand"))
    server.status["/ml-32m.zip"] = 503
    assert_names(refusal(main, call), ("status 503", "run the same command again"))
    server.status.clear()
    with_md5(server)
    server.status["/ml-32m.zip.md5"] = (
        503  # the publisher's checksum is there, and not to be had now
    )
    assert_names(refusal(main, call), ("ml-32m.zip.md5: status 503",))
    server.status.clear()
    (tmp_path / "ml" / "downloads" / "ml-32m.zip").unlink()
    server.breaks, server.bytes_before = 99, 0
    assert_names(refusal(main, call), ("the connection ended early", "run the same command again"))
    server.tag = ""  # so nothing tells the next call whether the file is still the same
    server.breaks, server.bytes_before = 99, 100
    shutil.rmtree(tmp_path / "ml" / "downloads")
    assert_names(refusal(main, call), ("100 bytes are in", "it begins at the first byte"))
    server.tag = '"one"'
    about = tmp_path / "ml" / "downloads" / "ml-32m.zip.part.json"
    about.write_text(json.dumps({"url": f"{server.url}/ml-32m.zip", "mark": server.tag}))
    server.status["/ml-32m.zip"] = 503
    assert_names(refusal(main, call), ("100 bytes are in", "it continues there"))
    server.status.clear()
    server.breaks, server.kind = 0, "text/html"
    assert "sent a web page" in refusal(main, call)
    server.kind = "application/zip"
    with monkeypatch.context() as full:
        full.setattr(download, "SPARE", 1 << 60)
        assert_names(refusal(main, call), ("bytes are free", "--into"))
    gone = [*call[:2], "--mirror=http://127.0.0.1:9"]
    assert_names(refusal(main, gone), ("127.0.0.1:9", "run the same command again"))
    assert not (tmp_path / "ml" / "interactions.csv").exists()
    server.length = "many"  # which is left out of account
    main(call)
    assert (tmp_path / "ml" / "interactions.csv").is_file()


def test_redirects_to_plain_http_are_refused() -> None:
    """Who sits on the way could change the file."""
    handler = download._NoDowngrade()
    secure = download.urllib.request.Request("https://a.example/x.zip")
    message = refusal(handler.redirect_request, secure, None, 302, "", {}, "http://b.example/x.zip")
    assert_names(message, ("https://a.example/x.zip", "http://b.example", "expected https"))
    followed = handler.redirect_request(secure, None, 302, "", {}, "https://b.example/x.zip")
    assert followed is not None and followed.full_url == "https://b.example/x.zip"


def test_the_first_download_is_recorded(
    server: FileServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no checksum was published, a file that changed at the publisher would be mixed with results of the old one."""
    server.files["/ml-latest-small.zip"] = MOVIES
    call = ["movielens-latest-small", f"--into={tmp_path}", f"--mirror={server.url}"]
    main(call)
    assert "no checksum was published; its SHA-256 is recorded" in capsys.readouterr().out
    record = json.loads((tmp_path / "SOURCES.json").read_text())
    assert record["files"][0]["sha256"] == hashlib.sha256(MOVIES).hexdigest()
    shutil.rmtree(tmp_path / "downloads")
    main(call)  # the tables are whole, so nothing is downloaded
    assert len(server.requests) == 1
    (tmp_path / "items.jsonl").unlink()
    server.files["/ml-latest-small.zip"] = archive(ml__ratings_dat=RATINGS, ml__movies_dat="")
    message = refusal(main, call)
    assert_names(message, ("its sha256 is", "of the first download (SOURCES.json)", "--into"))
    assert "--archive" not in message, "which sources of several files refuse"
    server.files["/ml-latest-small.zip"] = MOVIES
    main(call)
    assert (tmp_path / "items.jsonl").is_file()

    (tmp_path / "interactions.csv").write_text("user,item\nmine,1\n")
    assert "is not what fetch wrote" in refusal(main, call)
    assert (tmp_path / "interactions.csv").read_text() == "user,item\nmine,1\n"
    other = ["movielens-32m", *call[1:]]
    assert_names(refusal(main, other), ("holds movielens-latest-small", "--into"))


def test_an_archive_of_ones_own(server: FileServer, tmp_path: pathlib.Path) -> None:
    """A machine without a network, or a newer version than the known checksum, would have no way."""
    (tmp_path / "own.zip").write_bytes(MOVIES)
    out = tmp_path / "ml"
    data = fetched(server, "movielens-1m", out, f"--archive={tmp_path / 'own.zip'}")
    assert data.log.num_interactions == 6 and not server.requests
    record = json.loads((out / "SOURCES.json").read_text())["files"][0]
    assert record["sha256"] == hashlib.sha256(MOVIES).hexdigest()
    assert record["checked"] == "downloaded by hand"
    server.files["/ml-1m.zip"] = MOVIES  # not the publisher's
    call = ["movielens-1m", f"--into={tmp_path / 'x'}", f"--mirror={server.url}"]
    assert_names(
        refusal(main, call), ("sha256 is", "that grasp_jax knows is a6898adb", "--archive")
    )


def test_calls_that_are_not_understood(tmp_path: pathlib.Path) -> None:
    """A mistyped name would be a download that fails, or a key in an address be written down."""
    for name, said in (
        ("movielens-1M", "did you mean movielens-1m?"),
        ("amazon-2014:beauty", "did you mean amazon-2014:Beauty?"),
        ("amazon-2023:Beauty", "did you mean amazon-2023:"),
        ("netflix", "fetch --list shows all"),
    ):
        assert said in refusal(main, [name, f"--into={tmp_path / 'x'}"])
    for given in ([], ["a", "b"], ["--inot=x", "movielens-1m"]):
        assert "expected grasp-jax fetch NAME" in refusal(main, given)
    for mirror in ("ftp://a/b", "https://me:key@a.example/b", "https://a.example/b?key=1"):
        assert "expected https://HOST/FOLDER" in refusal(
            main, ["movielens-1m", f"--mirror={mirror}"]
        )
    for flag in ("--into", "--archive", "--mirror"):  # the data would be where nobody looks
        values = [f"{flag}=https://a.example/a", f"{flag}=https://a.example/b"]
        assert_names(refusal(main, ["movielens-1m", *values]), (flag, "given more than once"))
    assert "leave the flag out" in refusal(main, ["amazon-2014:Baby", f"--archive={tmp_path}"])
    assert not (tmp_path / "x").exists()


def test_every_source_is_named_and_listed() -> None:
    """A name of the list would not be one that people can type, or a checksum have the wrong length."""
    names = [
        *sources.FIXED,
        "amazon-2014:Baby",
        "amazon-2014-5core:Baby",
        "amazon-2023:Software",
        "amazon-2023-5core:Software",
    ]
    for name in names:
        dataset = sources.dataset_named(name)
        assert dataset.name == name and name.split(":")[0] in command.parser().format_help()
        for file in dataset.files:
            kind, _, digest = file.digest.partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32, "": 0}[kind]
            assert file.url.startswith("https://") and file.name
    done = run_afresh([sys.executable, "-m", "grasp_jax.main", "fetch", "--list"])
    assert done.returncode == 0 and "movielens-latest-small" in done.stdout
