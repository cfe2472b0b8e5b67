"""Format the history of a lead as tables, each with a title, headings and rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl.reporting.explain import LeadHistory, RowVersion
from etl.reporting.raw_values import BronzeRow, CleanedValue, rules

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]


def tables(history: LeadHistory) -> Iterator[Table]:
    """Yield title, headings and rows of each table of a history. Most tables are included even if they have no rows."""
    yield "backend lead", ("column", "value"), [cell for row in history.backend for cell in row.items()]
    yield from _tables_of_versions(history.versions)
    yield (
        "appointments",
        ("id", "appointment", "status"),
        [(str(row["appointment_id"]), str(row["appointment_date"]), row["status"]) for row in history.appointments],
    )
    yield (
        "rejected rows",
        ("row", "day", "step", "reason", "content"),
        [
            (
                _file_and_line(row["_source_file"], row["_source_row"]),
                row["_partition_date"],
                str(row["step"]),
                row["reason"],
                row["raw_row"].get("line") or json.dumps(row["raw_row"], ensure_ascii=False),
            )
            for row in history.rejected_rows
        ],
    )
    yield "anomalies on these days", ("finding",), [(finding,) for finding in history.findings]


def _tables_of_versions(versions: Sequence[RowVersion]) -> Iterator[Table]:
    numbered = list(enumerate(versions, start=1))
    yield (
        "row versions",
        ("no.", "first day", "last day", "days", "first row", "last row"),
        [
            (number, each.first_day, each.last_day, each.day_count, _place(each.first_row), _place(each.last_row))
            for number, each in numbered
        ],
    )
    yield (
        "matches and grades",
        ("no.", "lead number", "matched by", "grade", "why"),
        [
            (number, _cell(each.content["lead_number"]), each.matched_by, each.grade, each.why)
            for number, each in numbered
        ],
    )
    if any(each.other_leads for each in versions):
        yield (
            "other leads with the same rows",
            ("no.", "lead", "matched by"),
            [(number, *match) for number, each in numbered for match in each.other_leads.items()],
        )
    yield "content, and what changed", ("no.", "column", "before", "value"), list(_changes(versions))
    cleaned: dict[CleanedValue, list[int]] = {}
    for number, each in numbered:
        for value in each.first_row.cleaned if each.first_row else ():
            cleaned.setdefault(value, []).append(number)
    yield (
        "raw and cleaned values of the first rows",
        ("no.", "column", "raw", "cleaned", "rule"),
        [
            (_ranges(numbers), value.column, _quoted(value.raw), _quoted(value.cleaned), value.rule)
            for value, numbers in cleaned.items()
        ],
    )
    if cleaned:
        used = dict.fromkeys(value.rule for value in cleaned)
        yield "cleaning rules", ("rule", "what it does"), [(rule, rules()[rule]) for rule in used]


def _ranges(numbers: Sequence[int]) -> str:
    """Join ascending numbers. Consecutive numbers become a range, as in `1-3`."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def summary(history: LeadHistory) -> str:
    """Return the grade of a lead, with day and lead number of the row of its latest snapshot that decides the grade.

    The text mentions an anomaly of `set` or `demo` on this day, and a rejected row of a later day with an id of the
    lead. For a backend lead without row versions, return `in no snapshot`; if gold does not grade the lead, an empty
    text.
    """
    if not history.current:
        return "in no snapshot" if history.backend and not history.versions else ""
    day, number = history.current["_partition_date"], _cell(history.current["lead_number"], null="NULL")
    rejected = max((row["latest_day"] or day for row in history.rejected_rows), default=day)
    later = f"; a rejected row of {rejected} has one of its ids: see below" if rejected > day else ""
    flags = ("set_", "demo_", "appt_date_without_set_", "sale_without_demo_")
    is_doubtful = any(each["day"] == day and each["metric"].startswith(flags) for each in history.anomalies)
    doubt = "; set or demo has an anomaly on this day: see below" * is_doubtful
    return f"{history.current['lead_quality_flag']} in its latest snapshot, {day} (lead number {number}){doubt}{later}"


def _place(row: BronzeRow | None) -> str | None:
    if row is None:
        return None
    return _file_and_line(row.file, row.line) + (f" (+{row.same_content})" if row.same_content else "")


def _file_and_line(key: str, line: int) -> str:
    """Return file name and line, as in `data_1.csv:12`, without the folder, which is the same for all files."""
    return f"{key.rpartition('/')[2]}:{line}"


def _changes(versions: Sequence[RowVersion]) -> Iterator[tuple[object, ...]]:
    """Yield number of the row version, column, old and new value.

    For the first row version of a lead number, yield all values except NULL; for later ones, only changed values.
    """
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
    """Return the text, in quotes if it is empty, or begins or ends with blanks. None becomes NULL."""
    return "NULL" if text is None else f"'{text}'" if text != text.strip() or not text else text
