"""Generate bronze rows: ordinary ones with unusual cells."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
from cleaning import ORDINARY_ROW
from cleaning_oracle import NA_VALUES, STATES
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from etl.utils.frames import TEXT

BLANK = st.sampled_from(" \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000")
NEARLY_BLANK = st.sampled_from("\u200b\u2060\ufeff\u180e")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
UNICODE_DIGITS = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")
NO_VALUE = st.one_of(
    st.sampled_from([None, *NA_VALUES, "NULL", "NaN", "none", "  "]),
    st.text(BLANK | NEARLY_BLANK, min_size=1, max_size=3),
)


def mostly(*usual: SearchStrategy[str]) -> SearchStrategy[str | None]:
    """Draw mostly usual text; sometimes padded, in non-ASCII digits, an NA value, or any text."""
    text = st.one_of(*usual)
    padded = st.builds("{}{}{}".format, st.text(BLANK, max_size=2), text, st.text(BLANK, max_size=2))
    foreign = text.map(lambda value: value.translate(UNICODE_DIGITS))
    return st.one_of(text, text, padded, foreign, NO_VALUE, ANY_TEXT)


DAYS = st.one_of(
    st.dates().map(lambda day: (day.year, day.month, day.day)),
    st.tuples(st.sampled_from([2023, 2024, 1900, 2000]), st.just(2), st.integers(28, 30)),
    st.tuples(st.sampled_from([0, 1, 999, 2024, 9999]), st.sampled_from([0, 4, 6, 9, 11, 12, 13]), st.integers(0, 32)),
)
DAY_LAYOUTS = st.sampled_from(
    ["{1:02}/{2:02}/{0:04}", "{0:04}-{1:02}-{2:02}", "{2:02}-{1:02}-{0:04}"] * 3
    + [
        "{1}/{2}/{0:04}",
        "{1}/{2}/{0}",
        "{0}-{1}-{2}",
        "{0:04}/{1:02}/{2:02}",
        "{1:02}-{2:02}/{0:04}",
        "{0:04}{1:02}{2:02}",
        "{1:02}/{2:02}",
    ]
)
WRITTEN_DAYS = st.builds(lambda layout, day: layout.format(*day), DAY_LAYOUTS, DAYS)
CLOCKS = st.builds(
    lambda layout, hour, minute, second: layout.format(hour, minute, second),
    st.sampled_from(
        ["{0}:{1:02}", "{0:02}:{1:02}", "{0:02}:{1:02}:{2:02}"] * 3 + ["{0}", "{0}:{1}", "{0}:{1:02}:{2:02}.5"]
    ),
    st.one_of(st.integers(0, 23), st.sampled_from([0, 12, 13, 24, 25])),
    st.one_of(st.integers(0, 59), st.sampled_from([60, 99])),
    st.one_of(st.integers(0, 59), st.sampled_from([60, 61])),
)
HALVES = st.one_of(
    st.just(""),
    st.sampled_from(["AM", "PM", "am", "pM", " PM", "\u3000am", " P.M.", "Z", "+01:00", "-0530", " Z", "+1"]),
)
GAPS = st.one_of(st.sampled_from([" ", "  ", "T"]), st.sampled_from(["", "t", "T ", ",", "\t"]), BLANK, NEARLY_BLANK)
TIMESTAMPS = mostly(WRITTEN_DAYS, st.builds("{}{}{}{}".format, WRITTEN_DAYS, GAPS, CLOCKS, HALVES))

CODES = st.one_of(
    st.sampled_from(sorted(STATES)), st.sampled_from(["nv", "Nv", "nu", "XX", "USA", "N", "N V", "  ", ""])
)
LOCATIONS = st.one_of(
    st.builds("{} {}|{}{}".format, ANY_TEXT, st.sampled_from(["", "| ", "NV |"]), st.text(BLANK, max_size=2), CODES),
    st.sampled_from(["Las Vegas | NV", ' " |   "', " |   ", " | nu", "Las Vegas, NV", "NV", "|", "NV |", "x" * 256]),
)

ZIPS = st.one_of(
    st.from_regex(r"[0-9]{5}", fullmatch=True),
    st.from_regex(r"0*[0-9]{4,6}(-[0-9]{3,5})?", fullmatch=True),
    st.sampled_from(
        ["0", "02139", "00501", "002139", "0000000", "98311-1234", "98311-", "98311 1234", "98311.0", "-98311"]
    ),
)

NUMBERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "-", "+", "--", "- "]),
    st.sampled_from(["", "", "0", "0" * 30]),
    st.one_of(
        st.integers(0, 10**6),
        st.integers(2**31 - 2, 2**31 + 2),
        st.integers(10**9, 10**11),
        st.sampled_from(["", "9" * 400, "12.0", "12.00", "12.5", "1e3", "1_000", "\xb2"]),
    ),
)

FLAGS = st.one_of(
    st.sampled_from(["0", "1", "True", "False"]),
    st.sampled_from(["2", "-1", "01", "1.0", "0.0", "true", "FALSE", "yes", "0.5"]),
)


def texts(longest: int) -> SearchStrategy[str | None]:
    as_long = st.builds(
        lambda letter, length, end: letter * length + end,
        st.sampled_from(["x", "é", "\U0001f3e0"]),
        st.integers(longest - 1, longest),
        st.sampled_from(["", " ", "y"]),
    )
    return mostly(st.sampled_from(["Boise", "boise", "Reno   ", "-", "----", "nan ", 'O"Fallon, IL', "Set"]), as_long)


CELLS = {
    "ENTRYDATE": TIMESTAMPS,
    "LEADNUMBER": mostly(NUMBERS),
    "email_hash": texts(255),
    "phone_hash": texts(255),
    "CITY": texts(100),
    "STATE": mostly(CODES),
    "ZIP": mostly(ZIPS),
    "APPT_DATE": st.one_of(TIMESTAMPS, TIMESTAMPS, st.sampled_from(["nu", " nu ", "NU", "nul"])),
    "Set": mostly(FLAGS),
    "Demo": mostly(FLAGS),
    "Dispo": texts(50),
    "JOB_STATUS": texts(100),
    "location": mostly(LOCATIONS),
    "_extraction_date": NO_VALUE | st.just("2024-11-02"),
    "_partition_date": NO_VALUE | st.just("2024-10-07"),
}
NEVER_INVALID = ("ENTRYDATE", "STATE", "ZIP", "location", "_extraction_date")
SEPARATORS = st.dictionaries(st.sampled_from(list(CELLS)), st.sampled_from(["-----", " -----\t", "------"]), max_size=2)
# One mostly cell in an ordinary row: what is wrong with it cannot hide behind another settings_error.
ONE_UNUSUAL_CELL = st.sampled_from([*CELLS, "ENTRYDATE", "APPT_DATE", "ZIP"]).flatmap(
    lambda name: st.fixed_dictionaries({name: CELLS[name]})
)
ROWS = st.one_of(
    ONE_UNUSUAL_CELL,
    ONE_UNUSUAL_CELL,
    st.fixed_dictionaries({}, optional={name: CELLS[name] for name in NEVER_INVALID}),
    st.fixed_dictionaries({}, optional=CELLS),
    SEPARATORS,
).map(lambda cells: ORDINARY_ROW | cells)
FEW_ROWS, MANY_ROWS = st.lists(ROWS, max_size=12), st.lists(ROWS, min_size=8, max_size=24)


KINDS_OF_TEXT = st.sampled_from([object, "str", pd.StringDtype("python"), pd.ArrowDtype(pa.large_string()), TEXT])

IDS = st.one_of(
    st.sampled_from(["a", "b", "A", " a", "b\t", "\xa0a", "nan", "NaN", "None", None]),
    st.sampled_from(["a", "b", "c", "É", "é"]),
    NO_VALUE,
    st.text("abcDEF019 -", max_size=4),
)
LEADS = st.lists(
    st.fixed_dictionaries(
        {
            "lead_UUID": IDS,
            "phone_hash": IDS,
            "email_hash": IDS,
            "_extraction_date": st.sampled_from(["2024-11-01", "2024-11-02"]),
        }
    ),
    max_size=14,
)
