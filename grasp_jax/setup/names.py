"""Common names of columns of users, items, times, ratings and titles, the most reliable first."""

from collections.abc import Sequence

from grasp_jax.data.columns import bare
from grasp_jax.data.time_names import TIME_NAMES, is_time_name

USER = (
    "user",
    "user_id",
    "userid",
    "uid",
    "user_key",
    "reviewerid",
    "reviewer_id",
    "customer",
    "customer_id",
    "customerid",
    "client",
    "client_id",
    "visitorid",
    "visitor_id",
    "member_id",
    "account_id",
    "buyer_id",
    "profile_id",
    "device_id",
    "session",
    "session_id",
    "sessionid",
)
ITEM = (
    "item",
    "item_id",
    "itemid",
    "iid",
    "parent_asin",
    "asin",
    "movieid",
    "movie_id",
    "product",
    "product_id",
    "productid",
    "sku",
    "article_id",
    "business_id",
    "gmap_id",
    "isbn",
    "book_id",
    "bookid",
    "track_id",
    "trackid",
    "song_id",
    "songid",
    "artist_id",
    "video_id",
    "news_id",
    "content_id",
    "goods_id",
    "stockcode",
    "listing_id",
    "game_id",
    "recipe_id",
    "anime_id",
    "venue_id",
    "location_id",
    "poi_id",
    "aid",
)
TIME = (
    "timestamp",
    "unixreviewtime",
    "unix_timestamp",
    "unix_time",
    "unixtime",
    "event_time",
    "eventtime",
    "event_timestamp",
    "datetime",
    "date_time",
    "time",
    "ts",
    "created_at",
    "date",
)
RATING = ("rating", "ratings", "overall", "stars", "score", "review_score")
TITLE = (
    "title",
    "name",
    "product_title",
    "product_name",
    "prod_name",
    "item_name",
    "item_title",
    "movie_title",
    "book_title",
    "track_name",
    "song_title",
    "game_title",
    "headline",
    "description",
)
ID = ("id", "key")
RECORD = "SOURCES.json"  # what `grasp-jax fetch` keeps of a download; no table


def found(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns with one of the wanted names, ignoring case, blanks, underscores and RecBole's types; the most reliable first."""
    by_name = {_joined(name): name for name in reversed(names)}
    return list(dict.fromkeys(by_name[key] for name in wanted if (key := _joined(name)) in by_name))


def _joined(name: str) -> str:
    """`artistid` of `artistID` and `artist_id`."""
    return bare(name).replace("_", "")


def times(names: Sequence[str]) -> list[str]:
    """Columns that may be times, the most reliable first."""
    sure = found(names, [*TIME, *sorted(TIME_NAMES - set(TIME))])
    return [*sure, *(name for name in names if is_time_name(name) and name not in sure)]
