"""Days and leads of the benchmark data: known days, interpolated days, and the changes of a day."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from etl.utils.errors import PipelineError

KEY_COLUMNS = ("ENTRYDATE", "LEADNUMBER", "email_hash", "phone_hash")
"""First columns of every header."""
SEPARATOR = "-----"
STATUS_COLUMNS = ("Appt Date", "Set", "Demo", "Dispo", "Job Status")
"""Columns that change from day to day."""

# Properties of the days that are missing from the real files (specification §3).
DEMO_AS_WORDS = range(11, 21)
SET_BROKEN_FROM = 16
STATE_EMPTY_FROM = 21

GROWTH = 0.01
"""Share of the leads that `grown-leads` adds and `fewer-leads` omits."""

HASH = re.compile(r"[0-9a-f]{40}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Row = dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """File of one day: one row per lead number, in the order of the file, without the separator row."""

    number: int
    header: Sequence[str]
    has_separator: bool
    rows: Mapping[str, Row]

    @property
    def key(self) -> str:
        return f"SFTP/data_{self.number}.csv"

    @property
    def records(self) -> int:
        return len(self.rows) + self.has_separator


@dataclass(frozen=True)
class DailyChange:
    """Number of new, missing and changed rows, compared with the day before."""

    new: int
    gone: int
    changed: int


# --- days -------------------------------------------------------------------------------------------------------------


def read_snapshot(path: Path) -> Snapshot:
    """Read the file of one day.

    Raises:
        PipelineError: the file has an unexpected header, a repeated lead number, or more than one separator row.
    """
    number = int(path.stem.rpartition("_")[2])
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        records = [dict(zip(header, cells, strict=True)) for cells in reader]
    rows = {row["LEADNUMBER"].removesuffix(".0"): row for row in records if row["LEADNUMBER"] != SEPARATOR}
    separators = sum(row["LEADNUMBER"] == SEPARATOR for row in records)
    if tuple(header[:4]) != KEY_COLUMNS or len(rows) + separators != len(records) or separators > 1:
        raise PipelineError(
            f"{path} has an unexpected header, a repeated lead number, or more than one separator row",
            hint="use files as described in specification §3",
        )
    return Snapshot(number, header, bool(separators), rows)


def interpolate(earlier: Snapshot, later: Snapshot, number: int) -> Snapshot:
    """Return a day between two snapshots, in the format of the earlier one.

    Each lead number keeps its earlier row until its switch day, and has its later row from then on. If only one of the
    snapshots contains the lead number, the row disappears or appears on that day.
    """
    switched = {
        lead for lead in [*earlier.rows, *later.rows] if _switch_day(lead, earlier.number, later.number) <= number
    }
    rows = {}
    for lead in dict.fromkeys([*earlier.rows, *later.rows]):
        row = (later if lead in switched else earlier).rows.get(lead)
        if row is not None:
            rows[lead] = _formatted(row, earlier.header, number)
    return Snapshot(number, earlier.header, earlier.has_separator, rows)


def _switch_day(lead: str, earlier: int, later: int) -> int:
    """Return the day on which a lead number switches: after the earlier snapshot, at the latest on the later one."""
    return earlier + 1 + rank("switch", lead) % (later - earlier)


def _formatted(row: Row, header: Sequence[str], number: int) -> Row:
    """Convert the row of one day to the format of another day."""
    city = row.get("CITY", row.get("CityName", ""))
    location = row.get("location", f"{city} | {row['STATE']}")
    demo = row["Demo"].lower() in ("1", "true")
    cells = {
        **row,
        "CITY": city,
        "CityName": city,
        "location": location,
        "STATE": "" if number >= STATE_EMPTY_FROM else row["STATE"] or location.rpartition("| ")[2],
        "Set": "1" if row["Appt Date"] and number < SET_BROKEN_FROM else "0",
        "Demo": str(demo) if number in DEMO_AS_WORDS else str(int(demo)),
    }
    return {column: cells[column] for column in header}


def average_change(known: Sequence[Snapshot]) -> DailyChange:
    """Return the average number of changes per day between the known files."""
    new = gone = changed = 0
    for earlier, later in pairwise(known):
        new += len(later.rows.keys() - earlier.rows.keys())
        gone += len(earlier.rows.keys() - later.rows.keys())
        for lead in earlier.rows.keys() & later.rows.keys():
            one, other = earlier.rows[lead], later.rows[lead]
            # Set and Demo are excluded, because their format differs between files.
            changed += _comparable(one) != _comparable(other)
    days = known[-1].number - known[0].number
    return DailyChange(round(new / days), round(gone / days), round(changed / days))


def _comparable(row: Row) -> tuple[str, ...]:
    """Return the status in a format that does not depend on the file."""
    # Files saved by a spreadsheet have dates without leading zeros, and times on a 24-hour clock.
    date, _, time = row["Appt Date"].partition(" ")
    digits = "/".join(part.lstrip("0") for part in date.split("/"))
    hour, _, minute = time.strip().partition(":")
    if minute.endswith(("AM", "PM")):
        hour = str(int(hour) % 12 + 12 * minute.endswith("PM"))
    return digits, hour, minute[:2], row["Dispo"], row["Job Status"]


def vary(snapshot: Snapshot, change: DailyChange, *, number: int, first_new_lead: int) -> Snapshot:
    """Return the snapshot with new, missing and changed rows.

    A changed row gets the status of another row. A new row gets a new lead number and new hashes, and the other cells
    of an existing row.
    """
    order = sorted(snapshot.rows, key=lambda lead: (rank(f"vary {number}", lead), lead))
    gone = set(order[: change.gone])
    changed = order[change.gone : change.gone + change.changed]
    donors = order[change.gone + change.changed :]
    rows = {lead: row for lead, row in snapshot.rows.items() if lead not in gone}
    for position, lead in enumerate(changed):
        row = rows[lead]
        donor = next(rows[other] for other in donors[position:] if _status(rows[other]) != _status(row))
        rows[lead] = row | {column: donor[column] for column in STATUS_COLUMNS}
    for position in range(change.new):
        lead = str(first_new_lead + position)
        own = {name: sha1(f"new {name} {lead}") for name in ("email_hash", "phone_hash")}
        rows[lead] = rows[donors[position]] | own | {"LEADNUMBER": lead}
    return replace(snapshot, number=number, rows=rows)


def _status(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in STATUS_COLUMNS)


def rank(purpose: str, text: str) -> int:
    return int.from_bytes(hashlib.sha1(f"{purpose} {text}".encode(), usedforsecurity=False).digest()[:8])


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def snapshots(source: Path) -> tuple[list[Snapshot], DailyChange]:
    """Return all days from the first to the last known file, and the average daily change."""
    known = sorted(map(read_snapshot, source.glob("SFTP/data_*.csv")), key=lambda snapshot: snapshot.number)
    days = [
        interpolate(earlier, later, number) if number > earlier.number else earlier
        for earlier, later in pairwise(known)
        for number in range(earlier.number, later.number)
    ]
    return [*days, known[-1]], average_change(known)


# --- leads ------------------------------------------------------------------------------------------------------------


def new_leads(leads: pa.Table, new_rows: Sequence[Row]) -> pa.Table:
    """Return additional leads, 1 % of `leads`: those of the new rows, then some that match no row."""
    count = round(len(leads) * GROWTH)
    hashes = [(row["email_hash"], row["phone_hash"]) for row in new_rows[:count]]
    hashes += [(sha1(f"unseen email {n}"), sha1(f"unseen phone {n}")) for n in range(count - len(hashes))]
    is_uuid = UUID.fullmatch(next(filter(None, leads["lead_UUID"].to_pylist())))
    ids = [as_uuid(sha1(f"new lead {n}")) if is_uuid else sha1(f"new lead {n}") for n in range(count)]
    return pa.table(
        {"lead_UUID": ids, "phone_hash": [phone for _, phone in hashes], "email_hash": [email for email, _ in hashes]},
        schema=leads.schema,
    )


def without_late_leads(leads: pa.Table) -> pa.Table:
    """Return the leads without 1 % of them, chosen by a hash of their ids."""
    ids = leads["lead_UUID"].to_pylist()
    order = sorted(range(len(ids)), key=lambda position: rank("late", str(ids[position])))
    return leads.take(sorted(order[round(len(leads) * GROWTH) :]))


def as_uuid(digest: str) -> str:
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
