"""Folders as people have them, for tests of `grasp-jax init`, and what its config reads."""

import gzip
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.config import Config
from grasp_jax.config_checks import check_config
from grasp_jax.config_file import load_config
from grasp_jax.data.dataset import Dataset, load_dataset


def movielens(folder: pathlib.Path) -> pathlib.Path:
    """ml-latest-small's files with a handful of rows."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{rng.integers(1, 11) / 2},{1_100_000_000 + 86_400 * k}"
        for user in range(1, 9)
        for k, item in enumerate(rng.permutation(30)[:6] + 1)
    ]
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n"
    )
    movies = [f'{k},"Film {k}, The (1999)",Comedy|Drama' for k in range(1, 31)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(movies) + "\n")
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,1,funny,1100000000\n")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n1,2,3\n")
    (folder / "README.txt").write_text("hello")
    return folder


def shop(folder: pathlib.Path) -> pathlib.Path:
    """Parquet logs with string ids and times in a zone; items as Parquet, users as CSV."""
    folder.mkdir()
    users = [f"u-{k % 7}" for k in range(35)]
    items = [f"SKU{k % 11:03}" for k in range(35)]
    times = pa.array(
        [1_700_000_000_000_000 + 10**9 * k for k in range(35)],
        pa.timestamp("us", tz="Europe/Berlin"),
    )
    log = pa.table({"customer_id": users, "sku": items, "event_time": times, "price": [1.0] * 35})
    pyarrow.parquet.write_table(log, folder / "events.parquet")
    names = pa.table(
        {"sku": [f"SKU{k:03}" for k in range(11)], "product_name": [f"Soap {k}" for k in range(11)]}
    )
    pyarrow.parquet.write_table(names, folder / "catalogue.parquet")
    (folder / "people.csv").write_text("id,country\n" + "".join(f"u-{k},DE\n" for k in range(7)))
    return folder


def amazon(folder: pathlib.Path) -> pathlib.Path:
    """Reviews and metadata as Amazon's dumps have them, the reviews compressed."""
    folder.mkdir()
    reviews = [
        {
            "reviewerID": f"A{k % 5}",
            "asin": f"B{k % 9:04}",
            "overall": 5.0,
            "reviewTime": "09 13, 2009",
        }
        | {"unixReviewTime": 1_252_800_000 + 86_400 * k, "reviewText": "nice"}
        for k in range(30)
    ]
    with gzip.open(folder / "reviews_Beauty.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, reviews)))
    meta = [{"asin": f"B{k:04}", "title": f"Lotion {k}", "brand": "Acme"} for k in range(9)]
    (folder / "meta_Beauty.jsonl").write_text("\n".join(map(json.dumps, meta)))
    return folder


def parts(folder: pathlib.Path) -> pathlib.Path:
    """Orders as a job writes them, four Parquet files with times in text; returns the folder of the parts."""
    folder.mkdir(parents=True)
    for part in range(4):
        rows = range(10 * part, 10 * part + 10)
        columns = {
            "customer_id": [f"c{k % 5}" for k in rows],
            "sku": [f"S{k % 9}" for k in rows],
            "ordered_at": [f"2024-01-{31 - k % 30:02}T10:30:00+09:00" for k in rows],
        }
        pyarrow.parquet.write_table(pa.table(columns), folder / f"part-{part:05}.parquet")
    return folder


def read_by_its_config(path: pathlib.Path) -> tuple[Config, Dataset]:
    config = Config.from_dict(load_config(str(path)).to_dict())
    check_config(config)
    return config, load_dataset(config.data)
