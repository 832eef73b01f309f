"""The sources of public data sets, and how a download is verified.

A checksum stands here only where one was published: those of MovieLens are in the registry of TensorFlow Datasets, or in a file that the
publisher keeps with the archive. The publishers of the Amazon files name none.
"""

import dataclasses
import difflib

from grasp_jax.core.errors import UserError

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
MCAULEY = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file to be downloaded.

    Attributes:
      url: its address; its last part is the name on disk.
      digest: "sha256:..." or "md5:...", where one was published; else empty.
      md5_file: whether the publisher keeps `url`.md5.
    """

    url: str
    digest: str = ""
    md5_file: bool = False

    @property
    def name(self) -> str:
        """On disk."""
        return self.url.rsplit("/", 1)[1]


@dataclasses.dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Attributes:
      name: what people type.
      files: to be downloaded; none where a person must accept terms first.
      reader: "movielens", "amazon" or "yelp".
      page: where the publisher describes it.
      terms: what may be done with the data, in one sentence.
    """

    name: str
    files: tuple[RemoteFile, ...]
    reader: str
    page: str
    terms: str


def _movielens(size: str, digest: str = "", md5_file: bool = True) -> PublicDataset:
    """MovieLens of one size."""
    return PublicDataset(
        f"movielens-{size}",
        (RemoteFile(f"{GROUPLENS}/ml-{size}.zip", digest, md5_file),),
        "movielens",
        "https://grouplens.org/datasets/movielens/",
        "GroupLens allows research with acknowledgement, not commercial use nor publishing the data again without permission; "
        "the README of the archive has the terms.",
    )


FIXED = {
    source.name: source
    for source in (
        _movielens(
            "100k",
            "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
        _movielens(
            "1m",
            "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        _movielens("10m", digest="md5:ce571fd55effeba0271552578f2648bd"),
        _movielens(
            "20m",
            "sha256:96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        ),
        _movielens(
            "25m",
            "sha256:8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        ),
        _movielens("32m"),
        _movielens(
            "latest-small", md5_file=False
        ),  # the publisher replaces it from time to time, so no checksum holds for good
        PublicDataset(
            "yelp",
            (),
            "yelp",
            "https://business.yelp.com/data/resources/open-dataset/",
            "Yelp allows academic use by the agreement that its page shows before the download.",
        ),
    )
}

AMAZON_TERMS = (
    "The publishers ask to cite their papers; they name no licence of the reviews themselves."
)
AMAZON_PAGES = {
    "2014": "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    "2023": "https://amazon-reviews-2023.github.io/",
}
CATEGORIES = {
    "2014": [
        "Amazon_Instant_Video",
        "Apps_for_Android",
        "Automotive",
        "Baby",
        "Beauty",
        "Books",
        "CDs_and_Vinyl",
        "Cell_Phones_and_Accessories",
        "Clothing_Shoes_and_Jewelry",
        "Digital_Music",
        "Electronics",
        "Grocery_and_Gourmet_Food",
        "Health_and_Personal_Care",
        "Home_and_Kitchen",
        "Kindle_Store",
        "Movies_and_TV",
        "Musical_Instruments",
        "Office_Products",
        "Patio_Lawn_and_Garden",
        "Pet_Supplies",
        "Sports_and_Outdoors",
        "Tools_and_Home_Improvement",
        "Toys_and_Games",
        "Video_Games",
    ],
    "2023": [
        "All_Beauty",
        "Amazon_Fashion",
        "Appliances",
        "Arts_Crafts_and_Sewing",
        "Automotive",
        "Baby_Products",
        "Beauty_and_Personal_Care",
        "Books",
        "CDs_and_Vinyl",
        "Cell_Phones_and_Accessories",
        "Clothing_Shoes_and_Jewelry",
        "Digital_Music",
        "Electronics",
        "Gift_Cards",
        "Grocery_and_Gourmet_Food",
        "Handmade_Products",
        "Health_and_Household",
        "Health_and_Personal_Care",
        "Home_and_Kitchen",
        "Industrial_and_Scientific",
        "Kindle_Store",
        "Magazine_Subscriptions",
        "Movies_and_TV",
        "Musical_Instruments",
        "Office_Products",
        "Patio_Lawn_and_Garden",
        "Pet_Supplies",
        "Software",
        "Sports_and_Outdoors",
        "Subscription_Boxes",
        "Tools_and_Home_Improvement",
        "Toys_and_Games",
        "Unknown",
        "Video_Games",
    ],
}
EDITIONS = ("amazon-2014", "amazon-2014-5core", "amazon-2023", "amazon-2023-5core")


def dataset_named(name: str) -> PublicDataset:
    """The data set with this name: one of `FIXED`, or an edition of Amazon, a colon and a category.

    Raises:
      UserError: there is no data set of this name; the message suggests the nearest one.
    """
    if name in FIXED:
        return FIXED[name]
    edition, _, category = name.partition(":")
    if edition in EDITIONS:
        known = CATEGORIES[edition.split("-")[1]]
        if category in known:
            return _amazon(edition, category)
        lowered = {known_name.lower(): known_name for known_name in known}
        near = difflib.get_close_matches(category.lower(), lowered, 1, 0.4)
        meant = f"{edition}:{lowered[near[0]] if near else known[0]}"
        raise UserError(
            f"fetch: {name!r} has no category of {edition}; did you mean {meant}? All: {', '.join(known)}"
        )
    near = difflib.get_close_matches(edition.lower(), [*FIXED, *EDITIONS], 1, 0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"fetch: {name!r} is no known data set; {hint}grasp-jax fetch --list shows all")


def _amazon(edition: str, category: str) -> PublicDataset:
    """Interactions and metadata of one category."""
    if edition == "amazon-2014":
        files = (f"{SNAP}/ratings_{category}.csv", f"{SNAP}/meta_{category}.json.gz")
    elif edition == "amazon-2014-5core":
        files = (f"{SNAP}/reviews_{category}_5.json.gz", f"{SNAP}/meta_{category}.json.gz")
    else:
        core = "5core" if edition.endswith("5core") else "0core"
        files = (
            f"{MCAULEY}/benchmark/{core}/rating_only/{category}.csv.gz",
            f"{MCAULEY}/raw/meta_categories/meta_{category}.jsonl.gz",
        )
    return PublicDataset(
        f"{edition}:{category}",
        tuple(RemoteFile(url) for url in files),
        "amazon",
        AMAZON_PAGES[edition.split("-")[1]],
        AMAZON_TERMS,
    )
