"""Frame → frame: the cleaning rules of SPEC §5. Pure: nothing is read, written or changed in place.

Frames come in and go out; in between a column is an Arrow array: for a day of 3,700 rows its compute kernels take a
sixth of the time that pandas' own methods do. Dates are read once per distinct value and spread back over the rows.
Blanks around a date, a number or a code are no part of it; in text columns they stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etl.utils.columns import CONTENT_COLUMNS, ROW_HASH, SILVER_NAMES
from etl.utils.frames import TEXT, rows_as_json, rows_where, text_array, text_frame

LINEAGE = ("_source_file", "_source_row", "_partition_date")

SEPARATOR = "-----"
"""From file 6 on, the CRM underlines its header with a row of these."""

NULL_WORDS = ("", "nan", "None", "<NA>", "NaT")
"""What other programs write for "no value". Never data: no city, disposition or status is called so."""

NOT_AN_APPOINTMENT = "nu"
"""An APPT_DATE of `nu` marks a broken export row: it is quarantined."""

USPS_STATES = frozenset(
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR "
    "PA RI SC SD TN TX UT VT VA WA WV WI WY "
    "DC AS GU MP PR VI".split()
)
"""The 50 states; the District of Columbia and the territories."""

FLAGS = {"0": "0", "1": "1", "True": "1", "False": "0"}
"""Set and Demo as the CRM writes them → as an integer."""

IDS = frozenset({"LEADNUMBER", "email_hash", "phone_hash"})
"""Columns in which nearly every row of a day has a value of its own."""

MAX_LENGTH = {
    "email_hash": 255,
    "phone_hash": 255,
    "city": 100,
    "dispo": 50,
    "job_status": 100,
    "location": 255,
}
"""Characters that a column holds, as sql_scripts/silver/apply_silver_types.sql declares; longer values are rejected."""

LONG_TEXTS = ("email_hash", "phone_hash", "CITY", "Dispo", "JOB_STATUS", "location")
"""The bronze columns of those."""


class CleanSnapshots(NamedTuple):
    """What became of the rows of bronze.csv_snapshots: len(raw) = len(rows) + len(rejected) + separators."""

    rows: pd.DataFrame
    """One row per CRM lead and snapshot day: the columns of silver.stg_csv_snapshots, as text, NULL as `pd.NA`; and
    `_row_hash` as a 64-bit integer."""
    rejected: pd.DataFrame
    """One row per row that cannot be typed: `_source_file _source_row _partition_date reason raw_row` (JSON text)."""
    separators: int


def clean_csv(raw: pd.DataFrame) -> CleanSnapshots:
    """Clean rows of bronze.csv_snapshots by the rules of SPEC §5.

    Args:
        raw: the bronze columns in any order, as text of any kind; the lineage columns may be absent.

    Raises:
        KeyError: naming the bronze columns that are not there.
    """
    missing = [name for name in SILVER_NAMES if name not in raw.columns]
    if missing:
        raise KeyError(f"clean_csv needs the bronze columns {', '.join(missing)}")
    columns = {name: _Column.of(raw[name], in_every_row_another=name in IDS) for name in SILVER_NAMES}
    separator = _any_of(len(raw), (column.is_separator() for column in columns.values()))
    faults = _faults(columns)
    rejected = pc.and_not(_any_of(len(raw), faults.values()), separator)
    dropped = pc.or_(separator, rejected)
    if pc.any(dropped).as_py():
        kept = pc.invert(dropped)
        columns = {name: column.filter(kept) for name, column in columns.items()}

    entered, appointed = columns["ENTRYDATE"].bare, columns["APPT_DATE"].bare
    moments = parse_moment(pa.concat_arrays([entered, appointed]))  # at once: on a small day it is all fixed cost
    own_state, location = columns["STATE"], columns["location"]
    clean = {
        "entry_date": columns["ENTRYDATE"].spread(moments.date[: len(entered)]),
        "lead_number": columns["LEADNUMBER"].spread(columns["LEADNUMBER"].bare),
        **{
            SILVER_NAMES[name]: columns[name].spread(columns[name].as_is)
            for name in ("email_hash", "phone_hash", "CITY")
        },
        "state": pc.coalesce(own_state.spread(usps_state(own_state.bare)), location.spread(state_of(location.bare))),
        "zip": columns["ZIP"].spread(clean_zip(columns["ZIP"].bare)),
        "appt_date": columns["APPT_DATE"].spread(moments.date[len(entered) :]),
        "appt_time": columns["APPT_DATE"].spread(moments.time[len(entered) :]),
        "set": columns["Set"].spread(_as_flag(columns["Set"].bare)),
        "demo": columns["Demo"].spread(_as_flag(columns["Demo"].bare)),
        **{SILVER_NAMES[name]: columns[name].spread(columns[name].as_is) for name in ("Dispo", "JOB_STATUS")},
        "location": location.spread(location.bare),
        **{name: columns[name].spread(columns[name].as_is) for name in ("_extraction_date", "_partition_date")},
    }
    rows = text_frame(pa.table(clean))
    return CleanSnapshots(
        rows=rows.assign(**{ROW_HASH: row_hash(rows)}),
        rejected=_describe_rejected(raw, rejected, faults),
        separators=pc.sum(separator).as_py() or 0,
    )


def row_hash(rows: pd.DataFrame) -> pd.Series:
    """Hash the content of cleaned snapshot rows: one signed 64-bit integer a row, never NULL.

    The value depends on the cells of `CONTENT_COLUMNS` alone, not on the chunk they are in; NULL hashes differently
    from any text. A test pins the algorithm. For the probability of a collision see
    docs/decisions/0005-gold-from-row-versions.md.
    """
    return pd.util.hash_pandas_object(rows[list(CONTENT_COLUMNS)], index=False).astype("int64")


def count_untypable(raw: pd.DataFrame) -> int:
    """How many rows `clean_csv` would reject: what decides, before they are loaded, whether a file is refused.

    Only rows that look odd at the first glance are looked at closely: on a good file that is a twentieth of the work.
    """
    cell = {name: text_array(raw[name]) for name in ("LEADNUMBER", "APPT_DATE", "Set", "Demo", *LONG_TEXTS)}
    too_long = (pc.greater(pc.binary_length(cell[name]), MAX_LENGTH[SILVER_NAMES[name]]) for name in LONG_TEXTS)
    odd = _any_of(
        len(raw),
        [
            pc.invert(_is_plain_number(cell["LEADNUMBER"])),
            pc.or_(pc.less(cell["APPT_DATE"], "0"), pc.greater_equal(cell["APPT_DATE"], ":")),  # no digit comes first
            *(pc.invert(pc.is_in(cell[name], _FLAG_OR_NULL)) for name in ("Set", "Demo")),
            *too_long,
        ],
    )
    odd = pc.and_not(odd, pc.fill_null(pc.equal(cell["LEADNUMBER"], SEPARATOR), False))
    if not pc.any(odd).as_py():
        return 0
    return len(clean_csv(raw.iloc[np.flatnonzero(_known(odd))]).rejected)


class _Column(NamedTuple):
    """A bronze column as its distinct values and the places where they stand: a rule is applied once to each value.

    Where nearly every row has a value of its own, the values are the cells, and there are no places.
    """

    values: pa.Array
    places: pa.Array | None
    trimmed: pa.Array
    """The values without the blanks around them."""
    says_nothing: pa.Array

    @classmethod
    def of(cls, column: pd.Series, *, in_every_row_another: bool) -> _Column:
        cells = text_array(column)
        if in_every_row_another:
            return cls._of(cells, None)
        coded = cells.dictionary_encode()
        return cls._of(coded.dictionary, coded.indices)

    @classmethod
    def _of(cls, values: pa.Array, places: pa.Array | None) -> _Column:
        trimmed = pc.utf8_trim_whitespace(values)
        return cls(values, places, trimmed, pc.is_in(trimmed, _NULL_WORDS))

    @property
    def as_is(self) -> pa.Array:
        """The values, NULL where they say nothing."""
        return self._without_null_words(self.values)

    @property
    def bare(self) -> pa.Array:
        """The same without the blanks around them."""
        return self._without_null_words(self.trimmed)

    def _without_null_words(self, values: pa.Array) -> pa.Array:
        return pc.if_else(self.says_nothing, None, values) if pc.any(self.says_nothing).as_py() else values

    def spread(self, of_values: pa.Array) -> pa.Array:
        """What a rule made of each value, for every row that has the value."""
        return of_values if self.places is None else of_values.take(self.places)

    def where(self, of_values: pa.Array) -> pa.Array | None:
        """The rows whose value is one of these; None for none, which costs nothing."""
        return self.spread(of_values) if pc.any(of_values).as_py() else None

    def is_separator(self) -> pa.Array | None:
        return self.where(pc.equal(self.trimmed, SEPARATOR))

    def filter(self, rows: pa.Array) -> _Column:
        """These rows alone."""
        if self.places is not None:
            return self._replace(places=self.places.filter(rows))
        return _Column(*(None if part is None else part.filter(rows) for part in self))


def _faults(columns: Mapping[str, _Column]) -> dict[str, pa.Array]:
    """What keeps a row from being typed: reason → where it holds."""

    def found(name: str, wrong: Callable[[pa.Array], pa.Array]) -> pa.Array | None:
        return columns[name].where(wrong(columns[name].bare))

    def too_long(name: str) -> pa.Array | None:
        column = columns[name]
        return column.where(
            _is_longer(column.bare if name == "location" else column.as_is, MAX_LENGTH[SILVER_NAMES[name]])
        )

    faults = {
        f"APPT_DATE is {NOT_AN_APPOINTMENT!r}": found("APPT_DATE", lambda text: pc.equal(text, NOT_AN_APPOINTMENT)),
        "LEADNUMBER is no 32-bit integer": found("LEADNUMBER", lambda text: pc.invert(is_int32(text))),
        "Set is none of 0, 1, True, False": found("Set", lambda text: pc.invert(pc.is_in(text, _FLAG_OR_NULL))),
        "Demo is none of 0, 1, True, False": found("Demo", lambda text: pc.invert(pc.is_in(text, _FLAG_OR_NULL))),
        **{
            f"{SILVER_NAMES[name]} is longer than {MAX_LENGTH[SILVER_NAMES[name]]} characters": too_long(name)
            for name in LONG_TEXTS
        },
    }
    return {reason: rows for reason, rows in faults.items() if rows is not None}


def _is_longer(text: pa.Array, limit: int) -> pa.Array:
    in_bytes = pc.greater(pc.binary_length(text), limit)  # no less than in characters, and known without counting
    return pc.greater(pc.utf8_length(text), limit) if pc.any(in_bytes).as_py() else in_bytes


class Moments(NamedTuple):
    """Dates, and the times of day that follow them, as ISO text."""

    date: pa.Array
    time: pa.Array


def parse_moment(text: pa.Array) -> Moments:
    """Read dates that a time of day may follow: `date` as YYYY-MM-DD and `time` as HH:MM:SS, both text.

    The date is MM/DD/YYYY or YYYY-MM-DD, or, with dashes and the year last, DD-MM-YYYY: day first. The time is 24-hour,
    or 12-hour with AM or PM. NULL where the text is anything else, or no day of the calendar or no time of the clock.
    """
    iso = text
    for layout, year_first in _OTHER_DATE_LAYOUTS:
        iso = pc.replace_substring_regex(iso, layout, year_first)
    parts = pc.extract_regex(iso, _MOMENT)
    date_text, time_text, half = (pc.struct_field(parts, name) for name in ("date", "time", "half"))

    year, month, day = (_numbers(parts, name) for name in ("year", "month", "day"))
    leap = ((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)
    last_day = _LAST_DAY[np.clip(month, 0, 13)] + (leap & (month == 2))
    on_calendar = (year >= 1) & (day >= 1) & (day <= last_day)

    hour, minute, second = (_numbers(parts, name) for name in ("hour", "minute", "second"))
    is_pm = _known(pc.is_in(half, pa.array(["PM", "pm", "Pm", "pM"])))
    on_12_hours = _known(pc.not_equal(half, ""))
    has_time = _known(pc.not_equal(time_text, ""))
    right_hour = np.where(on_12_hours, (hour >= 1) & (hour <= 12), hour <= 23)
    on_clock = ~has_time | (right_hour & (minute <= 59) & (second <= 59))
    hour = np.where(on_12_hours, hour % 12 + 12 * is_pm, hour)

    valid = on_calendar & on_clock
    clock = [pc.utf8_lpad(pa.array(number).cast(pa.string()), 2, "0") for number in (hour, minute, second)]
    return Moments(
        date=pc.if_else(pa.array(valid), date_text, None),
        time=pc.if_else(pa.array(valid & has_time), pc.binary_join_element_wise(*clock, ":"), None),
    )


_BLANK = r"[\s\v\x1c-\x1f\x85\pZ]"
"""What `utf8_trim_whitespace` trims; RE2's `\\s` alone knows no blank beyond ASCII."""
_OTHER_DATE_LAYOUTS = (
    (r"^([0-9]{2})/([0-9]{2})/([0-9]{4})", r"\3-\1-\2"),
    (r"^([0-9]{2})-([0-9]{2})-([0-9]{4})", r"\3-\2-\1"),
)
_MOMENT = (
    r"^(?P<date>(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2}))"
    rf"(?P<time>(?:{_BLANK}+|T)(?P<hour>[0-9]{{1,2}}):(?P<minute>[0-9]{{2}})"
    rf"(?::(?P<second>[0-9]{{2}})(?:\.[0-9]{{1,6}})?)?(?:{_BLANK}*(?P<half>[AaPp][Mm]))?)?$"
)
_LAST_DAY = np.array((0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0))
"""By month; 0 for months that there are not."""


def usps_state(code: pa.Array) -> pa.Array:
    """A USPS code stays, anything else is NULL."""
    return pc.if_else(pc.is_in(code, _USPS_STATES), code, None)


def state_of(location: pa.Array) -> pa.Array:
    """The state that a location like `Las Vegas | NV` names, where it is a USPS code; else NULL."""
    named = pc.extract_regex(location, rf"\|{_BLANK}*(?P<code>[A-Z]{{2}})$")
    return usps_state(pc.struct_field(named, "code"))


def clean_zip(text: pa.Array) -> pa.Array:
    """Five digits stay, `02139` as well; superfluous zeros before them go; ZIP+4 keeps its first five; else NULL."""
    return pc.struct_field(pc.extract_regex(text, r"^0*(?P<zip>[0-9]{5})(?:-[0-9]{4})?$"), "zip")


def is_int32(text: pa.Array) -> pa.Array:
    """Whether step 4 can make a PostgreSQL INT of it. NULL can."""
    plain = _is_plain_number(text)
    if pc.all(plain).as_py() is not False:
        return pc.fill_null(plain, True)
    parts = pc.extract_regex(text, r"^(?P<sign>[+-]?)0*(?P<digits>[0-9]{1,10})$")
    size = pc.struct_field(parts, "digits").cast(pa.int64())
    in_range = pc.less_equal(size, pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), 2**31, 2**31 - 1))
    return pc.or_(pc.is_null(text), pc.fill_null(in_range, False))


def _is_plain_number(text: pa.Array) -> pa.Array:
    """At most nine digits and nothing else, which most numbers are: known without a regular expression."""
    return pc.and_(pc.ascii_is_decimal(text), pc.less_equal(pc.binary_length(text), 9))


def _as_flag(text: pa.Array) -> pa.Array:
    """True and False as 1 and 0; what is no flag stays, to be quarantined."""
    return pc.coalesce(_FLAG_NUMBERS.take(pc.index_in(text, _FLAG_WORDS)), text)


_NULL_WORDS = pa.array(NULL_WORDS)
_NO_VALUE = pa.array([*NULL_WORDS, None])
_USPS_STATES = pa.array(sorted(USPS_STATES))
_FLAG_WORDS = pa.array(list(FLAGS))
_FLAG_NUMBERS = pa.array(list(FLAGS.values()))
_FLAG_OR_NULL = pa.array([*FLAGS, None])


def _any_of(rows: int, masks: Iterable[pa.Array | None]) -> pa.Array:
    """True where any of the masks is; a NULL in a mask is not, and None stands for a mask without any True."""
    known = (pc.fill_null(mask, False) for mask in masks if mask is not None)
    return functools.reduce(pc.or_, known, pa.array(np.zeros(rows, dtype=bool)))


def _known(mask: pa.Array) -> np.ndarray:
    known: np.ndarray = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return known


def _numbers(parts: pa.StructArray, name: str) -> np.ndarray:
    """A group's digits as numbers; 0 where it took no part in the match."""
    digits = pc.struct_field(parts, name)
    numbers: np.ndarray = pc.fill_null(pc.if_else(pc.equal(digits, ""), "0", digits), "0").cast(pa.int32()).to_numpy()
    return numbers


_NOTHING_REJECTED = pa.schema([(name, pa.string()) for name in (*LINEAGE, "reason", "raw_row")]).empty_table()


def _describe_rejected(raw: pd.DataFrame, rejected: pa.Array, faults: dict[str, pa.Array]) -> pd.DataFrame:
    """Name all that is wrong with each rejected row, and keep the row itself as JSON."""
    positions = np.flatnonzero(_known(rejected))
    if not len(positions):
        return text_frame(_NOTHING_REJECTED)
    rows = raw.iloc[positions].reset_index(drop=True)
    wrong = {reason: _known(mask)[positions] for reason, mask in faults.items()}
    reasons = ["; ".join(reason for reason in wrong if wrong[reason][row]) for row in range(len(positions))]
    return rows.reindex(columns=list(LINEAGE)).assign(
        reason=pd.Series(reasons, dtype=TEXT),
        raw_row=rows_as_json(rows.drop(columns=list(LINEAGE), errors="ignore")),
    )


class LeadsReport(NamedTuple):
    """What cleaning left out of the leads parquet, in rows. For ids that leads share, see LEADS_ARE_DISTINCT."""

    missing_id: int
    """One of the three ids is missing."""
    duplicates: int
    """All three ids stand in an earlier row."""


class CleanLeads(NamedTuple):
    """The backend's leads as silver wants them, and what was found on the way."""

    rows: pd.DataFrame
    """One row per distinct `lead_uuid phone_hash email_hash`, all text, with `_extraction_date`."""
    report: LeadsReport
    rejected: pd.DataFrame
    """One row per row with an id that is too long: `_source_row` (its number in `raw`), `reason`, `raw_row` (JSON)."""


def clean_parquet(raw: pd.DataFrame) -> CleanLeads:
    """Clean rows of bronze.leads_parquet by the rules of SPEC §5: the Source of Truth has whole and distinct ids.

    Args:
        raw: `lead_UUID phone_hash email_hash _extraction_date`, as text of any kind.
    """
    ids = {"lead_uuid": "lead_UUID", "phone_hash": "phone_hash", "email_hash": "email_hash"}
    clean, lacks = {}, []
    for name, bronze_name in ids.items():
        clean[name], lacking = _clean_id(text_array(raw[bronze_name]), is_hash=name != "lead_uuid")
        lacks.append(lacking)
    missing = _any_of(len(raw), lacks)
    too_long = _any_of(len(raw), (_is_longer(clean[name], _LONGEST_ID) for name in ids))
    rejected = pc.and_not(too_long, missing)
    leads = pa.table(clean | {"_extraction_date": text_array(raw["_extraction_date"])})
    is_whole = ~_known(pc.or_(missing, rejected))
    is_repeated = _repeats_another(leads, is_whole, list(ids))
    rows = text_frame(rows_where(pa.array(is_whole & ~is_repeated), leads))

    report = LeadsReport(missing_id=pc.sum(missing).as_py() or 0, duplicates=int(is_repeated.sum()))
    positions = np.flatnonzero(_known(rejected))
    refused = pd.DataFrame(
        {
            "_source_row": positions + 1,
            "reason": f"an id is longer than {_LONGEST_ID} characters",
            "raw_row": rows_as_json(raw.iloc[positions].reset_index(drop=True)),
        }
    )
    return CleanLeads(rows, report, refused)


def _clean_id(cells: pa.Array, *, is_hash: bool) -> tuple[pa.Array, pa.Array]:
    """An id's column, and where it has no value."""
    bare = pc.utf8_trim_whitespace(cells)
    return pc.utf8_lower(bare) if is_hash else cells, pc.is_in(bare, _NO_VALUE)


def _repeats_another(leads: pa.Table, is_whole: np.ndarray, ids: list[str]) -> np.ndarray:
    """Which whole leads are equal, in all ids, to one before them. Only those whose first id is shared are compared."""
    shares_an_id = text_frame(leads.select(ids[:1]))[ids[0]].duplicated(keep=False).to_numpy() & is_whole
    is_repeated = np.zeros(len(is_whole), dtype=bool)
    if shares_an_id.any():
        is_repeated[shares_an_id] = text_frame(leads.filter(pa.array(shares_an_id))).duplicated(ids).to_numpy()
    return is_repeated


_LONGEST_ID = 255
"""Characters that the ids of silver.stg_leads_parquet hold."""
