"""A changed day in another file format is loaded if the format is known, and refused by name if not."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import pytest
from fault_scenario import (
    CHANGED_DAY,
    GOLD,
    Scenario,
    assert_clear,
    assert_rerun_repairs_everything,
    put_version_b,
    rows_of_day,
    run,
)
from support import HEADER, LONG, ORDINARY_ROW, Bucket, Warehouse

from etl.utils.utils_connection import Settings

KEY = f"SFTP/data_{CHANGED_DAY}.csv"
DATE = f"2024-10-0{CHANGED_DAY}"


def file_of_b(header: Sequence[str] = HEADER, renamed: Mapping[str, str] | None = None, **style: object) -> str:
    """Write the changed day of version B with another header; `renamed` maps new names to names of `HEADER`."""
    sink = io.StringIO()
    writer = csv.writer(sink, **{"lineterminator": "\n", **style})
    names = [(renamed or {}).get(name, name) for name in header]
    full = [ORDINARY_ROW | {"location": "", "more": "m"} | row for row in rows_of_day(CHANGED_DAY, "Reno")]
    writer.writerow(header)
    writer.writerows([row[name] for name in names] for row in full)
    return sink.getvalue()


def selected(cases: Mapping[str, object], *in_short: str) -> list[str]:
    return list(cases) if LONG else list(in_short)


def header_with(*changes: tuple[str, str]) -> list[str]:
    """Return the header with some names replaced."""
    return [dict(changes).get(name, name) for name in HEADER]


# --- Drift that is accepted -------------------------------------------------------------------------------------------

ALIASES = {"CityName": "CITY", "APPT_DATE": "Appt Date", "JOB_STATUS": "Job Status"}
EQUIVALENT = {
    "reordered": file_of_b([*HEADER[7:], *reversed(HEADER[:7])]).encode(),
    "renamed": file_of_b(header_with(*((old, new) for new, old in ALIASES.items())), ALIASES).encode(),
    "with a location": file_of_b([*HEADER, "location"]).encode(),
    "all quoted": file_of_b(quoting=csv.QUOTE_ALL).encode(),
    "Windows line ends": file_of_b(lineterminator="\r\n").encode(),
    "old Mac line ends": file_of_b(lineterminator="\r").encode(),
    "no last line end": file_of_b().rstrip("\n").encode(),
    "byte order mark": file_of_b().encode("utf-8-sig"),
    "UTF-16": file_of_b().encode("utf-16"),
}


@pytest.mark.parametrize("name", selected(EQUIVALENT, "reordered", "renamed"))
def test_equivalent_file_formats_load_the_same_rows(scenario: Scenario, settings: Settings, name: str) -> None:
    Bucket(settings).put(KEY, EQUIVALENT[name])
    report = run(settings)
    assert report.error is None, report.error
    assert Warehouse(settings).contents() == scenario.b


def test_unknown_columns_are_loaded_into_extra_with_a_warning(
    scenario: Scenario, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Bucket(settings).put(KEY, file_of_b([*HEADER[:3], "more", *HEADER[3:]]).encode())
    report = run(settings)
    assert report.error is None, report.error
    (warning,) = (record.message for record in caplog.records if "unknown columns" in record.message)
    assert KEY in warning
    assert "more" in warning
    warehouse = Warehouse(settings)
    for table in ("silver.stg_csv_snapshots", GOLD):
        assert warehouse.fingerprint(table) == scenario.b[table]
    of_file = f"where _source_file = '{KEY}'"
    assert warehouse.rows(f"select distinct _extra from bronze.csv_snapshots {of_file}") == [({"more": "m"},)]
    (rejected,) = warehouse.rows(f"select raw_row::text from silver.rejected_rows {of_file}")
    assert "more" in rejected[0]


def test_repeated_header_is_refused(scenario: Scenario, settings: Settings) -> None:
    lines = file_of_b().splitlines(keepends=True)
    Bucket(settings).put(KEY, "".join([*lines[:10], lines[0], *lines[10:]]).encode())
    report = run(settings)
    assert report.exit_code == 2
    assert_clear(report.error, KEY, "line 11 repeats the header")
    assert Warehouse(settings).gold() == scenario.gold_of_a


# --- Drift that is refused --------------------------------------------------------------------------------------------

REFUSED = {
    "renamed to an unknown name": (
        file_of_b(header_with(("CITY", "Town")), {"Town": "CITY"}),
        "missing required columns: CITY",
    ),
    "another case": (
        file_of_b(header_with(("STATE", "State")), {"State": "STATE"}),
        "missing required columns: STATE",
    ),
    "missing": (
        file_of_b([name for name in HEADER if name not in ("ZIP", "Set")]),
        "missing required columns: ZIP, Set",
    ),
    "duplicated": (file_of_b([*HEADER, "ZIP"]), "duplicate columns: ZIP"),
    "duplicated under its other name": (file_of_b([*HEADER, "CityName"], ALIASES), "duplicate columns: CITY"),
    "with names in lower case": (
        file_of_b().replace(",".join(HEADER), ",".join(HEADER).lower()),
        "differ from known ones only in case, blanks or underscores: entrydate, leadnumber",
    ),
    "headerless": (file_of_b().partition("\n")[2], "is not a header, because it names none of ENTRYDATE, LEADNUMBER"),
    "a title before the header": ("Leads of today\n" + file_of_b(), "is not a header, because it names none of"),
    "semicolons": (file_of_b(delimiter=";"), "its columns are separated by semicolons, not by commas"),
    "a web page": ("<html>\n<body>Sign in</body>\n</html>\n", "is an HTML page, not a CSV file"),
}
HINTS = dict.fromkeys(("semicolons", "a web page"), "→ have the file exported and uploaded again as CSV")


@pytest.mark.parametrize("name", selected(REFUSED, "missing", "duplicated", "headerless"))
def test_file_with_an_unknown_layout_is_refused_by_name(scenario: Scenario, settings: Settings, name: str) -> None:
    text, fault = REFUSED[name]
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    bucket.put(KEY, text.encode())
    report = run(settings)
    assert report.exit_code == 2
    hint = HINTS.get(name, "→ request the file again")
    assert_clear(report.error, "step 2, ", f"s3://{bucket.name}/{KEY}", fault, hint)
    assert warehouse.gold() == scenario.gold_of_a
    assert cities_of_day(warehouse, "bronze.csv_snapshots") == [("Boise",)], "the day keeps its rows"

    assert run(settings, allow_partial=True).exit_code == 2
    assert cities_of_day(warehouse, GOLD) == [("Boise",)]
    assert warehouse.value(f"select count(*) from {GOLD} where _partition_date = '2024-10-05'") > 0, (
        "the new day is loaded"
    )

    put_version_b(bucket)
    assert_rerun_repairs_everything(scenario, settings)


WITHOUT_ROWS = {
    "empty": b"",
    "byte order mark": b"\xef\xbb\xbf",
    "line end": b"\r\n",
    "blanks": b"  \n\t\r\n",
    "header only": ",".join(HEADER).encode(),
}


@pytest.mark.parametrize("name", selected(WITHOUT_ROWS, "header only"))
def test_file_without_rows_leaves_its_day_unchanged(
    scenario: Scenario, settings: Settings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    bucket.put(KEY, WITHOUT_ROWS[name])
    assert run(settings).error is None
    warnings = (record.message for record in caplog.records if record.levelname == "WARNING")
    (warning,) = (message for message in warnings if KEY in message)
    assert f"{KEY} contains no leads" in warning
    assert cities_of_day(warehouse, GOLD) == [("Boise",)]
    put_version_b(bucket)
    assert_rerun_repairs_everything(scenario, settings)


def cities_of_day(warehouse: Warehouse, table: str) -> list[tuple[str]]:
    city = '"CITY"' if table.startswith("bronze") else "city"
    return warehouse.rows(
        f"select distinct {city} from {table} where _partition_date::text = '{DATE}' and {city} <> '-----'"
    )
