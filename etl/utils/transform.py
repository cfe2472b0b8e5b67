"""Clean bronze frames into silver frames, by the rules of the specification, §5. Pure functions.

Columns are processed as Arrow arrays: for a day of 3,700 rows, Arrow's compute kernels take a sixth of the time of
pandas' methods. Values of columns without a rule keep surrounding blanks; all others are trimmed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etl.utils.cell_rules import RULES, fill_false, is_flag, is_int32, parse_timestamp, state_of
from etl.utils.columns import (
    APPT_TIME,
    BLANK_ROW,
    BLANKS,
    BRONZE_COLUMNS,
    CONTENT_COLUMNS,
    FOOTER,
    MAX_LENGTH,
    NA_VALUES,
    OPTIONAL_COLUMNS,
    ROW_HASH,
    SILVER_COLUMNS,
    SILVER_NAMES,
    SOURCE_ROW,
)
from etl.utils.errors import shorten
from etl.utils.frames import TEXT, rows_as_json, text_array, text_frame

LINEAGE = ("_source_file", SOURCE_ROW, "_partition_date")
SEPARATOR = "-----"
"""Cell of a separator row: from file 6 on, the CRM writes such a row below the header."""
NOT_AN_APPOINTMENT = "nu"
"""An APPT_DATE of `nu` marks a broken export row, which is rejected."""
PLACEHOLDERS = {"ENTRYDATE": (), "APPT_DATE": (), "STATE": ("nu",), "ZIP": ("0", "0.0")}
"""Column of bronze whose invalid values become NULL → the texts that the CRM writes for a missing value."""
IDS = ("LEADNUMBER", "email_hash", "phone_hash")


class CleanSnapshots(NamedTuple):
    """Result of `clean_csv`. Each row of bronze is counted once: len(raw) = len(rows) + len(rejected) + separators."""

    rows: pd.DataFrame
    """One row per accepted row of bronze: SILVER_COLUMNS as text, NULL as `pd.NA`; and `_row_hash` as a 64-bit integer.
    `_source_row` is NULL if `raw` has none."""
    rejected: pd.DataFrame
    """One row per rejected row: `_source_file _source_row _partition_date reason raw_row` (JSON text)."""
    separators: int
    """Number of separator rows, which are dropped."""
    nulled: dict[str, Nulled]
    """Column of silver → how many of its values became NULL. Contains the columns of `PLACEHOLDERS` only."""


class Nulled(NamedTuple):
    """Values of a column that cleaning turned into NULL because they are not valid."""

    values: int
    """Number of values before cleaning, valid or not; NULLs and the column's placeholder are not counted."""
    nulled: int
    samples: tuple[str, ...]
    """Up to three values that became NULL, shortened."""

    def __add__(self, other: Nulled) -> Nulled:  # type: ignore[override]
        return Nulled(self.values + other.values, self.nulled + other.nulled, (self.samples + other.samples)[:3])


def clean_csv(raw: pd.DataFrame) -> CleanSnapshots:
    """Clean rows of bronze.csv_snapshots by the rules of the specification, §5.

    Args:
        raw: the bronze columns in any order, as any kind of text. Optional columns and `_source_row` may be missing and
            are NULL then; `_source_file` is only copied to rejected rows.

    Raises:
        KeyError: names the missing columns.
    """
    if missing := [name for name in SILVER_NAMES if name not in {*OPTIONAL_COLUMNS, *raw.columns}]:
        raise KeyError(f"clean_csv: missing bronze columns: {', '.join(missing)}")
    columns = _columns_of(raw)
    source_row = text_array(raw.get(SOURCE_ROW, _nulls(raw)))
    separator, rejected, invalid = _dropped_rows(columns)
    dropped = pc.or_(separator, rejected)
    if pc.any(dropped).as_py():
        kept = pc.invert(dropped)
        columns = {name: _Column(*(part.filter(kept) for part in column)) for name, column in columns.items()}
        source_row = source_row.filter(kept)

    entry_date, _ = parse_timestamp(columns["ENTRYDATE"].bare)
    appt_date, appt_time = parse_timestamp(columns["APPT_DATE"].bare)
    clean = {SILVER_NAMES[name]: _text_of(name, column) for name, column in columns.items()}
    clean |= {
        "entry_date": entry_date,
        "state": pc.coalesce(clean["state"], state_of(columns["location"].bare)),
        "appt_date": appt_date,
        APPT_TIME: appt_time,
        SOURCE_ROW: source_row,
    }
    rows = text_frame(pa.table(clean).select([*SILVER_COLUMNS]))
    return CleanSnapshots(
        rows=rows.assign(**{ROW_HASH: row_hash(rows)}),
        rejected=_describe_rejected(raw, rejected, invalid),
        separators=pc.sum(separator).as_py() or 0,
        nulled=_count_nulled(columns, clean),
    )


def _count_nulled(columns: Mapping[str, _Column], clean: Mapping[str, pa.Array]) -> dict[str, Nulled]:
    """Count the values of the columns in `PLACEHOLDERS`, and those of them that became NULL.

    NULLs and the placeholders themselves are not counted. Returns column of silver → counts and samples.
    """
    found = {}
    for name, placeholders in PLACEHOLDERS.items():
        text, result = columns[name].bare, clean[SILVER_NAMES[name]]
        has_value = pc.invert(pc.is_in(text, pa.array([None, *placeholders], pa.string())))
        is_nulled = pc.and_(has_value, pc.is_null(result))
        samples = pc.unique(text.filter(is_nulled))[:3].to_pylist()
        values, nulled = (pc.sum(mask).as_py() or 0 for mask in (has_value, is_nulled))
        found[SILVER_NAMES[name]] = Nulled(values, nulled, tuple(map(shorten, samples)))
    return found


def _text_of(name: str, column: _Column) -> pa.Array:
    """Return the values of a column, cleaned by its rule. Without a rule, they keep surrounding blanks."""
    rule = RULES.get(name)
    return rule(column.bare) if rule else column.as_is


def row_hash(rows: pd.DataFrame) -> pd.Series:
    """Hash the content of cleaned snapshot rows: one signed 64-bit integer per row, never NULL.

    The value depends on the cells of `CONTENT_COLUMNS` alone, not on the chunk they are in; NULL hashes differently
    from any text. A test pins the algorithm. For the probability of a collision see
    docs/decisions/0005-gold-from-row-versions.md.
    """
    return pd.util.hash_pandas_object(rows[list(CONTENT_COLUMNS)], index=False).astype("int64")


def invalid_rows(raw: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the rows that `clean_csv` would reject, as `CleanSnapshots.rejected`, and the number of separators.

    Step 2 counts them to refuse files.
    """
    separator, rejected, invalid = _dropped_rows(_columns_of(raw))
    return _describe_rejected(raw, rejected, invalid), pc.sum(separator).as_py() or 0


class _Column(NamedTuple):
    """The values of a bronze column, NULL for NA values."""

    as_is: pa.Array
    bare: pa.Array
    """The values without surrounding blanks."""

    @classmethod
    def of(cls, column: pd.Series) -> _Column:
        values = text_array(column)
        trimmed = pc.utf8_trim_whitespace(values)
        is_na = pc.is_in(trimmed, _NO_VALUE)
        return cls(pc.if_else(is_na, None, values), pc.if_else(is_na, None, trimmed))


def _columns_of(raw: pd.DataFrame) -> dict[str, _Column]:
    return {name: _Column.of(raw.get(name, _nulls(raw))) for name in SILVER_NAMES}


def _nulls(raw: pd.DataFrame) -> pd.Series:
    return pd.Series(pd.NA, index=raw.index, dtype=TEXT)


def _dropped_rows(columns: Mapping[str, _Column]) -> tuple[pa.Array, pa.Array, dict[str, pa.Array]]:
    """Return masks of separator rows and of rejected rows, and the reasons for these (see `_invalid_rows`)."""
    separator = _any_of(pc.equal(column.bare, SEPARATOR) for column in columns.values())
    invalid = _invalid_rows(columns)
    return separator, pc.and_not(_any_of(invalid.values()), separator), invalid


def _invalid_rows(columns: Mapping[str, _Column]) -> dict[str, pa.Array]:
    """Find invalid rows. Returns reason → row mask, which may be NULL where the reason does not apply."""
    text = {name: column.bare for name, column in columns.items()}
    without_ids = functools.reduce(pc.and_, (pc.is_null(text[name]) for name in IDS))
    invalid = {
        f"APPT_DATE is {NOT_AN_APPOINTMENT!r}": pc.equal(text["APPT_DATE"], NOT_AN_APPOINTMENT),
        "LEADNUMBER is not a 32-bit integer": pc.invert(is_int32(text["LEADNUMBER"])),
        "Set is not one of 0, 1, True, False": pc.invert(is_flag(text["Set"])),
        "Demo is not one of 0, 1, True, False": pc.invert(is_flag(text["Demo"])),
    }
    for name, silver in SILVER_NAMES.items():
        if limit := MAX_LENGTH.get(silver):
            length = pc.utf8_length(_text_of(name, columns[name]))
            invalid[f"{silver} is longer than {limit} characters"] = pc.greater(length, limit)
    if pc.any(without_ids).as_py():
        values = sum(fill_false(pc.is_valid(text[name])).astype(int) for name in BRONZE_COLUMNS)
        invalid[BLANK_ROW] = pa.array(values == 0)
        invalid[FOOTER] = pc.and_(without_ids, pa.array(values == 1))
        invalid["LEADNUMBER, email_hash and phone_hash have no value"] = pc.and_(without_ids, pa.array(values > 1))
    return invalid


_NO_VALUE = pa.array([*NA_VALUES, None])


def _any_of(masks: Iterable[pa.Array]) -> pa.Array:
    """Combine masks with OR. NULL counts as False."""
    return functools.reduce(pc.or_, (pc.fill_null(mask, False) for mask in masks))


_NOTHING_REJECTED = pa.schema([(name, pa.string()) for name in (*LINEAGE, "reason", "raw_row")]).empty_table()


def _describe_rejected(raw: pd.DataFrame, rejected: pa.Array, invalid: dict[str, pa.Array]) -> pd.DataFrame:
    """Return one row per rejected row: its lineage, all reasons, and the raw row as JSON, `_extra` as an object."""
    positions = np.flatnonzero(fill_false(rejected))
    if not len(positions):
        return text_frame(_NOTHING_REJECTED)
    rows = raw.iloc[positions].reset_index(drop=True)
    wrong = {reason: fill_false(mask)[positions] for reason, mask in invalid.items()}
    reasons = ["; ".join(reason for reason in wrong if wrong[reason][row]) for row in range(len(positions))]
    cells = rows.drop(columns=[*LINEAGE, "_extraction_date"], errors="ignore")
    if "_extra" in cells:
        cells["_extra"] = cells["_extra"].map(json.loads, na_action="ignore").astype(object)
    return rows.reindex(columns=list(LINEAGE)).assign(
        reason=pd.Series(reasons, dtype=TEXT), raw_row=rows_as_json(cells)
    )


class LeadsReport(NamedTuple):
    """Counts of dropped rows of the leads parquet. Leads that share only some ids are kept: see LEADS_ARE_DISTINCT."""

    missing_id: int
    """Rows that lack at least one of the three ids."""
    duplicates: int
    """Rows whose three ids are those of an earlier row."""


class CleanLeads(NamedTuple):
    """The cleaned leads of the backend, and what was dropped or rejected."""

    rows: pd.DataFrame
    """One row per distinct `lead_uuid phone_hash email_hash`, all text, with `_extraction_date`."""
    report: LeadsReport
    rejected: pd.DataFrame
    """One row per rejected row: `_source_row` (its position in `raw`, from 1), `reason` and `raw_row` (JSON text)."""


def clean_parquet(raw: pd.DataFrame) -> CleanLeads:
    """Clean rows of bronze.leads_parquet by the rules of the specification, §5.

    Drops rows that lack one of the three ids, and duplicates; rejects other rows with an id that is too long for its
    column. Hashes are trimmed of `BLANKS`, as for matching, and converted to lower case; lead_uuid is unchanged.

    Args:
        raw: `lead_UUID phone_hash email_hash _extraction_date`, of any string dtype.
    """
    ids: dict[str, pa.Array] = {}
    without_value = []
    for name in ("lead_UUID", "phone_hash", "email_hash"):
        bare = pc.utf8_trim(text_array(raw[name]), BLANKS)
        without_value.append(pc.is_in(bare, _NO_VALUE))
        ids[name.lower()] = text_array(raw[name]) if name == "lead_UUID" else pc.utf8_lower(bare)
    missing = _any_of(without_value)
    too_long = _any_of(pc.greater(pc.utf8_length(cells), _LONGEST_ID) for cells in ids.values())
    rejected = pc.and_not(too_long, missing)
    leads = text_frame(pa.table(ids | {"_extraction_date": text_array(raw["_extraction_date"])}))
    valid = leads[~fill_false(pc.or_(missing, rejected))]
    rows = valid.drop_duplicates(list(ids), ignore_index=True)

    report = LeadsReport(missing_id=pc.sum(missing).as_py() or 0, duplicates=len(valid) - len(rows))
    positions = np.flatnonzero(fill_false(rejected))
    refused = pd.DataFrame(
        {
            "_source_row": positions + 1,
            "reason": f"an id is longer than {_LONGEST_ID} characters",
            "raw_row": rows_as_json(raw.iloc[positions].reset_index(drop=True)),
        }
    )
    return CleanLeads(rows, report, refused)


_LONGEST_ID = 255
"""Maximum number of characters of an id in silver.stg_leads_parquet."""
