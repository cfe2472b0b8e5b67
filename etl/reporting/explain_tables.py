"""The history of a lead as tables: title, headings and rows of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl.reporting.explain import LeadHistory, RowVersion
from etl.reporting.raw_values import RULES, BronzeRow

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]


def tables(history: LeadHistory) -> Iterator[Table]:
    """Yield the tables of a history, for a terminal of 80 columns."""
    yield "backend lead", ("column", "value"), [cell for row in history.backend for cell in row.items()]
    yield from _tables_of_versions(history.versions)
    yield (
        "appointments",
        ("id", "appointment", "status"),
        [
            (str(row["appointment_id"]), f"{row['appointment_date']:%Y-%m-%d %H:%M}", row["status"])
            for row in history.appointments
        ],
    )
    yield (
        "rejected rows",
        ("row", "day", "step", "reason", "raw row"),
        [
            (f"{row['_source_file']}:{row['_source_row']}", *(row[name] for name in _REJECTED))
            for row in history.rejected_rows
        ],
    )
    yield "anomalies on these days", ("finding",), [(finding,) for finding in history.findings]


_REJECTED = ("_partition_date", "step", "reason", "raw_row")


def _tables_of_versions(versions: Sequence[RowVersion]) -> Iterator[Table]:
    numbered = list(enumerate(versions, start=1))
    yield (
        "row versions",
        ("no.", "first day", "last day", "days", "first row", "last row"),
        [
            (number, version.first_day, version.last_day, version.day_count, *map(_place, _ends(version)))
            for number, version in numbered
        ],
    )
    yield (
        "matches and grades",
        ("no.", "lead number", "matched by", "grade", "why", "also matches"),
        [
            (
                number,
                _cell(version.content["lead_number"]),
                version.matched_by,
                version.grade,
                version.why,
                ", ".join(f"{uuid} ({by})" for uuid, by in version.other_leads.items()),
            )
            for number, version in numbered
        ],
    )
    yield "content, and what changed", ("no.", "column", "before", "value"), list(_changes(versions))
    cleaned = [
        (number, cell.column, _quoted(cell.raw), _quoted(cell.cleaned), cell.rule)
        for number, version in numbered
        if version.first_row
        for cell in version.first_row.cleaned
    ]
    yield "raw and cleaned values of the first row", ("no.", "column", "raw", "cleaned", "rule"), cleaned
    if cleaned:
        used = dict.fromkeys(rule for *_, rule in cleaned)
        yield "rules (etl/utils/cell_rules.py)", ("rule", "what it does"), [(rule, RULES[rule]) for rule in used]


def headline(history: LeadHistory) -> str:
    """Return one line: which lead, its grade, when it was seen."""
    parts = [history.title]
    if history.current:
        parts.append(
            f"{history.current['lead_quality_flag']} in its latest snapshot, {history.current['_partition_date']}"
        )
    elif history.backend:
        parts.append("in no snapshot")
    return ": ".join(parts)


def _ends(version: RowVersion) -> tuple[BronzeRow | None, BronzeRow | None]:
    return version.first_row, version.last_row


def _place(row: BronzeRow | None) -> str | None:
    if row is None:
        return None
    return f"{row.file}:{row.line}" + (f" (+{row.same_content})" if row.same_content else "")


def _changes(versions: Sequence[RowVersion]) -> Iterator[tuple[object, ...]]:
    """Yield all values of the first version of each lead number, then those that differ from the version before."""
    before: Mapping[str, Any] = {}
    for number, version in enumerate(versions, start=1):
        is_first = not before or version.content["lead_number"] != before["lead_number"]
        for name, value in version.content.items():
            if is_first and value is not None:
                yield number, name, None, _cell(value)
            elif not is_first and value != before[name]:
                yield number, name, _cell(before[name], null="NULL"), _cell(value, null="NULL")
        before = version.content


def _cell(value: Any, null: str | None = None) -> str | None:
    return null if value is None else str(value).removesuffix(" 00:00:00")


def _quoted(text: str | None) -> str:
    """Show blanks of a text."""
    return "NULL" if text is None else f"'{text}'" if text != text.strip() or not text else text
