"""What `grasp-jax fetch` makes of the publishers' files, and that nothing of a bad archive reaches the disk."""

import gzip
import io
import json
import pathlib
import stat
import tarfile
import zipfile

import pytest

from grasp_jax.data.dataset import Dataset
from grasp_jax.setup.fetch.command import main
from tests.file_server import FileServer
from tests.refusal import assert_names, refusal
from tests.test_fetch import FILMS, MOVIES, RATINGS, archive, fetched, in_a_hurry, server

__all__ = ["in_a_hurry", "server"]  # fixtures


def bad_zip(name: str, content: bytes = b"x", link: bool = False) -> bytes:
    """MovieLens with one more member."""
    made = io.BytesIO(MOVIES)
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as file:
        member = zipfile.ZipInfo(name)
        member.compress_type = zipfile.ZIP_DEFLATED
        if link:
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, content)
    return made.getvalue()


def with_bytes(content: bytes, place: int, wrong: bytes) -> bytes:
    return content[:place] + wrong + content[place + len(wrong) :]


START = MOVIES.index(b"ml/ratings.dat") + len("ml/ratings.dat")  # of the packed bytes
DAMAGED = with_bytes(MOVIES, START + 4, b"\xff" * 12)
ENTRY = MOVIES.index(b"PK\x01\x02")  # of the first member in the directory
ENCRYPTED = with_bytes(with_bytes(MOVIES, 6, b"\x01"), ENTRY + 8, b"\x01")


@pytest.mark.parametrize(
    "content, said",
    [
        (bad_zip("../../evil.py"), "leads out of the archive"),
        (bad_zip("/etc/passwd"), "leads out of the archive"),
        (bad_zip("ml/..\\..\\evil.py"), "leads out of the archive"),
        (bad_zip("C:\\evil.py"), "leads out of the archive"),
        (bad_zip("ml/link", b"/etc/passwd", link=True), "is a link"),
        (bad_zip("ml/bomb", bytes(1 << 24)), "grows to 16,777,216 bytes"),
        (DAMAGED, "ratings.dat: not readable"),
        (ENCRYPTED, "ratings.dat: not readable"),
        (bad_zip("other/ratings.dat"), "2 members are called ratings.dat"),
        (MOVIES[: len(MOVIES) // 2], "not a readable zip archive"),
        (archive(README="nothing"), "no files of MovieLens"),
        (archive(ml__ratings_dat="1::2\n", ml__movies_dat=FILMS), "row 1 has 2 fields"),
        (archive(ml__ratings_dat="", ml__movies_dat=FILMS), "holds no interactions"),
        (archive(ml__ratings_dat=RATINGS, ml__movies_dat="7::Heat\n"), "expected film, title"),
        (
            archive(
                ml__ratings_csv=f"h\n1,{''.join(map(str, range(40_000)))},4,9\n",
                ml__movies_csv="h\n",
            ),
            "ratings.csv: damaged after line 2",
        ),
    ],
)
def test_a_bad_archive_writes_nothing(
    server: FileServer, tmp_path: pathlib.Path, content: bytes, said: str
) -> None:
    """An archive would write outside the folder, fill the disk, or half a table be taken for a whole one."""
    server.files["/ml-latest-small.zip"] = content
    out = tmp_path / "a" / "b"
    message = refusal(main, ["movielens-latest-small", f"--into={out}", f"--mirror={server.url}"])
    assert said in message
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a/b/downloads/ml-latest-small.zip"}
    assert not (out / "SOURCES.json").exists()


def test_movielens_100k_and_csv(server: FileServer, tmp_path: pathlib.Path) -> None:
    """Columns of flags would not become genres, or a title with a comma be cut."""
    flags = "|".join("1" if place in (3, 5) else "0" for place in range(19))
    film = f"7|Toy Story (1995)|01-Jan-1995||http://x.example|{flags}\n".encode("latin-1")
    server.files["/ml-latest-small.zip"] = archive(
        ml__u_data="1\t7\t5\t881250949\n2\t7\t3\t881250950\n",
        ml__u_item=film,
        ml__u_user="1|24|M\n",
    )
    data = fetched(server, "movielens-latest-small", tmp_path / "dat")
    assert data.texts.items is not None
    assert list(data.texts.items.columns["genres"]) == [["Animation", "Comedy"]]

    server.files["/ml-latest-small.zip"] = archive(
        ml__ratings_csv="userId,movieId,rating,timestamp\r\n1,7,4.5,964982703\r\n",
        ml__movies_csv='movieId,title,genres\r\n7,"Matrix, The (1999)",(no genres listed)\r\n',
    )
    data = fetched(server, "movielens-latest-small", tmp_path / "csv")
    assert data.titles == ["Matrix, The (1999)"]


def test_amazon_of_2014_and_2023(server: FileServer, tmp_path: pathlib.Path) -> None:
    """Python literals, files without a header, milliseconds or paths of categories would be misread."""
    meta = [
        f"{{'asin': 'B{k}', 'title': 'Lotion {k}', 'brand': 'Acme', 'categories': [['Beauty', 'Skin'], ['Beauty', 'Gifts']]}}"
        for k in range(4)
    ]
    server.files["/meta_Beauty.json.gz"] = gzip.compress("\n".join(meta).encode())
    reviews = [
        {
            "reviewerID": f"A{k % 2}",
            "asin": f"B{k % 3}",
            "overall": 5.0,
            "unixReviewTime": 10**9 + k,
            "reviewText": "good",
        }
        for k in range(6)
    ]
    lines = "\n".join(json.dumps(own) for own in reviews)
    server.files["/reviews_Beauty_5.json.gz"] = gzip.compress(lines.encode())
    rows = "".join(f"{r['reviewerID']},{r['asin']},5.0,{r['unixReviewTime']}\n" for r in reviews)
    server.files["/ratings_Beauty.csv"] = rows.encode()
    for name in ("amazon-2014-5core:Beauty", "amazon-2014:Beauty"):
        data = fetched(server, name, tmp_path / name.replace(":", "-"))
        assert data.log.num_interactions == 6 and data.titles == [
            "Lotion 0",
            "Lotion 1",
            "Lotion 2",
        ]
        assert data.texts.items is not None
        assert data.texts.items.columns["categories"][0] == ["Beauty", "Skin", "Gifts"]

    new = [
        {
            "parent_asin": f"B{k}",
            "title": f"Case {k}",
            "store": "Velora",
            "features": ["thin", "red"],
        }
        for k in range(3)
    ]
    server.files["/meta_All_Beauty.jsonl.gz"] = gzip.compress(
        "\n".join(map(json.dumps, new)).encode()
    )
    rows = (
        "user_id,parent_asin,rating,timestamp\nA1,B0,5.0,1588615855070\nA1,B1,4.0,1588615855060\n"
    )
    server.files["/All_Beauty.csv.gz"] = gzip.compress(rows.encode())
    data = fetched(server, "amazon-2023-5core:All_Beauty", tmp_path / "new")
    assert [data.titles[item] for item in data.log.items] == ["Case 1", "Case 0"]
    server.files["/All_Beauty.csv.gz"] = gzip.compress(rows.encode())[:-12]
    call = ["amazon-2023:All_Beauty", f"--into={tmp_path / 'cut'}", f"--mirror={server.url}"]
    assert_names(refusal(main, call), ("All_Beauty.csv.gz", "damaged after line"))


def yelp_archive(folder: pathlib.Path, extra: tarfile.TarInfo | None = None) -> pathlib.Path:
    """Yelp-JSON.zip: a compressed tar file in a zip archive."""
    review = {
        "user_id": "u1",
        "business_id": "b1",
        "stars": 4.0,
        "date": "2018-07-07 22:09:11",
        "text": "good",
    }
    business = {
        "business_id": "b1",
        "name": "Bar",
        "city": "Reno",
        "state": "NV",
        "categories": "Pubs, Food",
    }
    person = {"user_id": "u1", "name": "Ann"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        if extra is not None:
            file.addfile(extra)
        for kind, record in (("business", business), ("review", review), ("user", person)):
            content = json.dumps(record).encode() + b"\n"
            member = tarfile.TarInfo(f"yelp_academic_dataset_{kind}.json")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    path = folder / "Yelp-JSON.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("Yelp JSON/yelp_dataset.tar", packed.getvalue())
        file.writestr("__MACOSX/Yelp JSON/._yelp_dataset.tar", b"x")
    return path


def test_yelp(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The terms would be passed over, names of people be read, or a link in the archive be followed."""
    message = refusal(main, ["yelp", f"--into={tmp_path / 'y'}"])
    assert_names(
        message, ("accept terms", "https://business.yelp.com", "fetch yelp --archive=FILE")
    )
    path = yelp_archive(tmp_path)
    main(["yelp", f"--into={tmp_path / 'y'}", f"--archive={path}"])
    data = Dataset.read(tmp_path / "y")
    assert data.titles == ["Bar"] and data.texts.users is None and path.is_file()
    assert data.texts.items is not None
    assert data.texts.items.columns["categories"][0] == ["Pubs", "Food"]
    assert "Ann" not in (tmp_path / "y" / "items.jsonl").read_text()
    link = tarfile.TarInfo("yelp_academic_dataset_review.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for number, extra in enumerate((link, tarfile.TarInfo("../../evil"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        bad = yelp_archive(folder, extra)
        message = refusal(main, ["yelp", f"--into={folder / 'out'}", f"--archive={bad}"])
        assert_names(message, ("member", "is a link" if extra is link else "leads out"))
        assert not (folder / "out" / "interactions.csv").exists()


REVIEW = {"user_id": "u1", "business_id": "b1", "stars": 4.0, "date": "2018-07-07 22:09:11"}
BUSINESS = {"business_id": "b1", "name": "Bar", "categories": ["Pubs", "Food "]}


def yelp_folder(folder: pathlib.Path, *reviews: dict[str, object]) -> list[str]:
    """Yelp's files, unpacked; returns the call that reads them."""
    (folder / "yelp").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(review) + "\n" for review in reviews)
    (folder / "yelp" / "yelp_academic_dataset_review.json").write_text(lines)
    (folder / "yelp" / "yelp_academic_dataset_business.json").write_text(json.dumps(BUSINESS))
    return ["yelp", f"--into={folder / 'out'}", f"--archive={folder / 'yelp'}"]


def test_a_folder_of_yelp_that_changed_is_read_again(tmp_path: pathlib.Path) -> None:
    """The tables of an older folder of the same name would pass for those of the newer one; or a list be a fault of ours."""
    main(yelp_folder(tmp_path, REVIEW))
    data = Dataset.read(tmp_path / "out")
    assert data.texts.items is not None
    assert data.log.num_interactions == 1
    assert list(data.texts.items.columns["categories"]) == [["Pubs", "Food"]]
    main(yelp_folder(tmp_path, REVIEW, REVIEW | {"user_id": "u2"}))
    assert Dataset.read(tmp_path / "out").log.num_interactions == 2


def test_damaged_records_of_yelp_are_named(tmp_path: pathlib.Path) -> None:
    """A list in the place of an id, or a byte that is no text, would end in a traceback."""
    call = yelp_folder(tmp_path, REVIEW, REVIEW | {"business_id": ["b1"]})
    assert_names(refusal(main, call), ("review.json:2: not a review",))
    call = yelp_folder(tmp_path, REVIEW)
    with (tmp_path / "yelp" / "yelp_academic_dataset_review.json").open("ab") as file:
        file.write(b'{"user_id": "\xff"}\n')
    assert_names(refusal(main, call), ("review.json: damaged after line 1",))
    half = REVIEW | {"user_id": "\ud800"}
    main(yelp_folder(tmp_path / "half", half))
    assert Dataset.read(tmp_path / "half" / "out").log.user_ids.tolist() == ["?"]
