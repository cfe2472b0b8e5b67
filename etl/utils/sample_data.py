"""Sample data in the shape of the real sources: daily CRM snapshots as CSV, the backend's leads as parquet (SPEC §3).

A population of CRM lead numbers is drawn once: who they are, when they arrive and leave, and what becomes of them. File
n shows it as the CRM would export it on day n. Grain of a CSV file: one row per lead number; of the parquet: one row
per backend lead, and a few rows that cleaning must repair or drop (SPEC §5). Every value is invented.

The same (scale, days, seed) give the same bytes everywhere (in the parquet, which names the pyarrow that wrote it, the
same rows): all randomness is PCG64's raw output, whose stream numpy guarantees (that of its distributions it does not),
and the arithmetic on it is exact. A longer sample begins with the files of a shorter one, so "tomorrow's file arrives"
can be played by asking for one day more.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from etl.utils.errors import PipelineError

GENERATOR_VERSION = 1
"""Counts up with every change to the bytes that a given (scale, days, seed) yield."""

DEFAULT_SEED = 20241001
DEFAULT_DAYS = 22

CSV_FOLDER = "SFTP"
PARQUET_FOLDER = "parquet"
PARQUET_NAME = "leads.parquet"
MARKER_NAME = "sample.json"

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]


# --- what a file looks like -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the files look from number `first_file` on, until the next layout begins."""

    first_file: int
    header: str
    separator: bool = True
    demo_words: tuple[str, str] = ("0", "1")
    state_given: bool = True


LAYOUTS = (
    Layout(
        1,
        "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status",
        separator=False,
    ),
    Layout(6, "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"),
    Layout(9, "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status"),
    Layout(
        11,
        "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName",
        demo_words=("False", "True"),
    ),
    Layout(
        13,
        "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName,location",
        demo_words=("False", "True"),
    ),
    Layout(
        21,
        "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName,location",
        state_given=False,
    ),
)
SEPARATOR = "-----"


# --- how many, at scale 1 ---------------------------------------------------------------------------------------------

LEADS_PER_DAY = (
    3786, 3797, 3808, 3819, 3823, 3826, 3815, 3797, 3781, 3766, 3752,
    3738, 3729, 3715, 3699, 3691, 3687, 3684, 3677, 3674, 3666, 3655,
)  # fmt: skip
"""Lead numbers in the snapshots of days 1 to 22, before the few that are missing for a moment (`GAP_SHARE`)."""

SETTLED_LEADS_PER_DAY = (3660, 3668, 3676, 3678, 3682, 3672, 3658)
"""The same for the days after, again and again."""

ARRIVALS_PER_DAY = (29, 34, 38, 31, 36, 26, 22)
"""Lead numbers that appear for the first time on day 2, 3, …, again and again."""

UNSEEN_LEADS = 14
"""Backend leads that no snapshot ever shows."""

LEAVING_EARLY_SHARE = 0.07
"""That share of the lead numbers vanishes before it has grown old."""

GAP_SHARE = 0.01
GAP_DAYS = 2
GAP_WITHIN_DAYS = 18
"""That share is missing for so many days, some time within the first ones after its arrival, then comes back."""

WINDOW_DAYS = 120
"""A snapshot reaches that far back: what entered earlier leaves it."""

FIRST_SNAPSHOT = date(2024, 10, 1)
FIRST_LEAD_NUMBER = 400_001
LARGEST_NUMBER_STEP = 12


# --- whom a row belongs to --------------------------------------------------------------------------------------------

NO_VALUE_HASH = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
"""SHA-1 of the empty string: what the CRM exports for a missing e-mail as well as for a missing phone number."""

HashSource = Literal["own", "earlier lead", "other earlier lead", "no value"]
HASH_SOURCES: tuple[HashSource, ...] = ("own", "earlier lead", "other earlier lead", "no value")


class LeadKind(NamedTuple):
    """Where a lead number's hashes come from, and how many lead numbers of scale 1 are of this kind."""

    numbers: int
    email: HashSource
    phone: HashSource


# The first kind is the rule: a backend lead of its own. The others share the hashes of a lead that came before, or of
# the one backend lead each whose e-mail, whose phone number has no value; the last matches nothing.
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

DUPLICATE_ROWS = 5
UPPER_CASE_ROWS = 5
PADDED_ROWS = 5
"""What cleaning finds in the parquet, at any scale; a row whose lead_UUID is missing comes on top."""


# --- where it lives ---------------------------------------------------------------------------------------------------


class City(NamedTuple):
    """A city and its ZIPs, which follow each other closely enough for a sample."""

    state: str
    name: str
    first_zip: int
    zips: int
    weight: int


CITIES = (
    City("AZ", "Apache Junction", 85119, 2, 14),
    City("AZ", "Avondale", 85323, 1, 16),
    City("AZ", "Buckeye", 85326, 1, 34),
    City("AZ", "Bullhead City", 86429, 2, 22),
    City("AZ", "Casa Grande", 85122, 1, 26),
    City("AZ", "Chandler", 85224, 3, 38),
    City("AZ", "Flagstaff", 86001, 4, 20),
    City("AZ", "Gilbert", 85295, 4, 36),
    City("AZ", "Glendale", 85301, 10, 56),
    City("AZ", "Goodyear", 85338, 1, 24),
    City("AZ", "Kingman", 86401, 1, 24),
    City("AZ", "Lake Havasu City", 86403, 4, 44),
    City("AZ", "Maricopa", 85138, 2, 20),
    City("AZ", "Mesa", 85201, 10, 90),
    City("AZ", "Nogales", 85621, 1, 6),
    City("AZ", "Oro Valley", 85737, 1, 24),
    City("AZ", "Payson", 85541, 1, 8),
    City("AZ", "Peoria", 85381, 3, 44),
    City("AZ", "Phoenix", 85003, 50, 170),
    City("AZ", "Prescott Valley", 86314, 2, 26),
    City("AZ", "Queen Creek", 85142, 1, 26),
    City("AZ", "Scottsdale", 85250, 11, 58),
    City("AZ", "Sierra Vista", 85635, 1, 18),
    City("AZ", "Sun City", 85351, 1, 30),
    City("AZ", "Surprise", 85378, 2, 40),
    City("AZ", "Tempe", 85281, 4, 34),
    City("AZ", "Tucson", 85701, 50, 150),
    City("AZ", "Yuma", 85364, 4, 54),
    City("ID", "Boise", 83702, 4, 8),
    City("ID", "Coeur d'Alene", 83814, 2, 7),
    City("ID", "Post Falls", 83854, 1, 5),
    City("IL", "Chicago", 60601, 5, 3),
    City("NV", "Boulder City", 89005, 1, 14),
    City("NV", "Carson City", 89701, 3, 16),
    City("NV", "Elko", 89801, 1, 6),
    City("NV", "Fernley", 89408, 1, 8),
    City("NV", "Henderson", 89011, 5, 190),
    City("NV", "Las Vegas", 89101, 56, 640),
    City("NV", "Laughlin", 89029, 1, 10),
    City("NV", "Mesquite", 89027, 1, 12),
    City("NV", "North Las Vegas", 89030, 4, 80),
    City("NV", "North las Vegas", 89081, 5, 20),
    City("NV", "Pahrump", 89060, 2, 18),
    City("NV", "Reno", 89501, 12, 36),
    City("NV", "Sparks", 89431, 6, 18),
    City("OR", "Albany", 97321, 2, 18),
    City("OR", "Beaverton", 97005, 4, 26),
    City("OR", "Bend", 97701, 3, 24),
    City("OR", "Corvallis", 97330, 1, 14),
    City("OR", "Eugene", 97401, 5, 36),
    City("OR", "Grants Pass", 97526, 2, 14),
    City("OR", "Gresham", 97030, 1, 24),
    City("OR", "Hillsboro", 97123, 2, 24),
    City("OR", "Klamath Falls", 97601, 3, 8),
    City("OR", "Medford", 97501, 1, 18),
    City("OR", "Oregon City", 97045, 1, 16),
    City("OR", "Portland", 97201, 34, 110),
    City("OR", "Roseburg", 97470, 2, 12),
    City("OR", "Salem", 97301, 6, 40),
    City("OR", "The Dalles", 97058, 1, 6),
    City("OR", "Tigard", 97223, 2, 14),
    City("WA", "Anacortes", 98221, 1, 12),
    City("WA", "Auburn", 98001, 2, 42),
    City("WA", "Bellevue", 98004, 5, 38),
    City("WA", "Bellingham", 98225, 2, 40),
    City("WA", "Bothell", 98011, 2, 30),
    City("WA", "Bremerton", 98310, 3, 44),
    City("WA", "Centralia", 98531, 1, 16),
    City("WA", "Chehalis", 98532, 1, 14),
    City("WA", "Ellensburg", 98926, 1, 10),
    City("WA", "Everett", 98201, 4, 56),
    City("WA", "Federal Way", 98003, 1, 30),
    City("WA", "Gig Harbor", 98329, 1, 20),
    City("WA", "Issaquah", 98027, 1, 22),
    City("WA", "Kelso", 98626, 1, 14),
    City("WA", "Kennewick", 99336, 3, 26),
    City("WA", "Kent", 98030, 3, 44),
    City("WA", "Lacey", 98503, 1, 40),
    City("WA", "Lake Stevens", 98258, 1, 22),
    City("WA", "Longview", 98632, 1, 26),
    City("WA", "Lynnwood", 98036, 2, 34),
    City("WA", "Marysville", 98270, 2, 36),
    City("WA", "Mount Vernon", 98273, 2, 26),
    City("WA", "Olympia", 98501, 6, 52),
    City("WA", "Port Angeles", 98362, 2, 16),
    City("WA", "Puyallup", 98371, 5, 44),
    City("WA", "Redmond", 98052, 2, 24),
    City("WA", "Renton", 98055, 5, 38),
    City("WA", "Richland", 99352, 1, 18),
    City("WA", "Seattle", 98101, 46, 110),
    City("WA", "Sequim", 98382, 1, 16),
    City("WA", "Spanaway", 98387, 1, 24),
    City("WA", "Spokane", 99201, 9, 40),
    City("WA", "Tacoma", 98402, 10, 76),
    City("WA", "Vancouver", 98660, 7, 70),
    City("WA", "Walla Walla", 99362, 1, 12),
    City("WA", "Wenatchee", 98801, 1, 18),
    City("WA", "Yakima", 98901, 3, 22),
)


class CityForm(NamedTuple):
    """A way to write a city, and how often in a thousand."""

    pattern: str
    weight: int


CITY_FORMS = (CityForm("{}", 926), CityForm("{:<28}", 62), CityForm("{} ", 12))


class OddPlace(NamedTuple):
    """A place that is incomplete or far away, and how many of scale 1's lead numbers live there."""

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


# --- what becomes of it -----------------------------------------------------------------------------------------------


class OutcomeGroup(NamedTuple):
    """Outcomes with the same flags in the end, each with its weight."""

    booked: bool
    set: int
    demo: int
    dispos: dict[str, int]


# `booked` leads pass through BOOKED and CONFIRMED before their outcome. Those whose `set` is 0 in the end lost their
# appointment again. The backslash is there because the real dispositions have one too: a trap for careless escaping.
OUTCOME_GROUPS = (
    OutcomeGroup(
        False,
        0,
        0,
        {
            "Data": 1560,
            "DQ-Bad Phone": 400,
            "Do Not Contact": 260,
            "DQ - Tenant": 185,
            "DQ-Outside Territory": 112,
            "DQ-New Construction": 80,
            "DQ Bath - Townhouse": 76,
            "DQ-Bought Elsewhere": 68,
            "DQ - Known Lead": 62,
            "DQ - Robot": 58,
            "DQ-Parts Only": 56,
            "DQ-No Answer": 44,
            "DQ Bath-Tub\\Spa": 20,
            "DQ - Misc": 8,
            "DQ-Repair Visit": 2,
        },
    ),
    OutcomeGroup(True, 0, 0, {"CXL-Withdrawn": 40}),
    OutcomeGroup(
        True,
        1,
        0,
        {
            "CXL-BT": 42,
            "No Show": 20,
            "Not Home": 18,
            "CXL-Price": 16,
            "CXL-Not Now": 13,
            "CXL-Office": 10,
            "Issued": 8,
            "CXL-Illness": 7,
            "CXL-Rival": 6,
            "CXL-Partner": 4,
            "CXL-Weather": 3,
            "CXL-Loan": 2,
            "CXL-Misc": 1,
        },
    ),
    OutcomeGroup(
        True,
        1,
        1,
        {
            "Sale": 142,
            "NS-Price": 160,
            "NS-Undecided": 142,
            "NS-One Owner": 74,
            "NS-Later": 58,
            "NS-Quotes": 19,
            "NS-Style": 10,
            "NS-Credit": 4,
        },
    ),
)
UNTOUCHED, BOOKED, CONFIRMED, SOLD = "Data", "Appt Set", "Confirmed", "Sale"

WALK_IN_SHARE = 0.02
"""That share of the demos was given without an appointment being set."""

MOVED_SHARE = 0.2
"""That share of the appointments is moved before it takes place."""

LONGEST_DELAY = 40
"""Days from entry to outcome, at most. Most take far less."""

DAYS_PER_JOB_STEP = 4


class JobLadder(NamedTuple):
    """What the job status of a sale passes through."""

    weight: int
    steps: tuple[str, ...]


JOB_LADDERS = (
    JobLadder(50, ("Opened", "Survey Booked", "Parts Due", "Crew Booked", "Installing", "Done")),
    JobLadder(12, ("Opened", "Survey Booked", "Parts Due", "Installed & Owing", "Done")),
    JobLadder(14, ("Opened", "Withdrawn in Time")),
    JobLadder(11, ("Opened", "Loan Declined")),
    JobLadder(5, ("Opened", "Survey Booked", "Withdrawn Late")),
    JobLadder(4, ("Opened", "Paused by Customer", "Crew Booked", "Done")),
    JobLadder(5, ("Opened", "Parts Due", "Repair Pending")),
    JobLadder(3, ("Opened", "Partner Done")),
)


class AppointmentTime(NamedTuple):
    """A time of day as the CRM writes it, and how often in a hundred."""

    text: str
    weight: int


APPOINTMENT_TIMES = (
    AppointmentTime("1:00PM", 36),
    AppointmentTime("9:00AM", 16),
    AppointmentTime("5:30PM", 11),
    AppointmentTime("10:00AM", 10),
    AppointmentTime("2:00PM", 8),
    AppointmentTime("5:00PM", 6),
    AppointmentTime("12:00PM", 5),
    AppointmentTime("6:00PM", 3),
    AppointmentTime("11:30AM", 2),
    AppointmentTime("1:30PM", 1),
    AppointmentTime("8:00AM", 1),
    AppointmentTime("12:30PM", 1),
)

DRAWS = (
    "number", "order", "entry", "leaving early", "leaving", "gap", "gap day", "city", "form", "zip",
    "earlier lead", "other earlier lead", "outcome", "delay", "walk in", "moved", "move", "hour", "ladder",
)  # fmt: skip
"""The random numbers in [0, 1) that every lead number gets, besides its ids."""

EMAIL_BYTES, PHONE_BYTES, UUID_BYTES = slice(0, 20), slice(20, 40), slice(40, 56)
ID_WORDS = 7  # of 64 bits: two SHA-1 digests and a UUID


# --- the sample on disk -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleData:
    """A complete sample in `target`.

    `files` counts the CSV files, `rows` their data rows (separator rows included) and `lead_numbers` the distinct ones
    in them; `leads` the backend leads that remain of the parquet after cleaning.
    """

    target: Path
    scale: float
    days: int
    seed: int
    files: int
    rows: int
    lead_numbers: int
    leads: int

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.files} CSV files with {self.rows:,} rows of {self.lead_numbers:,} lead numbers, "
            f"{self.leads:,} backend leads (scale {self.scale:g}, seed {self.seed})"
        )


def write_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Write a sample into `target`, in place of the sample that is there.

    `scale` multiplies leads and rows per day; from 1 on, every oddity of SPEC §3 is there. Up to day 22 the backend has
    4,364 times `scale` leads; every day after adds its arrivals.

    Raises:
        ValueError: a parameter is out of range.
        PipelineError: `target` holds something that is not a sample.
    """
    _check_parameters(scale, days, seed)
    target = target.resolve()
    _refuse_foreign_content(target)
    with _replacing(target) as fresh:
        population = _draw_population(scale, max(days, DEFAULT_DAYS), seed)
        rows = _write_snapshots(population, days, fresh / CSV_FOLDER)
        leads = _write_leads(population.leads, fresh / PARQUET_FOLDER)
        sample = SampleData(
            target=target,
            scale=float(scale),
            days=days,
            seed=seed,
            files=days,
            rows=rows,
            lead_numbers=int(np.count_nonzero(population.arrival_day <= days)),
            leads=leads,
        )
        _write_marker(sample, fresh)
    return sample


def ensure_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Return the sample in `target`; write it first unless it is complete and of these parameters and this generator.

    Raises:
        ValueError: a parameter is out of range.
        PipelineError: `target` holds something that is not a sample.
    """
    present = _complete_sample(target.resolve())
    wanted = (float(scale), days, seed)
    if present is not None and (present.scale, present.days, present.seed) == wanted:
        return present
    return write_sample(target, scale=scale, days=days, seed=seed)


def _check_parameters(scale: float, days: int, seed: int) -> None:
    for name, value, least in (("scale", scale, 0.01), ("days", days, 1), ("seed", seed, 0)):
        if not value >= least:
            raise ValueError(f"{name} is {value}, must be at least {least}")


def _refuse_foreign_content(target: Path) -> None:
    """Replacing a folder deletes what is in it, which must never be somebody's own data."""
    own = {MARKER_NAME, *_read_marker(target).get("sizes", {})}
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if foreign := sorted(present - own):
        raise PipelineError(
            f"{target} holds something else than sample data: {', '.join(foreign[:5])}",
            hint="name another folder for the sample, or empty this one",
        )


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` at the end, or vanishes when the block fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    _remove_leftovers(target.parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        fresh.rename(target)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove what killed runs left. A day is old enough: a run that is still at work started minutes ago."""
    yesterday = time.time() - 86_400
    for leftover in parent.iterdir():
        with suppress(FileNotFoundError):  # another run may have finished in between
            if leftover.name.startswith(prefix) and leftover.stat().st_mtime < yesterday:
                shutil.rmtree(leftover, ignore_errors=True)


def _write_marker(sample: SampleData, folder: Path) -> None:
    facts: dict[str, Any] = asdict(sample)
    del facts["target"]  # the sample may be moved
    paths = sorted([*folder.glob(f"{CSV_FOLDER}/*"), *folder.glob(f"{PARQUET_FOLDER}/*")])
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    marker = {"generator_version": GENERATOR_VERSION, "sample": facts, "sizes": sizes}
    (folder / MARKER_NAME).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any]:
    """Return what the marker says: nothing when there is none, or none that can be read."""
    with suppress(FileNotFoundError, ValueError):
        marker: dict[str, Any] = json.loads((folder / MARKER_NAME).read_text(encoding="utf-8"))
        return marker
    return {}


def _complete_sample(folder: Path) -> SampleData | None:
    """Return the sample in this folder if it is this generator's and all of its files are there in full, else None."""
    marker = _read_marker(folder)
    if marker.get("generator_version") != GENERATOR_VERSION:
        return None
    files = ((folder / name, size) for name, size in marker["sizes"].items())
    complete = all(file.is_file() and file.stat().st_size == size for file, size in files)
    return SampleData(target=folder, **marker["sample"]) if complete else None


# --- the population ---------------------------------------------------------------------------------------------------

# Days are numbers here: 1 is the first snapshot's, 0 and less lie before it.


@dataclass(frozen=True)
class Draw:
    """Random numbers of a group of leads: named ones in [0, 1), and the bytes of their ids."""

    uniform: dict[str, npt.NDArray[np.float64]]
    ids: ByteArray

    def below(self, name: str, limit: int | IntArray) -> IntArray:
        """Whole numbers from 0 to `limit` - 1."""
        numbers: IntArray = (self.uniform[name] * limit).astype(np.int64)
        return numbers

    def weighted(self, name: str, weights: Sequence[int]) -> IntArray:
        """Positions in `weights`, each as often as its weight says."""
        positions: IntArray = np.searchsorted(np.cumsum(weights), self.below(name, sum(weights)), side="right")
        return positions

    def happens(self, name: str, share: float) -> BoolArray:
        chosen: BoolArray = self.uniform[name] < share
        return chosen


@dataclass(frozen=True)
class Fates:
    """What becomes of each lead number: its outcome, and the days on which its status changes."""

    outcome: IntArray
    booking_day: IntArray
    move_day: IntArray
    outcome_day: IntArray
    first_appointment: IntArray
    appointment: IntArray
    walk_in: BoolArray
    ladder: IntArray


@dataclass(frozen=True)
class Vocabulary:
    """The texts that the population's codes stand for."""

    dates: pa.StringArray
    appointments: pa.StringArray
    dispos: pa.StringArray
    job_statuses: pa.StringArray
    cities: pa.StringArray
    states: pa.StringArray
    locations: pa.StringArray
    zips: pa.StringArray


@dataclass(frozen=True)
class Population:
    """All lead numbers of all days, one array element each, in order of arrival; and the backend's leads, clean.

    `order` is the order of the rows in the files. A lead number is in the snapshots from its arrival to the day before
    its departure, but for `GAP_DAYS` from `gap_day` on.
    """

    lead_number: IntArray
    arrival_day: IntArray
    departure_day: IntArray
    gap_day: IntArray
    order: IntArray
    entry_day: IntArray
    place: IntArray
    zip: IntArray
    fates: Fates
    email_hash: pa.StringArray
    phone_hash: pa.StringArray
    leads: pa.Table
    vocabulary: Vocabulary


def _draw(seed: int, group: int, count: int) -> Draw:
    """Draw for one group of leads. Each group has its own stream, so that a longer sample only adds groups."""
    generator = np.random.PCG64(np.random.SeedSequence((seed, group)))
    words = generator.random_raw(count * (len(DRAWS) + ID_WORDS)).reshape(count, len(DRAWS) + ID_WORDS)
    fractions = (words[:, : len(DRAWS)] >> np.uint64(11)) * 2.0**-53
    ids = np.ascontiguousarray(words[:, len(DRAWS) :], dtype="<u8").view(np.uint8)
    return Draw(dict(zip(DRAWS, fractions.T, strict=True)), ids)


def _draw_arrivals(seed: int, arrivals: IntArray) -> Draw:
    """Draw for the lead numbers of each day, day after day."""
    draws = [_draw(seed, day, int(count)) for day, count in enumerate(arrivals, 1)]
    uniform = {name: np.concatenate([draw.uniform[name] for draw in draws]) for name in DRAWS}
    return Draw(uniform, np.concatenate([draw.ids for draw in draws]))


def _draw_population(scale: float, horizon: int, seed: int) -> Population:
    """Draw everybody who is in a snapshot on one of the days 1 … `horizon`, and the backend's leads."""
    arrived = _scaled(np.cumsum([LEADS_PER_DAY[0], *_repeated(ARRIVALS_PER_DAY, horizon - 1)]), scale)
    arrivals = np.diff(arrived, prepend=0)
    draw = _draw_arrivals(seed, arrivals)
    arrival_day = np.repeat(np.arange(1, horizon + 1), arrivals)
    entry_day = _entry_days(draw, arrival_day, int(arrivals[0]))
    place, zip_code = _places(draw)
    email_hash, phone_hash, leads = _identities(draw, arrival_day, scale, seed)
    return Population(
        lead_number=FIRST_LEAD_NUMBER + np.cumsum(1 + draw.below("number", LARGEST_NUMBER_STEP)),
        arrival_day=arrival_day,
        departure_day=_departure_days(draw, arrival_day, arrived, scale),
        gap_day=_gap_days(draw, arrival_day),
        order=np.argsort(draw.uniform["order"], kind="stable"),
        entry_day=entry_day,
        place=place,
        zip=zip_code,
        fates=_fates(draw, entry_day),
        email_hash=email_hash,
        phone_hash=phone_hash,
        leads=leads,
        vocabulary=_vocabulary(horizon),
    )


def _scaled(totals: IntArray, scale: float) -> IntArray:
    """Running totals at this scale. Scaling them, not the counts, keeps them right to within a half."""
    rounded: IntArray = np.rint(totals * scale).astype(np.int64)
    return rounded


def _repeated(values: Sequence[int], length: int) -> list[int]:
    return [values[turn % len(values)] for turn in range(length)]


def _spread(counts: Sequence[int], positions: IntArray) -> IntArray:
    """Mark `counts[0]` of each LEAD_NUMBERS positions with 1, `counts[1]` with 2, …, evenly; all others with 0.

    Casting lots instead would leave some samples without the rarest oddities.
    """
    turns = sorted(((turn + 0.5) / count, mark) for mark, count in enumerate(counts, 1) for turn in range(count))
    marks = np.array([mark for _, mark in turns])
    before, after = positions * len(marks) // LEAD_NUMBERS, (positions + 1) * len(marks) // LEAD_NUMBERS
    return np.where(after > before, marks[before % len(marks)], 0)


def _entry_days(draw: Draw, arrival_day: IntArray, stock: int) -> IntArray:
    """Spread those of day 1 over the window, oldest first; the others entered when they arrive, or a day before."""
    elapsed = (np.arange(len(arrival_day)) * WINDOW_DAYS + draw.below("entry", 3 * stock)) // stock
    return np.where(
        arrival_day == 1,
        1 - np.clip(WINDOW_DAYS - elapsed, 0, WINDOW_DAYS - 1),
        arrival_day - draw.below("entry", 2),
    )


def _departure_days(draw: Draw, arrival_day: IntArray, arrived: IntArray, scale: float) -> IntArray:
    """First come, first gone, roughly: as many leave each day as keep `LEADS_PER_DAY` in the snapshot."""
    settled = _repeated(SETTLED_LEADS_PER_DAY, len(arrived))
    present = np.array([*LEADS_PER_DAY, *settled][: len(arrived)])
    departed = np.maximum.accumulate(arrived - _scaled(present, scale))

    # Nobody may overtake so many that they leave before they come: about 3,650 stand before a newcomer at scale 1.
    late, early = 300 * draw.uniform["leaving"], 200 + 3100 * draw.uniform["leaving"]
    turn = np.where(draw.happens("leaving early", LEAVING_EARLY_SHARE), -early, late) * scale
    queue = np.argsort(np.arange(len(arrival_day)) + turn, kind="stable")
    rank = np.empty_like(queue)
    rank[queue] = np.arange(len(queue))
    departure_day = 1 + np.searchsorted(departed, rank, side="right")
    return np.maximum(departure_day, arrival_day + 1)


def _gap_days(draw: Draw, arrival_day: IntArray) -> IntArray:
    never = np.full_like(arrival_day, -GAP_DAYS)
    return np.where(draw.happens("gap", GAP_SHARE), arrival_day + 1 + draw.below("gap day", GAP_WITHIN_DAYS), never)


def _places(draw: Draw) -> tuple[IntArray, IntArray]:
    """Codes of place and ZIP: those of the written forms of all cities, and after them those of the odd places."""
    city = draw.weighted("city", [city.weight for city in CITIES])
    form = draw.weighted("form", [form.weight for form in CITY_FORMS])
    zips = np.array([city.zips for city in CITIES])
    first_zip = np.cumsum(zips) - zips

    # Half a round later than the lead kinds, so that the two kinds of oddity do not always meet.
    odd = _spread([place.numbers for place in ODD_PLACES], np.arange(len(city)) + LEAD_NUMBERS // 2)
    place = np.where(odd > 0, len(CITY_FORMS) * len(CITIES) + odd - 1, form * len(CITIES) + city)
    zip_code = np.where(odd > 0, zips.sum() + odd - 1, first_zip[city] + draw.below("zip", zips[city]))
    return place, zip_code


def _fates(draw: Draw, entry_day: IntArray) -> Fates:
    # Multiplied, not raised to a power: pow() may round differently on another machine.
    patience = draw.uniform["delay"] * draw.uniform["delay"] * draw.uniform["delay"]
    delay = 1 + (patience * LONGEST_DELAY).astype(np.int64)
    booking_day, outcome_day = entry_day + delay * 2 // 5, entry_day + delay
    appointment_day = np.maximum(booking_day, outcome_day - 1)
    first_appointment_day = np.maximum(booking_day, appointment_day - 1 - draw.below("move", 6))
    hour = draw.weighted("hour", [time.weight for time in APPOINTMENT_TIMES])
    first_hour = (hour + 1) % len(APPOINTMENT_TIMES)
    return Fates(
        outcome=draw.weighted("outcome", [weight for group in OUTCOME_GROUPS for weight in group.dispos.values()]),
        booking_day=booking_day,
        move_day=np.where(draw.happens("moved", MOVED_SHARE), (booking_day + outcome_day + 1) // 2, booking_day),
        outcome_day=outcome_day,
        first_appointment=_appointment_code(first_appointment_day, first_hour),
        appointment=_appointment_code(appointment_day, hour),
        walk_in=draw.happens("walk in", WALK_IN_SHARE),
        ladder=draw.weighted("ladder", [ladder.weight for ladder in JOB_LADDERS]),
    )


# --- who is who -------------------------------------------------------------------------------------------------------


def _identities(
    draw: Draw, arrival_day: IntArray, scale: float, seed: int
) -> tuple[pa.StringArray, pa.StringArray, pa.Table]:
    """The hashes of each lead number, and the backend's leads."""
    position = np.arange(len(arrival_day))
    kinds = _spread([kind.numbers for kind in LEAD_KINDS[1:]], position)
    in_backend = np.flatnonzero(kinds == 0)

    # Who has the hash? A position in the population, or the one past its end for the hash of no value.
    before = np.maximum(np.cumsum(kinds == 0) - (kinds == 0), 1)
    earlier = draw.below("earlier lead", before)
    other = (earlier + 1 + draw.below("other earlier lead", np.maximum(before - 1, 1))) % before
    owners: dict[HashSource, IntArray] = {
        "own": position,
        "earlier lead": in_backend[earlier],
        "other earlier lead": in_backend[other],
        "no value": np.full_like(position, len(position)),
    }
    stock = in_backend[arrival_day[in_backend] == 1]
    email_owner = np.choose(kinds, [owners[kind.email] for kind in LEAD_KINDS])
    phone_owner = np.choose(kinds, [owners[kind.phone] for kind in LEAD_KINDS])
    email_hash = _hashes(draw.ids[:, EMAIL_BYTES], stock[len(stock) // 3]).take(email_owner)
    phone_hash = _hashes(draw.ids[:, PHONE_BYTES], stock[len(stock) * 2 // 3]).take(phone_owner)

    seen_in_time = int(np.count_nonzero(arrival_day[in_backend] <= DEFAULT_DAYS))
    unseen = _draw(seed, 0, max(0, round(BACKEND_LEADS * scale) - seen_in_time)).ids
    leads = {
        "lead_UUID": [_uuids(draw.ids[in_backend, UUID_BYTES]), _uuids(unseen[:, UUID_BYTES])],
        "phone_hash": [phone_hash.take(in_backend), _text(_hex(unseen[:, PHONE_BYTES]))],
        "email_hash": [email_hash.take(in_backend), _text(_hex(unseen[:, EMAIL_BYTES]))],
    }
    return email_hash, phone_hash, pa.table({name: pa.concat_arrays(parts) for name, parts in leads.items()})


def _hashes(digests: ByteArray, without_value: int) -> pa.StringArray:
    """The hash of each lead number, and at the end that of no value, which also the lead at `without_value` has."""
    no_value = np.frombuffer(bytes.fromhex(NO_VALUE_HASH), dtype=np.uint8)
    digests = np.vstack([digests, no_value])
    digests[without_value] = no_value
    return _text(_hex(digests))


def _hex(data: ByteArray) -> ByteArray:
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    return digits[np.stack([data >> 4, data & 15], axis=-1)].reshape(len(data), 2 * data.shape[1])


def _uuids(data: ByteArray) -> pa.StringArray:
    """Random UUIDs (version 4) in their usual form."""
    data = data.copy()
    data[:, 6] = data[:, 6] & 0x0F | 0x40
    data[:, 8] = data[:, 8] & 0x3F | 0x80
    return _text(np.insert(_hex(data), [8, 12, 16, 20], ord("-"), axis=1))


def _text(characters: ByteArray) -> pa.StringArray:
    """One text for each row of characters."""
    count, width = characters.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(characters.tobytes()))


# --- codes and their texts --------------------------------------------------------------------------------------------

EARLIEST_DAY = 1 - WINDOW_DAYS


def _appointment_code(day: IntArray, hour: IntArray) -> IntArray:
    return (day - EARLIEST_DAY) * len(APPOINTMENT_TIMES) + hour


def _vocabulary(horizon: int) -> Vocabulary:
    days = range(EARLIEST_DAY, horizon + LONGEST_DELAY + 1)
    dates = [f"{FIRST_SNAPSHOT + timedelta(days=day - 1):%m/%d/%Y}" for day in days]
    cities = [(form.pattern.format(city.name), city.state) for form in CITY_FORMS for city in CITIES]
    places = cities + [(place.city, place.state) for place in ODD_PLACES]
    zips = [f"{city.first_zip + turn:05d}" for city in CITIES for turn in range(city.zips)]
    return Vocabulary(
        dates=pa.array(dates),
        # The CRM sets the time in a field of seven characters: a one-digit hour stands after two blanks.
        appointments=pa.array([f"{day} {time.text:>7}" for day in dates for time in APPOINTMENT_TIMES]),
        dispos=pa.array([*(dispo for group in OUTCOME_GROUPS for dispo in group.dispos), UNTOUCHED, BOOKED, CONFIRMED]),
        job_statuses=pa.array([step for ladder in JOB_LADDERS for step in ladder.steps]),
        cities=pa.array([city for city, _ in places]),
        states=pa.array([state for _, state in places]),
        locations=pa.array([f"{city} | {state}" for city, state in places]),
        zips=pa.array(zips + [place.zip for place in ODD_PLACES]),
    )


# --- the files --------------------------------------------------------------------------------------------------------


def _write_snapshots(population: Population, days: int, folder: Path) -> int:
    """Write the files of days 1 … `days`, one after the other, and return how many rows they have."""
    folder.mkdir()
    rows = 0
    for day in range(1, days + 1):
        layout = [layout for layout in LAYOUTS if layout.first_file <= day][-1]
        columns = _snapshot(population, day, layout)
        header = layout.header.split(",")
        table = pa.table([columns[name] for name in header], names=header)
        with (folder / f"data_{day}.csv").open("wb") as file:
            file.write(f"{layout.header}\n".encode())
            if layout.separator:
                file.write(f"{','.join([SEPARATOR] * len(header))}\n".encode())
            pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=False, quoting_style="none"))
        rows += table.num_rows + layout.separator
    return rows


def _snapshot(population: Population, day: int, layout: Layout) -> dict[str, pa.Array]:
    """All columns that a file can have, as of this day, by their names in the header."""
    present = (population.arrival_day <= day) & (day < population.departure_day)
    present &= (day < population.gap_day) | (population.gap_day + GAP_DAYS <= day)
    rows = population.order[present[population.order]]
    words = population.vocabulary
    place = population.place[rows]
    city = words.cities.take(place)
    state = words.states.take(place) if layout.state_given else pa.nulls(len(rows), pa.string())
    return {
        "ENTRYDATE": words.dates.take(population.entry_day[rows] - EARLIEST_DAY),
        "LEADNUMBER": pa.array(population.lead_number[rows]),
        "email_hash": population.email_hash.take(rows),
        "phone_hash": population.phone_hash.take(rows),
        "CITY": city,
        "CityName": city,
        "STATE": state,
        "ZIP": words.zips.take(population.zip[rows]),
        "location": words.locations.take(place),
        **_statuses(population, rows, day, layout),
    }


def _statuses(population: Population, rows: IntArray, day: int, layout: Layout) -> dict[str, pa.Array]:
    """The columns that change from day to day."""
    words, fates = population.vocabulary, population.fates
    outcomes = [(dispo, group) for group in OUTCOME_GROUPS for dispo in group.dispos]
    flags = [(group.booked, group.set, group.demo, dispo == SOLD) for dispo, group in outcomes]
    booked, final_set, final_demo, final_sale = np.array(flags, dtype=bool).T
    outcome = fates.outcome[rows]
    decided = fates.outcome_day[rows] <= day
    pending = booked[outcome] & (fates.booking_day[rows] <= day) & ~decided
    demo = decided & final_demo[outcome]
    is_set = pending | (decided & final_set[outcome])

    untouched, appointment_set, confirmed = range(len(outcomes), len(outcomes) + 3)
    not_decided = np.where(fates.outcome_day[rows] - 1 <= day, confirmed, appointment_set)
    dispo = np.where(decided, outcome, np.where(pending, not_decided, untouched))
    appointment = np.where(fates.move_day[rows] <= day, fates.appointment[rows], fates.first_appointment[rows])

    sold = decided & final_sale[outcome]
    steps = np.array([len(ladder.steps) for ladder in JOB_LADDERS])
    ladder = fates.ladder[rows]
    step = np.minimum((day - fates.outcome_day[rows]) // DAYS_PER_JOB_STEP, steps[ladder] - 1)
    job_status = (np.cumsum(steps) - steps)[ladder] + step
    return {
        "Set": pa.array(["0", "1"]).take((is_set & ~(demo & fates.walk_in[rows])).astype(np.int8)),
        "Demo": pa.array(layout.demo_words).take(demo.astype(np.int8)),
        "Dispo": words.dispos.take(dispo),
        "Appt Date": words.appointments.take(pa.array(appointment, mask=~is_set)),
        "Job Status": words.job_statuses.take(pa.array(job_status, mask=~sold)),
    }


def _write_leads(leads: pa.Table, folder: Path) -> int:
    """Write the backend's leads, with something for the cleaning to do, and return how many remain after it."""
    folder.mkdir()
    count = len(leads)
    every = np.arange(1, 1 + max(DUPLICATE_ROWS, UPPER_CASE_ROWS, PADDED_ROWS)) * count // 8
    without_id = leads.slice(0, 1).set_column(0, "lead_UUID", pa.nulls(1, pa.string()))
    table = pa.concat_tables([leads, leads.take(every[:DUPLICATE_ROWS]), without_id])

    # The last of the duplicates is in upper case: cleaning must come before the search for duplicates.
    upper_case = np.isin(np.arange(len(table)), [*(every + 1)[: UPPER_CASE_ROWS - 1], count + DUPLICATE_ROWS - 1])
    padded = np.isin(np.arange(len(table)), (every + 2)[:PADDED_ROWS])
    email_hash, phone_hash = table["email_hash"], table["phone_hash"]
    email_hash = pc.if_else(upper_case, pc.utf8_upper(email_hash), email_hash)
    email_hash = pc.if_else(padded, pc.binary_join_element_wise(" ", email_hash, " ", ""), email_hash)
    phone_hash = pc.if_else(padded, pc.binary_join_element_wise("  ", phone_hash, ""), phone_hash)
    columns = {"lead_UUID": table["lead_UUID"], "phone_hash": phone_hash, "email_hash": email_hash}
    pq.write_table(pa.table(columns), folder / PARQUET_NAME)
    return count


# --- the command line -------------------------------------------------------------------------------------------------


@click.command()
@click.option(
    "--target", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the sample."
)
@click.option("--scale", default=1.0, show_default=True, help="Multiplies leads and rows per day.")
@click.option("--days", default=DEFAULT_DAYS, show_default=True, help="Number of daily CSV files.")
@click.option("--seed", default=DEFAULT_SEED, show_default=True, help="Other seeds make other samples.")
def main(target: Path, scale: float, days: int, seed: int) -> None:
    """Write sample data: daily CRM snapshots as CSV, and the backend's leads as parquet."""
    try:
        sample = ensure_sample(target, scale=scale, days=days, seed=seed)
    except (PipelineError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(sample)


if __name__ == "__main__":
    main()
