"""Parameters of sample data: layouts of files, numbers of leads, and their outcomes. All values are invented."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

DEFAULT_DAYS = 22


@dataclass(frozen=True)
class Layout:
    """The layout of files from number `first_file` to the file before the next layout."""

    first_file: int
    header: str
    separator: bool = True
    demo_words: tuple[str, str] = ("0", "1")
    set_given: bool = True
    """False if the export is broken: `Set` is 0 in every row, although `Appt Date` is filled as before."""
    state_given: bool = True


_IDS = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash"
_LATE = f"{_IDS},STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName"
_WORDS = ("False", "True")
LAYOUTS = (
    Layout(1, f"{_IDS},CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status", separator=False),
    Layout(6, f"{_IDS},CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"),
    Layout(9, f"{_IDS},STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status"),
    Layout(11, _LATE, demo_words=_WORDS),
    Layout(13, f"{_LATE},location", demo_words=_WORDS),
    Layout(16, f"{_LATE},location", demo_words=_WORDS, set_given=False),
    Layout(21, f"{_LATE},location", set_given=False, state_given=False),
)
SEPARATOR = "-----"
LEADS_PER_DAY = (
    3786, 3797, 3808, 3819, 3823, 3826, 3815, 3797, 3781, 3766, 3752,
    3738, 3729, 3715, 3699, 3691, 3687, 3684, 3677, 3674, 3666, 3655,
)  # fmt: skip
"""Number of lead numbers in the snapshots of days 1 to 22, including those with a gap (`GAP_SHARE`)."""
SETTLED_LEADS_PER_DAY = (3660, 3668, 3676, 3678, 3682, 3672, 3658)
"""Number of lead numbers in the snapshots of later days, repeated."""
ARRIVALS_PER_DAY = (29, 34, 38, 31, 36, 26, 22)
"""Number of lead numbers that appear for the first time on days 2, 3 and so on, repeated."""
LATE_SHARE = 0.03
SHORTEST_LATENESS, LONGEST_LATENESS = 3, 20
"""LATE_SHARE of the arriving lead numbers appear this many days after entry; all others on the day of entry or the day
after."""
UNSEEN_LEADS = 14
"""Number of leads that the parquet of day 22 has in addition to one per normal lead number, at scale 1."""
AHEAD_SHARE = 0.2
"""Share of leads that the parquet contains a day before the snapshots do."""
BEHIND_SHARE = 0.1
"""Share of leads that the parquet contains a day after the snapshots do. In the last snapshot, they match no lead."""
LEAVING_EARLY_SHARE = 0.07
"""Share of lead numbers that disappear before the end of the window."""
GAP_SHARE = 0.01
LONGEST_GAP = 4
GAP_WITHIN_DAYS = 18
"""GAP_SHARE of lead numbers are missing for 1 to LONGEST_GAP days, from 1 to GAP_WITHIN_DAYS days after arrival."""
WINDOW_DAYS = 120
"""Number of days over which the entry dates of the first snapshot are spread."""
FIRST_SNAPSHOT = date(2024, 10, 1)
FIRST_LEAD_NUMBER = 400_001
LARGEST_NUMBER_STEP = 12
NO_VALUE_HASH = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
"""SHA-1 of the empty string, which the CRM exports for a missing e-mail address or phone number."""
HashSource = Literal["own", "earlier lead", "other earlier lead", "no value"]


class LeadKind(NamedTuple):
    """The source of a lead number's hashes, and how many lead numbers at scale 1 are of this kind."""

    numbers: int
    email: HashSource
    phone: HashSource


# The first kind is normal: it has a backend lead of its own. Others share hashes with earlier leads, or with the one
# without e-mail address or the one without phone number. The last kind is not in the backend and matches nothing.
LEAD_KINDS = (
    LeadKind(4350, "own", "own"),
    LeadKind(33, "earlier lead", "earlier lead"),
    LeadKind(24, "earlier lead", "own"),
    LeadKind(11, "no value", "own"),
    LeadKind(3, "own", "earlier lead"),
    LeadKind(2, "own", "no value"),
    LeadKind(5, "earlier lead", "other earlier lead"),
    LeadKind(6, "own", "own"),
)
LEAD_NUMBERS = sum(kind.numbers for kind in LEAD_KINDS)
BACKEND_LEADS = LEAD_KINDS[0].numbers + UNSEEN_LEADS
DIRTY_ROWS = 5
"""Number of duplicate, of upper-case and of padded rows in the parquet, at any scale. One more row lacks lead_UUID."""


class City(NamedTuple):
    """A city and its ZIP codes, which are consecutive."""

    state: str
    name: str
    first_zip: int
    zips: int
    weight: int


@cache
def cities() -> tuple[City, ...]:
    """Return the cities of sample_cities.csv."""
    return tuple(City(state, name, *map(int, numbers)) for state, name, *numbers in _csv_rows("sample_cities.csv"))


def _csv_rows(name: str) -> list[list[str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        _header, *rows = csv.reader(file)
    return rows


CITY_FORMS = {"{}": 926, "{:<28}": 62, "{} ": 12}
"""Format of a city's name → its frequency per thousand."""


class OddPlace(NamedTuple):
    """A place with an unusual value or in a remote state, and how many lead numbers are there at scale 1."""

    numbers: int
    city: str
    state: str
    zip: str


NO_STATE = "  "
ODD_PLACES = (
    OddPlace(12, "", NO_STATE, ""),
    OddPlace(3, "", "nu", "0"),
    OddPlace(1, "", "nu", "85201"),
    OddPlace(1, "Taos", NO_STATE, "87571"),
    OddPlace(4, "", "NV", "89119"),
    OddPlace(2, "", "OR", "97202"),
    OddPlace(2, " " * 28, "WA", "98404"),
    OddPlace(3, " Reno", "NV", "89502"),
    OddPlace(2, "Olympia", "WA", ""),
    OddPlace(2, "Tempe", "AZ", "0"),
    OddPlace(2, "Hartford", "CT", "06103"),
    OddPlace(1, "Danbury", "CT", "06810"),
    OddPlace(2, "Worcester", "MA", "01605"),
    OddPlace(1, "Springfield", "MA", "01103"),
)


class Outcome(NamedTuple):
    """A final disposition, its flags, and its weight.

    `booked` leads are BOOKED and CONFIRMED before their outcome; a final `set` of 0 means a cancelled appointment.
    """

    dispo: str
    booked: int
    set: int
    demo: int
    weight: int


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Return the outcomes of sample_outcomes.csv.

    One disposition contains a backslash, as one of the real ones does: it must be escaped for COPY.
    """
    return tuple(Outcome(dispo, *map(int, numbers)) for dispo, *numbers in _csv_rows("sample_outcomes.csv"))


UNTOUCHED, BOOKED, CONFIRMED, SOLD = "Data", "Appt Set", "Confirmed", "Sale"
MOVED_SHARE = 0.2
"""Share of appointments that are moved."""
LONGEST_DELAY = 40
"""Maximum number of days from entry to outcome; most are far shorter."""
CONFIRMED_DAYS = 4
"""Appointments are confirmed this many days before their outcome."""
DAYS_PER_JOB_STEP = 4
JOB_LADDERS = {
    ("Opened", "Survey Booked", "Parts Due", "Crew Booked", "Installing", "Done"): 50,
    ("Opened", "Survey Booked", "Parts Due", "Installed & Owing", "Done"): 12,
    ("Opened", "Withdrawn in Time"): 14,
    ("Opened", "Loan Declined"): 11,
    ("Opened", "Survey Booked", "Withdrawn Late"): 5,
    ("Opened", "Paused by Customer", "Crew Booked", "Done"): 4,
    ("Opened", "Parts Due", "Repair Pending"): 5,
    ("Opened", "Partner Done"): 3,
}
"""Sequence of job statuses of a sale → its weight."""
APPOINTMENT_TIMES = {
    "1:00PM": 36,
    "9:00AM": 16,
    "5:30PM": 11,
    "10:00AM": 10,
    "2:00PM": 8,
    "5:00PM": 6,
    "12:00PM": 5,
    "6:00PM": 3,
    "11:30AM": 2,
    "1:30PM": 1,
    "8:00AM": 1,
    "12:30PM": 1,
}
"""Time of day in the CRM's format → its frequency per hundred."""
