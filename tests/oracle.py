"""Derive the expected gold tables row by row from silver (specification §6 and §8), and compare them with the tables.

Reads silver and gold, and is independent of the code that builds gold.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Literal, NamedTuple

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs a query on the warehouse."""
Rows = Counter[tuple[Any, ...]]

MATCHING = "gold.lead_quality_matching"
LEADS = "gold.leads"
CURRENT = "gold.lead_quality_current"
APPOINTMENTS = "gold.appointments"
HISTORY = "gold.lead_status_history"

_CRM_COLUMNS = "lead_number email_hash phone_hash city state zip appt_date set demo dispo job_status location".split()
_MATCHING_COLUMNS = [
    "lead_uuid",
    *_CRM_COLUMNS,
    *"appointment_scheduled demo_scheduled email_match phone_match _extraction_date _partition_date".split(),
    *"conversion_rate lead_quality_flag".split(),
]
COLUMNS = {
    MATCHING: _MATCHING_COLUMNS,
    LEADS: ["lead_uuid", *_CRM_COLUMNS, "first_seen", "last_seen"],
    CURRENT: _MATCHING_COLUMNS,
    APPOINTMENTS: ["lead_uuid", "appointment_date", "status"],
    HISTORY: "lead_uuid lead_number dispo job_status set demo appt_date valid_from valid_to is_current".split(),
}
"""The columns that are compared. Ids of appointments are not derived from silver: see `AppointmentIds`."""


@dataclass(frozen=True)
class Rules:
    """Rules in which implementations may differ."""

    tie_breaker: Literal["_row_hash", "columns"] = "_row_hash"
    """Order of the rows of a lead and day with equal match and lead number: by smallest hash, or column by column."""
    permanent_ids: bool = True
    """An appointment that disappears and returns keeps its id."""
    removed_days: bool = True
    """A day that is removed from silver disappears from gold."""


LITERAL_JOIN = r"""
    with leads as (
        select
            lead_uuid,
            nullif(lower(btrim(email_hash, e' \t')), '') as email_key,
            nullif(lower(btrim(phone_hash, e' \t')), '') as phone_key
        from silver.stg_leads_parquet
    )

    select
        leads.lead_uuid,
        coalesce(lower(btrim(snapshots.email_hash, e' \t')) = leads.email_key, false) as email_match,
        coalesce(lower(btrim(snapshots.phone_hash, e' \t')) = leads.phone_key, false) as phone_match,
        snapshots.lead_number,
        snapshots.email_hash,
        snapshots.phone_hash,
        btrim(city, e' \t\n\r\u00a0') as city,
        state,
        zip,
        appt_date,
        appt_time,
        set,
        demo,
        btrim(dispo, e' \t\n\r\u00a0') as dispo,
        btrim(job_status, e' \t\n\r\u00a0') as job_status,
        location,
        snapshots._extraction_date,
        _partition_date,
        _row_hash
    from silver.stg_csv_snapshots as snapshots
    left join leads
        on
            lower(btrim(snapshots.email_hash, e' \t')) = leads.email_key
            or lower(btrim(snapshots.phone_hash, e' \t')) = leads.phone_key
"""
"""Grain: one row per snapshot row and lead that it matches; one with NULL lead_uuid when it matches none."""


class Match(NamedTuple):
    """A row of `LITERAL_JOIN`."""

    lead_uuid: str | None
    email_match: bool
    phone_match: bool
    lead_number: int | None
    email_hash: str | None
    phone_hash: str | None
    city: str | None
    state: str | None
    zip: str | None
    appt_date: datetime | None
    appt_time: time | None
    set: int | None
    demo: int | None
    dispo: str | None
    job_status: str | None
    location: str | None
    extraction_date: date
    day: date
    row_hash: int

    def rank(self, rules: Rules) -> tuple[Any, ...]:
        """Return the sort key among the rows of the lead on the day: the lowest wins."""
        content = self[4:16] if rules.tie_breaker == "columns" else (self.row_hash,)
        return (
            not (self.email_match and self.phone_match),
            not self.email_match,
            *_nulls_last(self.lead_number),
            *itertools.chain.from_iterable(map(_nulls_last, content)),
        )

    @property
    def crm_values(self) -> tuple[Any, ...]:
        return (*self[3:10], *self[11:16])

    @property
    def status(self) -> tuple[Any, ...]:
        return (self.dispo, self.job_status, self.set, self.demo, self.appt_date)

    @property
    def appointment(self) -> datetime | None:
        if self.appt_date is None:
            return None
        return datetime.combine(self.appt_date.date(), self.appt_time or time())

    @property
    def in_matching(self) -> tuple[Any, ...]:
        is_set, is_demo = self.set == 1, self.demo == 1
        flag = ("High Quality" if is_demo else "Medium Quality") if is_set else "Low Quality"
        return (
            self.lead_uuid,
            *self.crm_values,
            is_set,
            is_demo,
            self.email_match,
            self.phone_match,
            self.extraction_date,
            self.day,
            None,
            flag,
        )


def _nulls_last(value: Any) -> tuple[Any, ...]:
    return (value is None, 0 if value is None else value)


# --- Expected tables --------------------------------------------------------------------------------------------------


def expected_gold(query: Query, rules: Rules) -> dict[str, Rows]:
    """Derive all gold tables from the current rows of silver."""
    matches = [Match(*row) for row in query(LITERAL_JOIN)]
    uuids = {uuid for (uuid,) in query("select lead_uuid from silver.stg_leads_parquet")}
    # Worst first: in a dict, the last row of a day replaces all others.
    of_leads = sorted(
        (match for match in matches if match.lead_uuid), key=lambda match: match.rank(rules), reverse=True
    )
    of_leads.sort(key=lambda match: match.day)
    latest = {match.lead_uuid: match for match in of_leads}
    return {
        MATCHING: Counter(match.in_matching for match in matches),
        LEADS: _expected_leads(uuids, of_leads, latest),
        CURRENT: Counter(match.in_matching for match in latest.values()),
        APPOINTMENTS: _expected_appointments(of_leads),
        HISTORY: _expected_history(of_leads),
    }


def _expected_leads(uuids: set[str], of_leads: list[Match], latest: dict[str | None, Match]) -> Rows:
    first_seen: dict[str | None, date] = {}
    for match in of_leads:
        first_seen.setdefault(match.lead_uuid, match.day)
    never_seen = (None,) * (len(COLUMNS[LEADS]) - 1)
    return Counter(
        (uuid, *latest[uuid].crm_values, first_seen[uuid], latest[uuid].day) if uuid in latest else (uuid, *never_seen)
        for uuid in uuids
    )


def _expected_appointments(of_leads: list[Match]) -> Rows:
    status = {(match.lead_uuid, match.appointment): match.dispo for match in of_leads if match.appointment}
    return Counter((*key, dispo) for key, dispo in status.items())


def _expected_history(of_leads: list[Match]) -> Rows:
    days_of: dict[tuple[str | None, int | None], dict[date, Match]] = defaultdict(dict)
    for match in of_leads:
        days_of[match.lead_uuid, match.lead_number][match.day] = match
    periods: Rows = Counter()
    for key, days in days_of.items():
        winners = list(days.values())
        begins = [winners[0]] + [now for before, now in itertools.pairwise(winners) if now.status != before.status]
        ends = [match.day for match in begins[1:]] + [None]
        for begin, end in zip(begins, ends, strict=True):
            periods[(*key, *begin.status, begin.day, end, end is None)] += 1
    return periods


# --- Actual tables ----------------------------------------------------------------------------------------------------


def actual_gold(query: Query) -> dict[str, Rows]:
    """Read all gold tables; a table that does not exist counts as empty."""
    return {table: Counter(_rows(query, table, columns)) for table, columns in COLUMNS.items()}


def appointment_ids(query: Query) -> list[tuple[Any, ...]]:
    """Read `lead_uuid, appointment_date, appointment_id`."""
    return sorted(_rows(query, APPOINTMENTS, ["lead_uuid", "appointment_date", "appointment_id"]))


def _rows(query: Query, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    if query(f"select to_regclass('{table}')") == [(None,)]:
        return []
    return query(f"select {', '.join(columns)} from {table}")


def differences(actual: dict[str, Rows], expected: dict[str, Rows]) -> dict[str, str]:
    """Describe, for each table that differs, missing and unexpected rows."""
    return {
        table: "\n".join([*_listed("missing", expected[table] - rows), *_listed("unexpected", rows - expected[table])])
        for table, rows in actual.items()
        if rows != expected[table]
    }


def assert_gold_equals_oracle(query: Query) -> None:
    assert differences(actual_gold(query), expected_gold(query, Rules())) == {}


def _listed(label: str, rows: Rows, limit: int = 6) -> Iterable[str]:
    if rows:
        yield f"  {rows.total()} rows {label}"
    for row in sorted(rows, key=repr)[:limit]:
        values = ", ".join(str(value) if isinstance(value, date | time) else repr(value) for value in row)
        yield f"    {values}" + (f", {rows[row]} times" if rows[row] > 1 else "")


class AppointmentIds:
    """Ids of appointments over time: an id belongs to one lead and timestamp, and is assigned once."""

    def __init__(self, rules: Rules) -> None:
        self._permanent = rules.permanent_ids
        self._id_of: dict[tuple[str, datetime], int] = {}
        self._owner_of: dict[int, tuple[str, datetime]] = {}

    def violations(self, rows: Iterable[tuple[Any, ...]]) -> list[str]:
        """Compare the rows of `appointment_ids` with all earlier ones, and keep them."""
        found: list[str] = []
        now: dict[tuple[str, datetime], int] = {}
        for uuid, moment, number in rows:
            key = (uuid, moment)
            if number is None or number <= 0:
                found.append(f"{key} has the id {number}")
            if number in now.values():
                found.append(f"id {number} is duplicated")
            if self._id_of.get(key, number) != number:
                found.append(f"the id of {key} was {self._id_of[key]} and is {number}")
            if self._owner_of.get(number, key) != key:
                found.append(f"id {number} of {key} belonged to {self._owner_of[number]}")
            now[key] = number
        self._id_of = self._id_of | now if self._permanent else now
        self._owner_of |= {number: key for key, number in now.items()}
        return found
