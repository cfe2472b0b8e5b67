"""Tables: numbers to the right, text to the left, and a CSV file that no spreadsheet executes."""

from __future__ import annotations

import base64

import pandas as pd

from etl.reporting.html_tables import csv_uri, formatted, render_template, table_of

ROWS = pd.DataFrame(
    {
        "day": pd.to_datetime(["2024-10-01", "2024-10-02"]),
        "lead_count": [1200, 3],
        "sale_rate": [0.00001, None],
        "zip": ["02139", "n/a"],
        "note": ["", None],
    }
)


def test_tables_format_percentages_thousands_dates_and_null() -> None:
    rows = pd.DataFrame(
        {
            "_partition_date": pd.to_datetime(["2024-10-01", "2024-10-02"]),
            "row_count": [1200, 3],
            "demo_rate": [0.5, None],
            "state": ["WA", None],
        }
    )
    shown = formatted(rows)
    assert list(shown.columns) == ["partition date", "row count", "demo rate", "state"]
    assert [tuple(row) for row in shown.to_numpy()] == [
        ("2024-10-01", "1,200", "50.0 %", "WA"),
        ("2024-10-02", "3", "", ""),
    ]


def test_numbers_are_aligned_to_the_right_and_text_to_the_left() -> None:
    table = table_of("Leads", ROWS, 100)
    assert dict(zip(table.headings, table.is_number, strict=True)) == {
        "day": False,
        "lead count": True,
        "sale rate": True,
        "zip": False,
        "note": False,
    }
    html = render_template("table.html.jinja", table=table)
    assert '<td style="text-align: right">1,200</td>' in html
    assert '<td style="text-align: left">2024-10-01</td>' in html
    assert '<td style="text-align: right">&lt; 0.1 %</td>' in html


def test_caption_states_how_many_rows_are_not_shown() -> None:
    assert table_of("Leads", ROWS, 1).caption == "Leads The first 1 of 2 rows."


def test_csv_has_values_as_they_are() -> None:
    assert text_of(csv_uri(ROWS)).splitlines() == [
        "day,lead_count,sale_rate,zip,note",
        "2024-10-01,1200,1e-05,02139,",
        "2024-10-02,3,,n/a,",
    ]


def test_csv_quotes_what_a_spreadsheet_would_execute() -> None:
    rows = pd.DataFrame({"dispo": ["=1+1", "@x", "Sale", None], "change": [-1.5, 2.0, None, 0.0]})
    assert text_of(csv_uri(rows)).splitlines() == ["dispo,change", "'=1+1,-1.5", "'@x,2.0", "Sale,", ",0.0"]


def text_of(uri: str) -> str:
    return base64.b64decode(uri.partition("base64,")[2]).decode("utf-8-sig")
