"""Contents that mislead: read as meant, quarantined, or refused; never loaded wrong with exit code 0.

The folders of `../shared/cases` are inputs on which earlier versions fell short; the other inputs are of their classes.
"""

from __future__ import annotations

import random

import pytest
from file_runs import Row, assert_refused, csv_of, leads, put_case, put_leads, run
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse

from etl import step2_load_to_postgres
from etl.utils.utils_connection import Settings

# --- encoding ---------------------------------------------------------------------------------------------------------


def test_stray_byte_of_the_case_changes_its_line_alone(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    put_case(bucket, "01-stray-byte-in-utf8")
    assert run(settings).error is None
    assert warehouse.rows(
        "select _partition_date::text, dispo, count(*) from silver.stg_csv_snapshots group by 1, 2 order by 1"
    ) == [
        ("2024-10-01", "Não quer", 10),
        ("2024-10-02", "Não quer", 10),
        ("2024-10-03", "Não quer", 10),
    ]
    assert warehouse.value("select count(*) from gold.lead_status_history") == 10
    assert "data_2.csv: invalid UTF-8 bytes were decoded as cp1252, on 1 of its lines: 2" in caplog.text


@pytest.mark.parametrize(
    ("cities", "expected"),
    [
        # mostly UTF-8
        (["Bogotá".encode(), "Bogotá".encode(), "Bogotá".encode("cp1252")], ["Bogotá"] * 3),
        (["東京".encode(), b"caf\xe9 \x80", b"plain"], ["東京", "café €", "plain"]),
        (["東京".encode(), "é ".encode() + b"\xe9", b"plain"], ["東京", "é é", "plain"]),
        # partly UTF-8, partly cp1252
        ([b"M\xf3naco"] * 3 + ["Mónaco".encode()] * 2, ["Mónaco"] * 5),
        # mostly cp1252: a line that is valid UTF-8 keeps its encoding
        (["Bogotá".encode("cp1252"), "Málaga".encode("cp1252"), "Cañon".encode()], ["Bogotá", "Málaga", "Cañon"]),
        ([b"plain", "José ".encode() + b"\xe9", b"plain"], ["plain", "José é", "plain"]),
        # wholly cp1252
        (["Bogotá".encode("cp1252"), "Málaga".encode("cp1252"), b"plain"], ["Bogotá", "Málaga", "plain"]),
    ],
)
def test_encoding_is_decided_per_line(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, cities: list[bytes], expected: list[str]
) -> None:
    rows = leads(len(cities))
    for n, row in enumerate(rows):
        row["CITY"] = f"city {n}"
    content = csv_of(rows)
    for n, city in enumerate(cities):
        content = content.replace(f"city {n}".encode(), city)
    bucket.put("SFTP/data_1.csv", content)
    put_leads(bucket)
    assert run(settings).error is None
    assert warehouse.rows("select city from silver.stg_csv_snapshots order by lead_number") == [
        (city,) for city in expected
    ]


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_of_the_case_saved_by_excel_are_kept_or_warned_of(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    put_case(bucket, "02-excel-saved-dates-all-null")
    report = run(settings)
    assert report.error is None
    assert warehouse.rows(
        "select _partition_date::text, count(entry_date), count(appt_date), count(appt_time), count(zip) "
        "from silver.stg_csv_snapshots group by 1 order by 1"
    ) == [("2024-10-01", 10, 10, 10, 10), ("2024-10-02", 10, 10, 10, 0), ("2024-10-03", 10, 10, 10, 10)]
    copy, warning = report.warnings
    assert "SFTP/data_3.csv has the same content as SFTP/data_1.csv" in copy
    assert "zip of 2024-10-02: 10 of 10 values are not valid, such as '2139'" in warning
    assert warehouse.value("select checks ->> 1 from meta.pipeline_runs") == warning


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ({"ENTRYDATE": "45566"}, "entry_date of 2024-10-01: 5 of 5 values are not valid, such as '45566'"),
        ({"Appt Date": "10/01/24"}, "appt_date of 2024-10-01: 5 of 5 values are not valid, such as '10/01/24'"),
        ({"ZIP": "T5J 3S4"}, "zip of 2024-10-01: 5 of 5 values are not valid, such as 'T5J 3S4'"),
        ({"STATE": "Nevada"}, "state of 2024-10-01: 5 of 5 values are not valid, such as 'Nevada'"),
    ],
)
def test_column_that_cleaning_empties_is_named(settings: Settings, bucket: Bucket, cells: Row, named: str) -> None:
    bucket.put_snapshot(1, leads(5, **cells))
    put_leads(bucket)
    report = run(settings)
    assert report.error is None
    assert [named in warning for warning in report.warnings] == [True]
    again = run(settings)
    assert [named in warning for warning in again.warnings] == [True], "until the file is corrected"
    bucket.put_snapshot(1, leads(5))
    assert run(settings).warnings == []


def test_dates_that_are_day_first_are_named(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    """10/12/2024 is loaded as 12 October, because nothing shows that this cell is day first."""
    bucket.put_snapshot(1, [*leads(3, ENTRYDATE="25/10/2024"), {"LEADNUMBER": "4", "ENTRYDATE": "10/12/2024"}])
    put_leads(bucket)
    report = run(settings)
    assert report.error is None
    assert (
        "entry_date of 2024-10-01: 3 of 4 values are not valid, such as '25/10/2024'. The day comes first: day and "
        "month of other dates may be swapped"
    ) in "".join(map(str, report.warnings))
    assert warehouse.value("select max(entry_date)::text from silver.stg_csv_snapshots") == "2024-10-12"


def test_few_values_that_become_null_are_no_warning(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, [*leads(39), {"LEADNUMBER": "40", "ZIP": "2139"}])
    put_leads(bucket)
    assert run(settings).warnings == []
    nulled = warehouse.value(
        "select facts -> 'nulled' -> 'zip' from meta.table_loads where table_name = 'silver.stg_csv_data_01'"
    )
    assert nulled == {"values": 40, "nulled": 1, "samples": ["'2139'"]}


def test_numbers_and_flags_that_went_through_a_float_are_values(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    bucket.put_snapshot(
        1, leads(1, ZIP="89101.0", Set="1.0", Demo="TRUE") + leads(1, LEADNUMBER="12345.0", ZIP="89102", Set="FALSE")
    )
    put_leads(bucket)
    assert run(settings).error is None
    assert warehouse.rows("select lead_number, zip, set, demo from silver.stg_csv_snapshots order by 1") == [
        (1, "89101", 1, 1),
        (12345, "89102", 0, 0),
    ]


def test_day_with_more_rejected_rows_than_usual_is_reported(settings: Settings, bucket: Bucket) -> None:
    for day in range(1, 7):
        bucket.put_snapshot(day, leads(400))
    bucket.put_snapshot(7, [*leads(400), *leads(12, Set="maybe")])
    put_leads(bucket)
    report = run(settings)
    assert report.error is None, "12 of 412 rows are fewer than MAX_REJECT_RATIO"
    assert "rejected_share is 2.9 %, expected 0.0 %: 2024-10-07" in "".join(map(str, report.warnings))


# --- rows that are no leads -------------------------------------------------------------------------------------------


def test_footer_of_the_case_is_quarantined(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    put_case(bucket, "06-totals-and-footer-rows")
    assert run(settings).error is None
    assert warehouse.value("select count(*) from gold.lead_quality_matching where lead_number is null") == 0
    assert warehouse.rows("select _source_row::int, raw_row ->> 'ENTRYDATE' from silver.rejected_rows order by 1") == [
        (12, "All Leads"),
        (13, "Copyright (c) example"),
        (14, "Generated By: someone 10/2/2024"),
        (15, "TOTAL: 10"),
    ]


@pytest.mark.parametrize(
    "footer", ["TOTAL: 5", "TOTAL: 5,,", ",,,,,,,,,,,", ",,,,Exported by Jo,,,,,,,", '"Copyright CRM, Inc., 2024"']
)
def test_footer_in_any_shape_is_quarantined(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, footer: str
) -> None:
    bucket.put("SFTP/data_1.csv", csv_of(leads(5)) + f"{footer}\n".encode() * 2)
    put_leads(bucket)
    assert run(settings).error is None
    assert warehouse.value("select count(*) from silver.rejected_rows") == 2
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 5


def test_file_of_rows_without_ids_is_refused(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(5, LEADNUMBER="", email_hash="", phone_hash=""))
    assert_refused(run(settings), "5 of its 5 records (100.00%) cannot be loaded", "have no value")


def test_file_of_blank_rows_is_refused(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of(leads(2)) + b",,,,,,,,,,,\n" * 3)
    assert_refused(
        run(settings), "3 of its 5 records (60.00%) cannot be loaded, more than MAX_REJECT_RATIO=0.05: blank row (3)"
    )


@pytest.mark.parametrize(
    "line",
    [";".join(["x"] * len(HEADER)), "\t".join(["x"] * len(HEADER)), "<p>Internal Server Error</p>"],
    ids=["semicolons", "tabs", "HTML"],
)
def test_file_with_many_lines_of_another_kind_is_refused(settings: Settings, bucket: Bucket, line: str) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of(leads(60)) + f"{line}\n".encode() * 40)
    assert_refused(run(settings), "40 of its 100 records (40.00%) cannot be loaded", "For example, line 62, ")


def test_header_with_an_error_page_is_refused(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of([]) + b"<html>\n<p>500</p>\n</html>\n")
    assert_refused(run(settings), "3 of its 3 records (100.00%) cannot be loaded")


def test_lines_of_empty_quotes_are_blank_rows(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of(leads(60)) + b'""\n' * 12)
    assert run(settings).error is None


def test_more_than_ten_footers_count_as_rejected(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of(leads(60)) + b"Total: 60\n" * 10)
    assert run(settings).error is None
    bucket.put("SFTP/data_1.csv", csv_of(leads(60)) + b"Total: 60\n" * 11)
    assert_refused(run(settings), "11 of its 71 records (15.49%) cannot be loaded", "only one cell has a value (11)")


# --- files that are another file, too ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("layout", ["same", "wider", "reordered", "padded", "quoted", "lower", "wider lower"])
def test_file_with_another_one_appended_is_refused(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, layout: str, mark: bytes
) -> None:
    put_leads(bucket)
    layouts = {"wider": (*HEADER, "location"), "reordered": (*HEADER[:2], *reversed(HEADER[2:]))}
    columns = layouts.get(layout.removesuffix(" lower"), HEADER)
    quote = {"padded": " {}\u200b", "quoted": '"{}"'}.get(layout, "{}")
    row = [ORDINARY_ROW.get(name, "") for name in columns]
    names = [quote.format(name.lower() if layout.endswith("lower") else name) for name in columns]
    appended = "".join(",".join(line) + "\n" for line in (names, row)).encode()
    bucket.put("SFTP/data_1.csv", csv_of(leads(40)) + mark + appended)
    assert_refused(run(settings), "SFTP/data_1.csv: line 42 repeats the header")
    assert warehouse.value("select count(*) from bronze.csv_snapshots") == 0


@pytest.mark.parametrize("times", [2, 3])
def test_file_with_every_row_twice_is_refused(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, times: int
) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(20))
    bucket.put_snapshot(
        2, [*leads(10) * (times - 1), *({**row, "LEADNUMBER": f"{n}.0"} for n, row in enumerate(leads(10), 1))]
    )
    assert_refused(
        run(settings),
        "SFTP/data_2.csv: 10 of 10 lead numbers (100.00%) occur more than once",
        "on 2024-10-01, 0.00% did",
    )
    bucket.put_snapshot(2, leads(20))
    assert run(settings).error is None
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 40


def test_source_that_always_repeats_lead_numbers_is_loaded(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(10) * 2)
    assert run(settings).error is None
    bucket.put_snapshot(2, leads(10) * 2)
    bucket.put_snapshot(3, leads(10) * 2)
    assert run(settings).error is None
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots") == 60


@pytest.mark.parametrize("number", ["12345678901234567", "18446744073709551615", "1e300"])
def test_lead_number_of_any_size_in_a_later_chunk_is_counted(
    settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(step2_load_to_postgres, "CHUNK_SIZE", 1000)
    rows = leads(40)
    rows[0] = dict.fromkeys(HEADER, "-----")
    rows[-1]["LEADNUMBER"] = number
    put_leads(bucket)
    bucket.put_snapshot(1, rows)
    report = run(settings.model_copy(update={"max_reject_ratio": 0.1}))
    assert report.error is None
    assert report.steps[2].result.rejected == {"LEADNUMBER is not a 32-bit integer": 1}


def test_lead_number_that_is_too_long_for_an_index_rejects_its_row_alone(settings: Settings, bucket: Bucket) -> None:
    """As when a quote that is missing makes one cell of many lines; random digits, as repeated ones are compressed."""
    put_leads(bucket)
    text = "".join(random.Random("lead number").choices("0123456789abcdef", k=20_000))
    bucket.put("SFTP/data_1.csv", csv_of([*leads(40), *leads(1, LEADNUMBER=text)]))
    report = run(settings)
    assert report.error is None
    assert Warehouse(settings).value("select count(*) from gold.lead_quality_matching") == 40


def test_day_with_few_matches_by_one_hash_is_reported(settings: Settings, bucket: Bucket) -> None:
    bucket.put_snapshot(1, leads(60))
    bucket.put_leads([(f"lead {n}", f"p{n}", f"salted e{n}") for n in range(1, 61)])
    (finding,) = run(settings).warnings
    assert ". 2024-10-01: 0 matches by e-mail for 60 hashes → " in finding
    for email_hash in ("", "e1"):
        shared = [(f"{kind} {n}", f"p{n}", f"{kind} e{n}") for kind in "ab" for n in range(1, 61)]
        bucket.put_leads([*shared, ("lead", "p", "e1")])
        bucket.put_snapshot(1, leads(60, email_hash=email_hash))
        assert "matches by" not in "".join(run(settings).warnings)


@pytest.mark.parametrize(("rows", "matches", "is_reported"), [(50, 4, True), (50, 5, False), (49, 0, False)])
@pytest.mark.parametrize("side", ["e-mail", "phone"])
def test_few_matches_by_one_hash_are_reported_from_50_hashes_on(
    settings: Settings, bucket: Bucket, side: str, rows: int, matches: int, *, is_reported: bool
) -> None:
    bucket.put_snapshot(1, leads(rows))
    salt = ["" if number <= matches else "salted " for number in range(1, rows + 1)]
    phones, emails = (salt, [""] * rows) if side == "phone" else ([""] * rows, salt)
    bucket.put_leads([(f"lead {n}", f"{phones[n - 1]}p{n}", f"{emails[n - 1]}e{n}") for n in range(1, rows + 1)])
    findings = "".join(run(settings).warnings)
    assert (f"{matches} matches by {side} for {rows} hashes" in findings) == is_reported
    assert ("matches by" in findings) == is_reported


def test_leads_with_dashes_in_a_cell_are_reported_or_refused(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket, 60)
    bucket.put_snapshot(1, leads(60))
    bucket.put_snapshot(2, [*leads(40), *leads(20, CITY="-----")])
    (finding,) = run(settings).warnings
    assert ". 2024-10-02: 20 rows with a cell of five dashes were dropped → if these rows are leads" in finding
    bucket.put_snapshot(3, [*leads(10), *leads(50, CITY=" -----")])
    assert_refused(run(settings), "SFTP/data_3.csv: 10 valid rows, down from 40 on 2024-10-02", "MAX_ROW_DROP")
    bucket.put_snapshot(3, [*leads(40), *leads(30, CITY="-----")])
    strict = settings.model_copy(update={"max_row_drop": 0, "max_row_growth": 0, "max_repeated_leads": 1})
    assert run(strict).error is None


def test_blank_rows_are_not_compared_with_the_day_before(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    for number in (1, 2):
        bucket.put(f"SFTP/data_{number}.csv", csv_of(leads(60, ZIP=f"0000{number}")) + b",,,,,,,,,,,\n" * 55)
    assert run(settings).error is None
    bucket.put_snapshot(3, leads(55))
    assert run(settings).error is None
    bucket.put("SFTP/data_4.csv", csv_of(leads(60)) + b",,,,,,,,,,,\n" * 60)
    assert run(settings).error is None
    bucket.put("SFTP/data_5.csv", csv_of(leads(20)) + b",,,,,,,,,,,\n" * 20)
    assert_refused(run(settings), "SFTP/data_5.csv: 20 valid rows, down from 60 on 2024-10-04", "MAX_ROW_DROP")


def test_refusal_names_reasons_without_footers(
    settings: Settings, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", csv_of(leads(100)) + b",,,,,,,,,,,\n" * 20 + b"x,y\n" * 8 + b"x,y,z\n")
    reasons = "too few fields: 2 instead of 12 (8), too few fields: 3 instead of 12 (1). For example, line 122, too few"
    share = "9 of its 109 records (8.26%; without 20 blank rows and footers)"
    assert_refused(run(settings), f"{share} cannot be loaded, more than MAX_REJECT_RATIO=0.05: {reasons}")
    assert "see silver.rejected_rows" not in caplog.text, "rejected rows of refused files are not kept"


def test_refusal_shows_the_invalid_value_first(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(10, LEADNUMBER="\u200b12", CITY="Reno / Sparks", **{"Job Status": "x" * 101}))
    job_status = f"JOB_STATUS '{'x' * 80}… (101 characters)'"
    reasons = "LEADNUMBER is not a 32-bit integer; job_status is longer than 100 characters"
    values = f"LEADNUMBER '\\u200b12', {job_status}, ENTRYDATE '02/05/2023'"
    assert_refused(run(settings), f"For example, line 2, {reasons}: {values}", ", CITY 'Reno / Sparks', ")


def test_day_whose_rows_are_all_invalid_is_refused_at_any_ratio(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(60))
    bucket.put_snapshot(2, leads(60, Set="No"))
    report = run(settings.model_copy(update={"max_reject_ratio": 1.0}))
    assert_refused(report, "SFTP/data_2.csv: 0 valid rows, down from 60", "MAX_ROW_DROP")
