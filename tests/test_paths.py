"""Paths on the command line: those that a library or a shell would misread are refused before anything is written."""

import pathlib

import pytest

from grasp_jax.core.paths import check_file, check_folder
from tests.refusal import assert_names, refusal

SUFFIXES = (".parquet", ".csv")


@pytest.mark.parametrize(
    "name, part",
    [
        ("gs://bucket/run", "an address"),
        ("s3://bucket/run", "an address"),
        ("hdfs://a/b", "an address"),
        ("file:///tmp/x", "an address"),
        ("gs:/bucket", "an address"),
        ("file:x", "an address"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("runs/a\nb", "control character '\\n'"),
        ("runs/a\0b", "control character"),
        ("~/runs", "begins with ~"),
        ("runs/[1]", "holds '['"),
        ("runs/a*", "holds '*'"),
        ("runs/a?/b", "holds '?'"),
        ("runs/{a}", "holds '{'"),
        ("runs\\a", "holds '\\\\'"),
        ("runs/" + "a" * 250, "250 bytes long"),
        ("a/" * 2000, "bytes; expected a shorter one"),
    ],
)
def test_names_that_cannot_work(name: str, part: str) -> None:
    """A folder "gs:" would be made here, or a checkpoint written that is never found again."""
    assert_names(refusal(check_folder, name, "--workdir"), ("--workdir: ", part, "expected"))


def test_names_that_work(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks, other scripts and colons are names like any other."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/quickstart", "my run/läuft", "运行", "a:b", "../x", "C=5%", "."):
        assert check_folder(name, "--workdir") == pathlib.Path(name)
    assert not list(tmp_path.iterdir()), "nothing is made"
    assert check_file("new/r.csv", "--out", SUFFIXES) == pathlib.Path("new/r.csv")


def test_a_pattern_further_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder where one stands counts too: Orbax is given whole paths."""
    (tmp_path / "a[b]").mkdir()
    monkeypatch.chdir(tmp_path / "a[b]")
    assert_names(refusal(check_folder, "run", "--workdir"), ("'a[b]'", "holds '['"))


def test_files_in_the_way(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of training would end where the first file is written."""
    (tmp_path / "file").write_text("")
    assert_names(
        refusal(check_folder, str(tmp_path / "file"), "--workdir"),
        ("file is a file; expected a folder",),
    )
    assert_names(
        refusal(check_folder, str(tmp_path / "file" / "run"), "--workdir"),
        ("file is a file, so", "expected another path"),
    )
    assert_names(
        refusal(check_file, str(tmp_path / "file" / "r.csv"), "--out", SUFFIXES),
        ("--out", "is a file, so"),
    )
    (tmp_path / "folder.csv").mkdir()
    assert_names(
        refusal(check_file, str(tmp_path / "folder.csv"), "--out", SUFFIXES),
        ("is a folder; expected a file",),
    )
    monkeypatch.setattr("os.access", lambda *_: False)
    assert_names(
        refusal(check_folder, str(tmp_path / "run"), "--workdir"),
        (str(tmp_path), "cannot be written to"),
    )
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "--workdir" in refusal(check_folder, str(tmp_path / "loop" / "run"), "--workdir")


def test_the_suffix_says_the_format() -> None:
    """`--out=r.csv` would hold Parquet."""
    for name in ("r", "r.xlsx", "r.CSV", "r.csv.gz"):
        assert_names(
            refusal(check_file, name, "--out", SUFFIXES),
            (repr(name), "expected one of .parquet, .csv"),
        )
