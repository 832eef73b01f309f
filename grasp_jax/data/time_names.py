"""Which names of columns suggest the times of interactions, and which those of durations and of other moments."""

import re

TIME_NAMES = set(
    (
        "timestamp timestamps time_stamp time ts date datetime date_time day event_time eventtime "
        "event_timestamp event_date unixreviewtime reviewtime created_at createdat created "
        "creation_time order_date order_time purchase_date purchase_time unix_time unixtime epoch "
        "t_dat utc when occurred_at updated_at visit_time click_time timestamp_ms time_ms "
        "invoicedate unix_timestamp"
    ).split()
)
# Words that make a name one of times, such as purchaseDate or TRANSACTION_DT.
TIME_WORDS = {"date", "time", "timestamp", "datetime", "ts", "dt", "day", "utc"}
# With one of these words the name is not of the moment of an interaction: it is of another moment, or of a part of the calendar.
OTHER_WORDS = set(
    (
        "birth born release released publish published publication launch expiry expiration "
        "expires expire valid due limit upload uploaded delivery delivered shipping shipped ship "
        "shipment estimated arrival signup sign registration registered register joined join "
        "membership prev previous prior next since until before after zone offset of per part "
        "period slot week num number count is has diff difference delta gap sin cos name type "
        "format same up one bin norm"
    ).split()
)
# A time with one of these words is a duration; a date (`last_watch_dt`) is not.
DURATION_WORDS = set(
    (
        "play played watch watched listen listened read reading stay dwell spent spend wait "
        "waiting response load loading run elapsed total avg average mean median max min sum "
        "remaining left cook cooking prep preparation lead travel processing active idle screen "
        "length duration on in to real full first session engagement exposure reaction page video "
        "lap best show meal opening closing working bed prime"
    ).split()
)
_JOINED_NAMES = {name.replace("_", "") for name in TIME_NAMES}
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# names in small letters without a mark between their words, such as eventdate
_JOINED_NAME = re.compile(
    "(event|order|purchase|transaction|trans|review|rating|visit|click|view|invoice|log|action|utc)"
    "(date|time|timestamp|datetime)"
)


def is_time_name(name: str) -> bool:
    """Whether the name of a column suggests the time of an interaction.

    It is a usual one; or has one of `TIME_WORDS`, and no word that says that it is a duration or another moment. The values may be
    anything: `purchase_day` may count from 1 to 7.
    """
    if is_usual_time_name(name):
        return True
    words = {word.casefold() for word in _words(name)}
    found = words & TIME_WORDS
    if words & DURATION_WORDS:
        found -= {"time"}
    return bool(found) and not words & OTHER_WORDS


def is_usual_time_name(name: str) -> bool:
    """Whether a name is one of `TIME_NAMES`, with or without `_`, or like `eventdate`, or ends as `ordered_at` does, but not `born_at`."""
    words = [word.casefold() for word in _words(name)]
    joined = "".join(words)
    ends_in_at = len(words) > 1 and words[-1] == "at" and not OTHER_WORDS & {*words}
    return joined in _JOINED_NAMES or bool(_JOINED_NAME.fullmatch(joined)) or ends_in_at


def _words(name: str) -> list[str]:
    """The words of a name, without the type that RecBole writes behind a colon: 'purchaseDate' -> ['purchase', 'Date']."""
    return [word for word in _BETWEEN_WORDS.split(name.split(":")[0]) if word]
