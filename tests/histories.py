"""Random histories of a bucket: new, late, corrected and removed days, changed leads, runs and kills.

A history is a list of operations, determined by its seed. Operations are plain data, so a part of a history is a
history, too: see `shrink_history.shrink`. Alphabets are small: rows compete, share hashes, disappear and return.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from support import HEADER

Row = dict[str, str]
"""Cells by column of the CSV file."""
Lead = tuple[str | None, str | None, str | None]
"""`lead_UUID, phone_hash, email_hash` of the parquet."""

FILE_HEADER = (*HEADER, "location")
MAX_DAYS = 12
LAST_NUMBER = 16
"""Highest file number: some days stay missing."""
KILLED_COMMITS = {1: 30, 6: 18}
"""Step → the latest commit, counted from its start, at which a run is killed. A run that ends earlier is not killed."""


# --- Operations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PutDay:
    """Upload a day's file, or replace it."""

    number: int
    rows: tuple[Row, ...]
    reason: str

    def __str__(self) -> str:
        return f"put day {self.number}: {self.reason}, {len(self.rows)} rows"


@dataclass(frozen=True)
class RemoveDay:
    """Drop a day from bronze, silver, the ledger and the bucket."""

    number: int
    keep_gold_load: bool
    """Keep the ledger row of the day's gold partition."""

    def __str__(self) -> str:
        return f"remove day {self.number}" + (", gold's ledger row stays" if self.keep_gold_load else "")


@dataclass(frozen=True)
class PutLeads:
    """Upload the parquet, or replace it."""

    rows: tuple[Lead, ...]
    reason: str

    def __str__(self) -> str:
        return f"put leads: {self.reason}, {len(self.rows)} rows"


@dataclass(frozen=True)
class Kill:
    """SIGKILL before or after the n-th commit since the start of a step, on any connection."""

    when: Literal["before", "after"]
    commit: int
    since_step: int

    def __str__(self) -> str:
        return f"killed {self.when} commit {self.commit} since step {self.since_step}"


@dataclass(frozen=True)
class Run:
    """Run all steps."""

    full_refresh: bool = False
    kill: Kill | None = None
    days_later: int = 0
    """Days by which the clock advances before the run: `_extraction_date` follows it."""

    def __str__(self) -> str:
        details = [
            "full refresh" if self.full_refresh else "",
            f"{self.days_later} day later" if self.days_later else "",
            str(self.kill or ""),
        ]
        return "run" + "".join(f", {detail}" for detail in details if detail)


Operation = PutDay | RemoveDay | PutLeads | Run


@dataclass(frozen=True)
class History:
    """Operations on an empty bucket and an empty warehouse."""

    seed: object
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        return "\n".join(f"{number:3}. {operation}" for number, operation in enumerate(self.operations, start=1))

    def as_code(self) -> str:
        """Return Python code of this history, rows included."""
        return f"History({self.seed!r}, (\n" + "".join(f"    {operation!r},\n" for operation in self.operations) + "))"


def random_history(seed: object, *, with_removed_days: bool = True) -> History:
    """Draw a history: first days and leads, then five to eight changes with runs in between."""
    draw = random.Random(f"history {seed}")
    bucket = _RandomBucket(draw)
    operations: list[Operation] = [bucket.first_leads()]
    operations += [bucket.new_day() for _ in range(draw.randrange(2, 6))]
    draw.shuffle(operations)
    operations += _random_runs(draw)
    for _ in range(draw.randrange(5, 9)):
        operations.append(bucket.change())
        if draw.random() < 0.5:
            operations += _random_runs(draw)
    if not with_removed_days:
        operations = [operation for operation in operations if not isinstance(operation, RemoveDay)]
    return History(seed, (*operations, Run()))


def _random_runs(draw: random.Random) -> list[Operation]:
    """Draw one run, or several of which all but the last are killed; the last may be missing."""
    runs: list[Operation] = []
    while draw.random() < 0.3:
        step = draw.choice((1, 6, 6, 6))
        kill = Kill(draw.choice(("before", "after")), draw.randrange(1, KILLED_COMMITS[step] + 1), since_step=step)
        runs.append(_random_run(draw, kill))
    if not runs or draw.random() < 0.7:
        runs.append(_random_run(draw))
    return runs


def _random_run(draw: random.Random, kill: Kill | None = None) -> Run:
    return Run(full_refresh=draw.random() < (0.2 if kill else 0.1), kill=kill, days_later=int(draw.random() < 0.3))


# --- Rows of snapshots ------------------------------------------------------------------------------------------------

NO_HASH = ("", "", " ", "nan")
SHARED_HASH = "x0"
"""Occurs in both hash columns of unrelated rows, as the hash of the empty value does in the real files."""
CELLS = {
    "ENTRYDATE": ("02/05/2023", "02/05/2023", "03/06/2023"),
    "CITY": ("Boise", "Boise", "Reno", ""),
    "STATE": ("ID", "ID", "NV", "nu"),
    "ZIP": ("83701", "83701", "89501", "0"),
    "Appt Date": ("", "", "12/13/2022  1:00PM", "12/13/2022  2:00PM", "12/14/2022", "01/02/2023  1:00PM", "13/45/2022"),
    "Set": ("0", "1", "1", ""),
    "Demo": ("0", "0", "1", "True", ""),
    "Dispo": ("Data", "Data", "Sale", ""),
    "Job Status": ("", "", "Open"),
    "location": ("Boise | ID", "Boise | ID", ""),
}
SEPARATOR_ROW = dict.fromkeys(FILE_HEADER, "-----")


class _RandomRows:
    """Draws rows of a few people, and keeps all drawn rows: they can return."""

    def __init__(self, draw: random.Random, people: int) -> None:
        self._draw = draw
        self._people = people
        self._seen: list[Row] = []

    def new(self) -> Row:
        person = self._draw.randrange(self._people)
        row = {name: self._draw.choice(values) for name, values in CELLS.items()}
        return self.remember(row | {name: self._identity(name, person) for name in IDENTITY})

    def changed(self, row: Row) -> Row:
        """Change one or two cells of a row."""
        for name in self._draw.sample((*CELLS, *IDENTITY), self._draw.choice((1, 1, 2))):
            person = self._draw.randrange(self._people)
            value = self._draw.choice(CELLS[name]) if name in CELLS else self._identity(name, person)
            row = row | {name: value}
        return self.remember(row)

    def steady(self, rows: Sequence[Row]) -> list[Row]:
        """Draw the day after a day with these rows: most stay; some disappear, change, return or are new."""
        draw = self._draw
        kept = [self.changed(row) if draw.random() < 0.1 else row for row in rows if draw.random() < 0.9]
        kept += draw.sample(self._seen, min(len(self._seen), draw.randrange(4)))
        kept += [self.new() for _ in range(draw.randrange(4))]
        return self.with_duplicates(kept)

    def with_duplicates(self, rows: list[Row]) -> list[Row]:
        """Add a few rows again: unchanged, with another entry date, or with the same lead number and other content."""
        draw = self._draw
        for row in draw.sample(rows, min(len(rows), draw.choice((0, 0, 1, 3)))):
            copies = (row, row | {"ENTRYDATE": "04/07/2023"}, self.changed(row) | {"LEADNUMBER": row["LEADNUMBER"]})
            rows = [*rows, draw.choice(copies)]
        draw.shuffle(rows)
        return rows[:30]

    def _identity(self, name: str, person: int) -> str:
        draw = self._draw
        if name == "LEADNUMBER":
            return draw.choice((str(person), str(person), f"{person}.0", str(person + 100), "7", ""))
        letter = name[0]
        other = draw.randrange(self._people)
        value = draw.choice((*[f"{letter}{person}"] * 4, f"{letter}{other}", SHARED_HASH, draw.choice(NO_HASH)))
        return draw.choice((value, value, value, value.upper(), f" {value} "))

    def remember(self, row: Row) -> Row:
        self._seen.append(row)
        return row


IDENTITY = ("LEADNUMBER", "email_hash", "phone_hash")


# --- Leads of the backend ---------------------------------------------------------------------------------------------


class _RandomLeads:
    """Draws versions of the parquet: leads that are new, deleted or changed, share hashes, or are duplicates."""

    def __init__(self, draw: random.Random, people: int) -> None:
        self._draw = draw
        self._people = people
        self._numbers = iter(range(people, 1000))
        self._versions: list[list[Lead]] = []

    def first(self) -> PutLeads:
        missing = self._draw.randrange(self._people)
        leads: list[Lead] = [(f"lead {n}", f"p{n}", f"e{n}") for n in range(self._people) if n != missing]
        return self._put(leads, "first")

    def change(self) -> PutLeads:
        leads = list(self._versions[-1])
        changes: dict[str, Callable[[list[Lead]], list[Lead]]] = {
            "added": lambda leads: [*leads, self._new()],
            "removed": lambda leads: self._draw.sample(leads, max(1, len(leads) - self._draw.randrange(1, 4))),
            "one hash changed": self._with_changed_hash,
            "one uuid twice": lambda leads: [*leads, self._with_other_hash(self._draw.choice(leads))],
            "padded hashes": lambda leads: [(uuid, f" {phone}", str(email).upper()) for uuid, phone, email in leads],
            "rows without ids": lambda leads: [*leads, ("lead x", None, "e1"), (None, "p1", "e1")],
            "other order": lambda leads: self._draw.sample(leads, len(leads)),
            "earlier version": lambda _: self._draw.choice(self._versions),
        }
        reasons = self._draw.sample(list(changes), self._draw.choice((1, 1, 2)))
        for reason in reasons:
            leads = changes[reason](leads)
        return self._put(leads, " and ".join(reasons))

    def _put(self, leads: list[Lead], reason: str) -> PutLeads:
        # Rows without an id and padded ids occur in this version of the file only.
        whole = [(uuid, str(phone).strip(), str(email).lower()) for uuid, phone, email in leads if uuid and phone]
        if not whole:  # such a file would be refused
            return PutLeads(tuple(self._versions[-1]), "uploaded again")
        self._versions.append([*whole])
        return PutLeads(tuple(leads), reason)

    def _new(self) -> Lead:
        number = next(self._numbers)
        return self._with_other_hash((f"lead {number}", f"p{number}", f"e{number}"))

    def _with_changed_hash(self, leads: list[Lead]) -> list[Lead]:
        at = self._draw.randrange(len(leads))
        return [*leads[:at], self._with_other_hash(leads[at]), *leads[at + 1 :]]

    def _with_other_hash(self, lead: Lead) -> Lead:
        """Give a lead the hash of another lead, an unknown one, or the shared one."""
        uuid, phone, email = lead
        other = self._draw.choice((self._draw.randrange(self._people), self._draw.randrange(self._people), 99))
        value = self._draw.choice(("phone", "phone", "email", "email", "shared"))
        if value == "phone":
            return uuid, f"p{other}", email
        return uuid, phone, f"e{other}" if value == "email" else SHARED_HASH


# --- The bucket -------------------------------------------------------------------------------------------------------


class _RandomBucket:
    """Draws changes that are possible for the current contents of the bucket."""

    def __init__(self, draw: random.Random) -> None:
        people = draw.randrange(4, 14)
        self._draw = draw
        self._rows = _RandomRows(draw, people)
        self._leads = _RandomLeads(draw, people)
        self._days: dict[int, list[Row]] = {}
        self._earlier_versions: dict[int, list[list[Row]]] = {}

    def first_leads(self) -> PutLeads:
        return self._leads.first()

    def change(self) -> Operation:
        kinds: dict[Callable[[], Operation], int] = {
            self.new_day: 4,
            self._late_day: 3,
            self._corrected_day: 6,
            self._copied_day: 2,
            self._earlier_day: 3,
            self._removed_day: 2,
            self._leads.change: 5,
        }
        (change,) = self._draw.choices(list(kinds), list(kinds.values()))
        return change()

    def new_day(self) -> Operation:
        latest = max(self._days, default=self._draw.randrange(3))
        number = min(latest + self._draw.choice((1, 1, 1, 2, 3)), LAST_NUMBER)
        if number in self._days or len(self._days) >= MAX_DAYS:
            return self._corrected_day()
        return self._put(number, self._day_after(number), "new")

    def _late_day(self) -> Operation:
        missing = [number for number in range(1, max(self._days)) if number not in self._days]
        if not missing or len(self._days) >= MAX_DAYS:
            return self.new_day()
        number = self._draw.choice(missing)
        if number in self._earlier_versions and self._draw.random() < 0.5:
            return self._put(number, self._draw.choice(self._earlier_versions[number]), "removed and back")
        return self._put(number, self._day_after(number), "late")

    def _corrected_day(self) -> Operation:
        number = self._draw.choice(list(self._days))
        rows = self._days[number]
        corrections: dict[str, Callable[[], list[Row]]] = {
            "other rows": self._random_day,
            "a few cells corrected": lambda: self._rows.steady(rows),
            "same rows in another order": lambda: self._draw.sample(rows, len(rows)),
            "uploaded again": lambda: rows,
            "shrunk": lambda: self._draw.sample(rows, min(len(rows), self._draw.randrange(1, 4))),
            "duplicates": lambda: self._rows.with_duplicates([*rows, *rows[:2]]),
            "separator only": lambda: [SEPARATOR_ROW],
        }
        (correction,) = self._draw.choices(list(corrections), (3, 5, 2, 1, 2, 2, 1))
        return self._put(number, corrections[correction](), correction)

    def _copied_day(self) -> Operation:
        source = self._draw.choice(list(self._days))
        number = self._draw.choice([min(max(self._days) + 1, LAST_NUMBER), *self._days])
        if number not in self._days and len(self._days) >= MAX_DAYS:
            return self._corrected_day()
        return self._put(number, self._days[source], f"the file of day {source}")

    def _earlier_day(self) -> Operation:
        changed = [number for number, versions in self._earlier_versions.items() if versions and number in self._days]
        if not changed:
            return self._corrected_day()
        number = self._draw.choice(changed)
        return self._put(number, self._draw.choice(self._earlier_versions[number]), "earlier version")

    def _removed_day(self) -> Operation:
        if len(self._days) < 2:
            return self.new_day()
        number = self._draw.choice(list(self._days))
        self._earlier_versions.setdefault(number, []).append(self._days.pop(number))
        return RemoveDay(number, keep_gold_load=self._draw.random() < 0.5)

    def _day_after(self, number: int) -> list[Row]:
        """Draw a day similar to the day before, and sometimes an unrelated one."""
        before = max((day for day in self._days if day < number), default=None)
        if before is None or self._draw.random() < 0.1:
            return self._random_day()
        return self._rows.steady(self._days[before])

    def _random_day(self) -> list[Row]:
        return self._rows.with_duplicates([self._rows.new() for _ in range(self._draw.randrange(5, 23))])

    def _put(self, number: int, rows: list[Row], reason: str) -> PutDay:
        if number in self._days:
            self._earlier_versions.setdefault(number, []).append(self._days[number])
        self._days[number] = rows
        return PutDay(number, tuple(rows), reason)
