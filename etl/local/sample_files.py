"""Write a population as the files that the CRM and the backend export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from etl.local import sample_shape as shape
from etl.local.sample_population import IntArray, Population

CSV_FOLDER = "SFTP"
PARQUET_FOLDER = "parquet"
PARQUET_NAME = "leads.parquet"


def write_snapshots(population: Population, days: int, folder: Path) -> int:
    """Write the CSV files of days 1 to `days`. Returns the number of their rows, including separators."""
    folder.mkdir()
    rows = 0
    for day in range(1, days + 1):
        layout = [layout for layout in shape.LAYOUTS if layout.first_file <= day][-1]
        columns = _snapshot(population, day, layout)
        header = layout.header.split(",")
        table = pa.table([columns[name] for name in header], names=header)
        with (folder / f"data_{day}.csv").open("wb") as file:
            file.write(f"{layout.header}\n".encode())
            if layout.separator:
                file.write(f"{','.join([shape.SEPARATOR] * len(header))}\n".encode())
            pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=False, quoting_style="none"))
        rows += table.num_rows + layout.separator
    return rows


def _snapshot(population: Population, day: int, layout: shape.Layout) -> dict[str, pa.Array]:
    """Return all columns that a file of this day can have, by their names in the header."""
    present = (population.arrival_day <= day) & (day < population.departure_day)
    present &= (day < population.gap_day) | (population.return_day <= day)
    rows = population.order[present[population.order]]
    columns = dict(zip(population.fixed.column_names, population.fixed.take(rows).columns, strict=True))
    columns["CityName"] = columns["CITY"]
    if not layout.state_given:
        columns["STATE"] = pa.nulls(len(rows), pa.string())
    columns |= _statuses(population, rows, day, layout)
    return columns | SAVED_BY[day](columns) if day in SAVED_BY else columns


def _statuses(population: Population, rows: IntArray, day: int, layout: shape.Layout) -> dict[str, pa.Array]:
    """Return the columns whose values change from day to day."""
    fates = population.fates
    dispos = [outcome.dispo for outcome in shape.outcomes()]
    flags = [(final.booked, final.set, final.demo, final.dispo == shape.SOLD) for final in shape.outcomes()]
    booked, final_set, final_demo, final_sale = np.array(flags, dtype=bool).T
    outcome = fates.outcome[rows]
    decided = fates.outcome_day[rows] <= day
    pending = booked[outcome] & (fates.booking_day[rows] <= day) & ~decided
    demo = decided & final_demo[outcome]
    is_set = pending | (decided & final_set[outcome])

    untouched, appointment_set, confirmed = range(len(dispos), len(dispos) + 3)
    not_decided = np.where(fates.outcome_day[rows] - shape.CONFIRMED_DAYS <= day, confirmed, appointment_set)
    dispo = np.where(decided, outcome, np.where(pending, not_decided, untouched))
    appointment = np.where(fates.move_day[rows] <= day, fates.appointment[rows], fates.first_appointment[rows])

    sold = decided & final_sale[outcome]
    steps = np.array([len(statuses) for statuses in shape.JOB_LADDERS])
    ladder = fates.ladder[rows]
    step = np.minimum((day - fates.outcome_day[rows]) // shape.DAYS_PER_JOB_STEP, steps[ladder] - 1)
    job_status = (np.cumsum(steps) - steps)[ladder] + step
    job_steps = [status for statuses in shape.JOB_LADDERS for status in statuses]
    return {
        "Set": pa.array(["0", "1"]).take((is_set & layout.set_given).astype(np.int8)),
        "Demo": pa.array(layout.demo_words).take(demo.astype(np.int8)),
        "Dispo": pa.array([*dispos, shape.UNTOUCHED, shape.BOOKED, shape.CONFIRMED]).take(dispo),
        "Appt Date": population.appointments.take(pa.array(appointment, mask=~is_set)),
        "Job Status": pa.array(job_steps).take(pa.array(job_status, mask=~sold)),
    }


def _with_numbers_as_floats(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return lead numbers and ZIPs as a script writes floats, as in `400001.0`. ZIPs that begin with 0 remain text."""
    return {
        name: pc.replace_substring_regex(columns[name].cast(pa.string()), r"^([1-9][0-9]*)$", r"\1.0")
        for name in ("LEADNUMBER", "ZIP")
    }


def _as_spreadsheets_write(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return dates and flags as spreadsheets write them. ZIP remains text, so that `02139` keeps its zero."""
    entry_date, appointment = (
        pc.replace_substring_regex(columns[name], r"(^|/)0", r"\1") for name in ("ENTRYDATE", "Appt Date")
    )
    for time in shape.APPOINTMENT_TIMES:
        appointment = pc.replace_substring_regex(appointment, rf" +{time}$", f" {_on_24_hours(time)}")
    return {"ENTRYDATE": entry_date, "Appt Date": appointment, "Demo": pc.utf8_upper(columns["Demo"])}


def _on_24_hours(time: str) -> str:
    """Return a time such as `1:00PM` as spreadsheets write it, as in `13:00`."""
    hour, minute = time[:-2].split(":")
    return f"{int(hour) % 12 + 12 * time.endswith('PM')}:{minute}"


SAVED_BY = {4: _with_numbers_as_floats, 14: _as_spreadsheets_write}
"""File number → function that formats values like the program with which the file was saved again before the upload.
Cleaning must give the same values as for the usual format."""


def write_leads(leads: pa.Table, folder: Path) -> int:
    """Write the backend's leads as parquet, with a few values and rows that cleaning must repair or drop.

    Returns the number of leads after cleaning.
    """
    folder.mkdir()
    count = len(leads)
    every = np.arange(1, 1 + shape.DIRTY_ROWS) * count // 8
    without_id = leads.slice(0, 1).set_column(0, "lead_UUID", pa.nulls(1, pa.string()))
    table = pa.concat_tables([leads, leads.take(every), without_id])

    # The last duplicate is in upper case: it is found only if rows are cleaned before duplicates are dropped.
    upper_case = np.isin(np.arange(len(table)), [*(every + 1)[:-1], count + shape.DIRTY_ROWS - 1])
    padded = np.isin(np.arange(len(table)), every + 2)
    email_hash, phone_hash = table["email_hash"], table["phone_hash"]
    email_hash = pc.if_else(upper_case, pc.utf8_upper(email_hash), email_hash)
    email_hash = pc.if_else(padded, pc.binary_join_element_wise(" ", email_hash, " ", ""), email_hash)
    phone_hash = pc.if_else(padded, pc.binary_join_element_wise("  ", phone_hash, ""), phone_hash)
    columns = {"lead_UUID": table["lead_UUID"], "phone_hash": phone_hash, "email_hash": email_hash}
    pq.write_table(pa.table(columns), folder / PARQUET_NAME)
    return count
