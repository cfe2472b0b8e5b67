"""Read the history of a lead: `python main.py --explain LEAD`.

Everything is read in one read-only transaction. `_row_hash` links a row version to its rows in silver; `_source_row`
links a row in silver to its row in bronze, which contains the raw values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.reporting.raw_values import BronzeRow, BronzeRows, may_read_bronze, read_bronze_rows
from etl.utils.columns import CONTENT_COLUMNS, ROW_HASH
from etl.utils.errors import LeadNotFoundError, listed, shorten
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings
from etl.warehouse.anomalies import Anomaly, describe_findings
from etl.warehouse.gold_models import GRADE
from etl.warehouse.load_ledger import require_tables
from etl.warehouse.row_versions import COLUMNS
from etl.warehouse.sql_scripts import query_dicts, script_text
from etl.warehouse.tables import GOLD_ANOMALIES, GOLD_CURRENT, REJECTED_ROWS, ROW_CONTENTS, SILVER_LEADS
from etl.warehouse.transactions import read_only_transaction

MOST_LEADS = 10
"""Maximum number of leads to show if several share a hash or a lead number."""
MOST_VERSIONS = 50
"""Maximum number of row versions to show per lead."""
MOST_REJECTED = 20
"""Maximum number of rejected rows to show per lead."""
SHORTEST_ID_IN_LINE = 6
"""Minimum length of ids to search for in malformed lines. The cells of such lines have no column names, so a shorter
number may be a ZIP code, a flag or a part of a date."""


@dataclass(frozen=True)
class RowVersion:
    """A row version of the lead: one content over an uninterrupted range of snapshots."""

    first_day: date
    last_day: date
    day_count: int
    """Number of snapshots that contain the row version."""
    content: Mapping[str, Any]
    """Content columns of silver.row_contents → value."""
    matched_by: str
    """Hashes that match the lead: `e-mail`, `phone`, both, or `no hash`."""
    other_leads: Mapping[str, str]
    """Other backend leads that the same content matches → the hashes that match."""
    grade: str
    why: str
    """Values of the flags that determine the grade, as in `set 1, demo NULL`."""
    first_row: BronzeRow | None
    """Row of bronze on the first day; None if it cannot be traced to bronze, or bronze cannot be read."""
    last_row: BronzeRow | None
    """Row of bronze on the last day, or None."""


@dataclass(frozen=True)
class LeadHistory:
    """What the warehouse contains about a backend lead, an unmatched lead number, or an id in rejected rows only."""

    title: str
    backend: Sequence[Mapping[str, Any]] = ()
    """Rows of silver.stg_leads_parquet: several if the leads file repeats the UUID; empty without a backend lead."""
    current: Mapping[str, Any] = field(default_factory=dict)
    """Row of gold.lead_quality_current, empty if there is none: `lead_quality_flag lead_number _partition_date
    email_match phone_match`."""
    versions: Sequence[RowVersion] = ()
    """The first MOST_VERSIONS row versions, ordered by lead number and day."""
    appointments: Sequence[Mapping[str, Any]] = ()
    """Rows of gold.appointments: `appointment_id appointment_date status`."""
    rejected_rows: Sequence[Mapping[str, Any]] = ()
    """Rows of silver.rejected_rows: `_source_file _source_row _partition_date step reason raw_row latest_day`."""
    anomalies: Sequence[Mapping[str, Any]] = ()
    """Rows of gold.data_anomalies for the days of `versions`: the fields of `Anomaly`."""
    findings: Sequence[str] = ()
    """Descriptions of `anomalies`, one sentence per metric."""
    notes: Sequence[str] = ()
    """Sentences about data that is left out or could not be read."""


@dataclass(frozen=True)
class Explanation:
    """The histories of the leads to which LEAD may refer."""

    histories: Sequence[LeadHistory]
    left_out: int
    """Number of further leads; their histories were not read."""


class Match(NamedTuple):
    """A row of silver.version_matches: a content, and a backend lead that it matches; None if it matches no lead."""

    row_hash: int
    lead_uuid: str | None
    email_match: bool
    phone_match: bool

    def __str__(self) -> str:
        return ", ".join(["e-mail"] * self.email_match + ["phone"] * self.phone_match) or "no hash"


class Subject(NamedTuple):
    """A lead to explain: a backend lead or, with `lead_uuid` None, the contents of a lead number that match no lead."""

    lead_uuid: str | None
    matches: Sequence[Match]
    backend: Sequence[Mapping[str, Any]]
    """Rows of silver.stg_leads_parquet with this UUID."""


@retry_transient()
def explain(settings: Settings, lead: str) -> Explanation:
    """Return the histories of the first MOST_LEADS leads with this UUID, lead number, or hash of e-mail or phone.

    If there is no such lead, the only history consists of the rejected rows with this UUID, lead number, or hash.
    Transient errors are retried.

    Raises:
        LeadNotFoundError: there is no such lead, and no such rejected row.
        CheckFailedError: tables do not exist, because the pipeline has not created them yet.
        PostgresError: the warehouse cannot be read.
    """
    lead = lead.strip().encode(errors="replace").decode()
    with read_only_transaction(settings) as db:
        require_tables(db, SILVER_LEADS, ROW_CONTENTS, REJECTED_ROWS, created_by_step=1)
        require_tables(db, GOLD_CURRENT, GOLD_ANOMALIES, created_by_step=5)
        subjects = find_subjects(db, lead)
        histories = [_history(db, subject) for subject in subjects[:MOST_LEADS]]
        histories = histories or [_history_of_unmatched_text(db, lead)]
    return Explanation(histories, max(len(subjects) - MOST_LEADS, 0))


def find_subjects(db: Cursor, lead: str) -> list[Subject]:
    """Return the backend leads to which LEAD may refer and, per lead number, the contents that match no lead.

    LEAD is searched until something is found: first as the lead number of contents, then as the UUID or a hash of
    backend leads, then as a hash of contents. If contents are found, the backend leads are those that match them. Only
    the first MOST_LEADS backend leads have `matches`.
    """
    contents: dict[int, int | None] = {}
    if (number := _lead_number(lead)) is not None:
        contents = _contents(db, sql.SQL("lead_number = {}").format(sql.Literal(number)))
    backend = [] if contents else _backend_leads(db, _notations(lead), hash_=lead)
    if not (contents or backend):
        keys = sql.SQL("silver.match_key({}) in (silver.match_key(email_hash), silver.match_key(phone_hash))")
        contents = _contents(db, keys.format(sql.Literal(lead)))
    matches = _matches(db, _HAS_CONTENT, list(contents))
    if contents:
        backend = _backend_leads(db, sorted({match.lead_uuid for match in matches if match.lead_uuid}))
    by_lead: dict[str, list[Match]] = {row["lead_uuid"]: [] for row in backend}
    for match in _matches(db, sql.SQL("lead_uuid = any({}::text[])"), list(by_lead)[:MOST_LEADS]):
        by_lead[str(match.lead_uuid)].append(match)
    unmatched: dict[int | None, list[Match]] = {}
    for match in matches:
        if match.lead_uuid is None:
            unmatched.setdefault(contents[match.row_hash], []).append(match)
    return [
        *(Subject(uuid, own, [row for row in backend if row["lead_uuid"] == uuid]) for uuid, own in by_lead.items()),
        *(Subject(None, own, []) for own in unmatched.values()),
    ]


def _lead_number(lead: str) -> int | None:
    match = re.fullmatch(r"([+-]?[0-9]{1,10})(?:\.0+)?", lead)
    return int(match[1]) if match and -(2**31) <= int(match[1]) < 2**31 else None


def _notations(lead: str) -> list[str]:
    """Return the forms in which the warehouse may contain LEAD as an id: UUIDs in either case, numbers as integers."""
    number = _lead_number(lead)
    return [lead, lead.lower(), lead.upper(), *([] if number is None else [str(number)])]


def _contents(db: Cursor, condition: sql.Composable) -> dict[int, int | None]:
    """Return the contents of silver.row_contents that meet a condition: `_row_hash` → lead number."""
    db.execute(sql.SQL("select _row_hash, lead_number from silver.row_contents where {}").format(condition))
    return dict(db.fetchall())


def _matches(db: Cursor, condition: sql.SQL, values: Sequence[object]) -> list[Match]:
    if not values:
        return []
    query = sql.SQL("select _row_hash, lead_uuid, email_match, phone_match from silver.version_matches where {}")
    db.execute(query.format(condition.format(sql.Literal(list(values)))))
    return [Match(*row) for row in db.fetchall()]


def _history(db: Cursor, subject: Subject) -> LeadHistory:
    uuid = subject.lead_uuid
    matches = {match.row_hash: match for match in subject.matches}
    with_content = _HAS_CONTENT.format(sql.Literal(list(matches)))
    query = script_text("explain/row_versions.sql", condition=with_content, columns=COLUMNS, grade=script_text(GRADE))
    rows = query_dicts(db, query)
    notes = _unversioned_days(db)
    notes += [f"only the first {MOST_VERSIONS} of {len(rows):,} row versions are shown"] * (len(rows) > MOST_VERSIONS)
    numbers = sorted({row["lead_number"] for row in rows} - {None})
    hashes = {row[name] for row in [*subject.backend, *rows] for name in ("email_hash", "phone_hash")}
    found = _anomalies(db, rows)
    rows = rows[:MOST_VERSIONS]
    bronze = read_bronze_rows(db, rows) if may_read_bronze(db) else None
    if bronze is None:
        notes.append(
            "files, lines and raw values are left out: this role needs SELECT on bronze.csv_snapshots and "
            "meta.table_loads, and USAGE on their schemas"
        )
    elif lost := sum(
        any((row[day], row[ROW_HASH]) not in bronze for day in ("valid_from", "last_day")) for row in rows
    ):
        notes.append(
            f"{lost:,} of {len(rows):,} row versions cannot be traced to bronze: a run is active or incomplete, or a "
            "table was modified outside the pipeline. The next complete run repairs the tables"
        )
    others = [match for match in _matches(db, _HAS_CONTENT, list(matches)) if match.lead_uuid not in (uuid, None)]
    without_uuid = f"lead number {listed(map(str, numbers))}" if numbers else "lead without a number"
    rejected, rejected_note = _rejected_rows(db, [*filter(None, (uuid, *hashes)), *map(str, numbers)])
    return LeadHistory(
        title=f"lead {uuid}" if uuid else f"{without_uuid}, which matches no backend lead",
        backend=subject.backend,
        current=(query_dicts(db, _CURRENT, uuid) or [{}])[0],
        versions=[_version(row, matches[row[ROW_HASH]], others, bronze or {}) for row in rows],
        appointments=query_dicts(db, _APPOINTMENTS, uuid),
        rejected_rows=rejected,
        anomalies=[anomaly._asdict() for anomaly in found],
        findings=describe_findings(found),
        notes=[*notes, *rejected_note],
    )


_HAS_CONTENT = sql.SQL("_row_hash = any({}::bigint[])")
_CURRENT = """
select lead_quality_flag, lead_number, _partition_date, email_match, phone_match
from gold.lead_quality_current where lead_uuid = %s
"""
_APPOINTMENTS = """
select appointment_id, appointment_date, status from gold.appointments where lead_uuid = %s order by appointment_date
"""


def _history_of_unmatched_text(db: Cursor, lead: str) -> LeadHistory:
    """Return the first MOST_REJECTED rejected rows whose UUID, lead number or hash is LEAD, as a history.

    In malformed lines, any cell may be LEAD, but only if it has at least SHORTEST_ID_IN_LINE characters.
    """
    (rejected, notes), unversioned = _rejected_rows(db, _notations(lead)), _unversioned_days(db)
    if not rejected:
        raise LeadNotFoundError(
            f"no lead {shorten(lead)}: no row of silver has this lead UUID, lead number, or hash, and no rejected row "
            f"was found with it{'; '.join(['', *unversioned])}",
            hint="use a lead UUID, lead number or hash from gold.leads or gold.lead_quality_matching; "
            "python main.py --dry-run (in the demo: --demo --dry-run) lists files that are not loaded yet",
        )
    return LeadHistory(f"{lead}: only in rejected rows", rejected_rows=rejected, notes=[*unversioned, *notes])


def _unversioned_days(db: Cursor) -> list[str]:
    """Return a note, as a list, if days of silver have no row versions, as in a full refresh; else an empty list."""
    db.execute(
        "select (select count(*) from pg_inherits where inhparent = 'silver.stg_csv_snapshots'::regclass) "
        "- (select count(*) from silver.versioned_days)"
    )
    (days,) = db.fetchone() or (0,)
    advice = "a run is active or was not completed; the next complete run adds them"
    return [f"days of silver without row versions: {days:,} ({advice})"] * (days > 0)


def _version(row: Mapping[str, Any], match: Match, others: Iterable[Match], bronze: BronzeRows) -> RowVersion:
    return RowVersion(
        first_day=row["valid_from"],
        last_day=row["last_day"],
        day_count=row["day_count"],
        content={name: row[name] for name in CONTENT_COLUMNS},
        matched_by=str(match),
        other_leads={str(other.lead_uuid): str(other) for other in others if other.row_hash == match.row_hash},
        grade=row["lead_quality_flag"],
        why=", ".join(f"{flag} {'NULL' if row[flag] is None else row[flag]}" for flag in ("set", "demo")),
        first_row=bronze.get((row["valid_from"], row[ROW_HASH])),
        last_row=bronze.get((row["last_day"], row[ROW_HASH])),
    )


def _backend_leads(db: Cursor, leads: Sequence[str], hash_: str | None = None) -> list[dict[str, Any]]:
    query = script_text("explain/backend_leads.sql", leads=sql.Literal(list(leads)), hash=sql.Literal(hash_))
    return query_dicts(db, query)


def _rejected_rows(db: Cursor, ids: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the first MOST_REJECTED rejected rows with one of these ids, and a list with a note if there are more."""
    ids = list(filter(None, ids))
    unmistakable = [value for value in ids if len(value) >= SHORTEST_ID_IN_LINE]
    query = script_text(
        "explain/rejected_rows.sql",
        ids=sql.Literal(ids),
        unmistakable_ids=sql.Literal(unmistakable),
        most=sql.Literal(MOST_REJECTED),
    )
    rows = query_dicts(db, query)
    found = max([row.pop("total") for row in rows], default=0)
    return rows, [f"only the first {len(rows)} of {found:,} rejected rows are shown"] * (found > len(rows))


def _anomalies(db: Cursor, versions: Iterable[Mapping[str, Any]]) -> list[Anomaly]:
    """Return the anomalies of the days on which a snapshot contains one of the row versions."""
    ranges = [(row["valid_from"], row["last_day"]) for row in versions]
    db.execute(
        "select _partition_date, metric, observed, expected, severity, message from gold.data_anomalies order by 1, 2"
    )
    anomalies = [Anomaly(*row) for row in db.fetchall()]
    return [anomaly for anomaly in anomalies if any(first <= anomaly.day <= last for first, last in ranges)]
