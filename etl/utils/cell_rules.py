"""Cleaning rules for single columns, as functions on Arrow arrays of trimmed text."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.utils.columns import CRM_COLUMNS

USPS_STATES = frozenset(
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR "
    "PA RI SC SD TN TX UT VT VA WA WV WI WY "
    "DC AS GU MP PR VI".split()
)
"""USPS codes of the 50 states, the District of Columbia and the five inhabited territories."""
FLAGS = {"0": "0", "1": "1", "true": "1", "false": "0", "0.0": "0", "1.0": "1"}
"""Value of Set or Demo in the CRM, in lower case → 0 or 1, as text."""


def parse_timestamp(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Parse dates with an optional time of day. Returns dates as YYYY-MM-DD, and times as HH:MM:SS, with any fraction.

    Accepts dates as MM/DD/YYYY (also M/D/YYYY), YYYY-MM-DD or DD-MM-YYYY, and times in 24-hour format, or in 12-hour
    format with AM or PM. The time stays as written: a time zone is ignored. Fractions of seconds are truncated to
    microseconds, without trailing zeros. For any other text, and if the date or the time does not exist, both are NULL.
    Without a time of day, the time is NULL.
    """
    coded = text.dictionary_encode()  # a file has few distinct dates
    parsed = [_parse_timestamp(value) for value in coded.dictionary.to_pylist()]
    dates, times = (pa.array([parts[position] for parts in parsed], pa.string()) for position in (0, 1))
    return dates.take(coded.indices), times.take(coded.indices)


@lru_cache(maxsize=20_000)  # most dates of a snapshot are also in the one before
def _parse_timestamp(text: str) -> tuple[str | None, str | None]:
    """Return the date and the time of day of one text, as `parse_timestamp` does for a column."""
    match = next(filter(None, (layout.fullmatch(text) for layout in _TIMESTAMP_LAYOUTS)), None)
    if match is None:
        return None, None
    hour, half = int(match["hour"] or 0), (match["half"] or "").upper()
    if half and not 1 <= hour <= 12:
        return None, None
    if half:
        hour = hour % 12 + 12 * (half == "PM")
    try:
        date = dt.date(int(match["year"]), int(match["month"]), int(match["day"])).isoformat()
        time = dt.time(hour, int(match["minute"] or 0), int(match["second"] or 0)).isoformat()
    except ValueError:  # the date or the time does not exist
        return None, None
    return date, (time + (match["fraction"] or "").rstrip(".0")) if match["hour"] else None


_TIME = (
    r"((\s+|T)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})((?P<fraction>\.[0-9]{1,6})[0-9]{0,3})?)?"
    r"(\s*(?P<half>[AaPp][Mm]))?(\s*([Zz]|[+-][0-9]{2}:?[0-9]{2}))?)?"
)
_TIMESTAMP_LAYOUTS = (
    re.compile(r"(?P<month>[0-9]{1,2})/(?P<day>[0-9]{1,2})/(?P<year>[0-9]{4})" + _TIME),
    re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})" + _TIME),
    re.compile(r"(?P<day>[0-9]{2})-(?P<month>[0-9]{2})-(?P<year>[0-9]{4})" + _TIME),
)


def usps_state(code: pa.Array) -> pa.Array:
    """Keep upper-case USPS state codes; any other text, such as a lower-case code, becomes NULL."""
    return pc.if_else(pc.is_in(code, _USPS_STATES), code, None)


def state_of(location: pa.Array) -> pa.Array:
    """Extract the USPS state code from locations such as `Las Vegas | NV`; NULL if there is none."""
    # RE2's `\s` covers ASCII only: these are the blanks that `utf8_trim_whitespace` trims.
    named = pc.extract_regex(location, r"\|[\s\v\x1c-\x1f\x85\pZ]*(?P<code>[A-Z]{2})$")
    return usps_state(pc.struct_field(named, "code"))


def clean_zip(text: pa.Array) -> pa.Array:
    """Reduce ZIP codes to five digits, such as `02139`; any other text becomes NULL.

    Removes extra leading zeros, the +4 of ZIP+4, and the `.0` of numbers that were stored as floats.
    """
    return pc.struct_field(pc.extract_regex(text, r"^0*(?P<zip>[0-9]{5})(?:-[0-9]{4}|\.0+)?$"), "zip")


def trimmed(text: pa.Array) -> pa.Array:
    """Keep text without surrounding blanks, which the caller has already removed."""
    return text


def without_fraction(text: pa.Array) -> pa.Array:
    """Remove the `.0` of integers that were stored as floats. Other text is unchanged."""
    return pc.replace_substring_regex(text, r"^([+-]?[0-9]+)\.0+$", r"\1")


def is_int32(text: pa.Array) -> pa.Array:
    """Return whether each text is an integer, with or without `.0`, that fits a PostgreSQL INT; true for NULL."""
    # Most numbers have at most nine digits, and nothing else: checking that needs no regular expression.
    plain = pc.and_(pc.ascii_is_decimal(text), pc.less_equal(pc.binary_length(text), 9))
    if pc.all(plain).as_py() is not False:
        return pc.fill_null(plain, True)
    parts = pc.extract_regex(text, r"^(?P<sign>[+-]?)0*(?P<digits>[0-9]{1,10})(?:\.0+)?$")
    size = pc.struct_field(parts, "digits").cast(pa.int64())
    in_range = pc.less_equal(size, pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), 2**31, 2**31 - 1))
    return pc.or_(pc.is_null(text), pc.fill_null(in_range, False))


def as_flag(text: pa.Array) -> pa.Array:
    """Convert True and 1.0 to the text 1, False and 0.0 to 0, in any letter case. Other text is unchanged."""
    return pc.coalesce(_FLAG_NUMBERS.take(pc.index_in(pc.utf8_lower(text), _FLAG_WORDS)), text)


def is_flag(text: pa.Array) -> pa.Array:
    """Return whether each text is a key of `FLAGS`, in any case; true for NULL."""
    return pc.is_in(pc.utf8_lower(text), _FLAG_WORDS)


_FUNCTIONS = {rule.__name__: rule for rule in (as_flag, clean_zip, trimmed, usps_state, without_fraction)}
RULES: dict[str, Callable[[pa.Array], pa.Array]] = {
    column.bronze: _FUNCTIONS[column.rule]
    for column in CRM_COLUMNS
    if column.rule and column.rule != parse_timestamp.__name__
}
"""Column of bronze → function that cleans its trimmed values. Excludes dates: `parse_timestamp` returns two arrays."""

_USPS_STATES = pa.array(sorted(USPS_STATES))
_FLAG_WORDS = pa.array([*FLAGS, None])
_FLAG_NUMBERS = pa.array([*FLAGS.values(), None])


def fill_false(mask: pa.Array) -> np.ndarray:
    """Convert a mask to a NumPy array; NULL becomes False."""
    known: np.ndarray = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return known
