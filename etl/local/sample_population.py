"""Draw the population of a sample: lead numbers, the days on which they appear and disappear, and their outcomes.

Days are numbered like the files: day 1 is FIRST_SNAPSHOT; earlier days are 0 and negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.local import sample_shape as shape

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
DRAWS = (
    "number", "order", "entry", "late", "lateness", "leaving early", "leaving", "gap", "gap day", "gap length",
    "city", "form", "zip", "in parquet", "earlier lead", "other earlier lead",
    "outcome", "delay", "moved", "move", "hour", "ladder",
)  # fmt: skip
"""Names of the random numbers in [0, 1) that are drawn for each lead number, in addition to its ids."""
EMAIL_BYTES, PHONE_BYTES, UUID_BYTES = slice(0, 20), slice(20, 40), slice(40, 56)
ID_WORDS = 7  # of 64 bits: two SHA-1 digests and a UUID


@dataclass(frozen=True)
class Draw:
    """Random numbers of a group of leads: those of DRAWS, and the bytes of their ids."""

    uniform: dict[str, npt.NDArray[np.float64]]
    ids: ByteArray

    def below(self, name: str, limit: int | IntArray) -> IntArray:
        """Return an integer from 0 to `limit` - 1 for each lead."""
        numbers: IntArray = (self.uniform[name] * limit).astype(np.int64)
        return numbers

    def weighted(self, name: str, weights: Iterable[int]) -> IntArray:
        """Return an index of `weights` for each lead, with a probability proportional to the weight."""
        ends = np.cumsum([*weights])
        positions: IntArray = np.searchsorted(ends, self.below(name, ends[-1]), side="right")
        return positions

    def happens(self, name: str, share: float) -> BoolArray:
        """Return a boolean for each lead, which is True with the probability `share`."""
        chosen: BoolArray = self.uniform[name] < share
        return chosen


@dataclass(frozen=True)
class Fates:
    """The outcome of each lead number, the days on which its status changes, and its appointments.

    Appointments are codes: see `Population.appointments`.
    """

    outcome: IntArray
    """Index of a disposition among those of `outcomes`, in order."""
    booking_day: IntArray
    move_day: IntArray
    outcome_day: IntArray
    first_appointment: IntArray
    appointment: IntArray
    ladder: IntArray
    """Index in `JOB_LADDERS`."""


@dataclass(frozen=True)
class Population:
    """All lead numbers of all days, one array element each, in order of arrival; and the backend's clean leads.

    `order` is the order of rows in the files. A lead number is in the snapshots from its arrival to the day before its
    departure, except from `gap_day` to the day before `return_day`.
    """

    arrival_day: IntArray
    departure_day: IntArray
    gap_day: IntArray
    return_day: IntArray
    order: IntArray
    fixed: pa.Table
    """Columns that are the same on all days: `ENTRYDATE LEADNUMBER email_hash phone_hash CITY STATE ZIP location`."""
    fates: Fates
    appointments: pa.StringArray
    """Text of each appointment, by its code in `fates`."""
    leads: pa.Table


def _draw(seed: int, counts: Mapping[int, int]) -> Draw:
    """Draw random numbers for groups of leads, each from its own stream, so that a longer sample only adds groups.

    Args:
        counts: number of a group → its number of leads.
    """
    width = len(DRAWS) + ID_WORDS
    streams = ((np.random.PCG64(np.random.SeedSequence((seed, group))), count) for group, count in counts.items())
    words = np.concatenate([stream.random_raw(count * width) for stream, count in streams]).reshape(-1, width)
    fractions = (words[:, : len(DRAWS)] >> np.uint64(11)) * 2.0**-53
    ids = np.ascontiguousarray(words[:, len(DRAWS) :], dtype="<u8").view(np.uint8)
    return Draw(dict(zip(DRAWS, fractions.T, strict=True)), ids)


def draw_population(scale: float, horizon: int, seed: int) -> Population:
    """Draw all lead numbers of the snapshots of days 1 to `horizon` + 1, and the backend's leads on day `horizon`."""
    arrived = _scaled(np.cumsum([shape.LEADS_PER_DAY[0], *np.resize(shape.ARRIVALS_PER_DAY, horizon)]), scale)
    arrivals = np.diff(arrived, prepend=0)
    draw = _draw(seed, dict(enumerate(arrivals.tolist(), 1)))
    arrival_day = np.repeat(np.arange(1, horizon + 2), arrivals)
    entry_day = _entry_days(draw, arrival_day, int(arrivals[0]))
    gap_day, return_day = _gaps(draw, arrival_day)
    place, zip_code = _places(draw)
    email_hash, phone_hash, leads = _identities(draw, arrival_day, horizon, scale, seed)
    days = range(EARLIEST_DAY, horizon + shape.LONGEST_DELAY + 1)
    dates = [f"{shape.FIRST_SNAPSHOT + timedelta(days=day - 1):%m/%d/%Y}" for day in days]
    written = [(form.format(city.name), city.state) for form in shape.CITY_FORMS for city in shape.cities()]
    places = written + [(odd.city, odd.state) for odd in shape.ODD_PLACES]
    zips = [f"{city.first_zip + turn:05d}" for city in shape.cities() for turn in range(city.zips)]
    fixed = {
        "ENTRYDATE": pa.array(dates).take(entry_day - EARLIEST_DAY),
        "LEADNUMBER": pa.array(
            shape.FIRST_LEAD_NUMBER + np.cumsum(1 + draw.below("number", shape.LARGEST_NUMBER_STEP))
        ),
        "email_hash": email_hash,
        "phone_hash": phone_hash,
        "CITY": pa.array([city for city, _ in places]).take(place),
        "STATE": pa.array([state for _, state in places]).take(place),
        "ZIP": pa.array(zips + [odd.zip for odd in shape.ODD_PLACES]).take(zip_code),
        "location": pa.array([f"{city} | {state}" for city, state in places]).take(place),
    }
    return Population(
        arrival_day=arrival_day,
        departure_day=_departure_days(draw, arrival_day, arrived, scale),
        gap_day=gap_day,
        return_day=return_day,
        order=np.argsort(draw.uniform["order"], kind="stable"),
        fixed=pa.table(fixed),
        fates=_fates(draw, entry_day),
        # The CRM right-aligns the time in seven characters: two blanks precede a one-digit hour.
        appointments=pa.array([f"{day} {time:>7}" for day in dates for time in shape.APPOINTMENT_TIMES]),
        leads=leads,
    )


def _scaled(totals: IntArray, scale: float) -> IntArray:
    """Scale cumulative totals: their rounding errors are at most one half, but those of daily counts would add up."""
    rounded: IntArray = np.rint(totals * scale).astype(np.int64)
    return rounded


def _spread(counts: Sequence[int], positions: IntArray) -> IntArray:
    """Return marks: of each LEAD_NUMBERS positions, `counts[0]` have 1, `counts[1]` have 2 and so on, all others 0.

    Marks are spread evenly: random ones would leave some samples without the rarest irregularities.
    """
    turns = sorted(((turn + 0.5) / count, mark) for mark, count in enumerate(counts, 1) for turn in range(count))
    marks = np.array([mark for _, mark in turns])
    before, after = positions * len(marks) // shape.LEAD_NUMBERS, (positions + 1) * len(marks) // shape.LEAD_NUMBERS
    return np.where(after > before, marks[before % len(marks)], 0)


def _entry_days(draw: Draw, arrival_day: IntArray, stock: int) -> IntArray:
    """Return entry days: of arrivals of day 1, spread over the window; of others, up to 20 days before arrival."""
    elapsed = (np.arange(len(arrival_day)) * shape.WINDOW_DAYS + draw.below("entry", 3 * stock)) // stock
    lateness = shape.SHORTEST_LATENESS + draw.below("lateness", shape.LONGEST_LATENESS - shape.SHORTEST_LATENESS + 1)
    return np.where(
        arrival_day == 1,
        1 - np.clip(shape.WINDOW_DAYS - elapsed, 0, shape.WINDOW_DAYS - 1),
        arrival_day - np.where(draw.happens("late", shape.LATE_SHARE), lateness, draw.below("entry", 2)),
    )


def _departure_days(draw: Draw, arrival_day: IntArray, arrived: IntArray, scale: float) -> IntArray:
    """Return departure days, roughly in order of arrival.

    They leave `LEADS_PER_DAY`, then `SETTLED_LEADS_PER_DAY` lead numbers (times `scale`) in the snapshots.
    """
    settled = np.resize(shape.SETTLED_LEADS_PER_DAY, len(arrived))
    present = np.array([*shape.LEADS_PER_DAY, *settled][: len(arrived)])
    departed = np.maximum.accumulate(arrived - _scaled(present, scale))

    # A lead number must not move ahead of so many others that it departs before it arrives: at scale 1, about 3,650.
    late, early = 300 * draw.uniform["leaving"], 200 + 3100 * draw.uniform["leaving"]
    turn = np.where(draw.happens("leaving early", shape.LEAVING_EARLY_SHARE), -early, late) * scale
    queue = np.argsort(np.arange(len(arrival_day)) + turn, kind="stable")
    departure_day = 1 + np.searchsorted(departed, np.argsort(queue), side="right")  # by each lead's rank in the queue
    return np.maximum(departure_day, arrival_day + 1)


def _gaps(draw: Draw, arrival_day: IntArray) -> tuple[IntArray, IntArray]:
    """Return the first day of each lead number's gap and the first day after it; equal days if it has none."""
    gap_day = arrival_day + 1 + draw.below("gap day", shape.GAP_WITHIN_DAYS)
    length = np.where(draw.happens("gap", shape.GAP_SHARE), 1 + draw.below("gap length", shape.LONGEST_GAP), 0)
    return gap_day, gap_day + length


def _places(draw: Draw) -> tuple[IntArray, IntArray]:
    """Return the index of each lead number's place, and that of its ZIP, in the lists that `draw_population` builds.

    In both lists, the entries of ODD_PLACES come last.
    """
    city = draw.weighted("city", (city.weight for city in shape.cities()))
    form = draw.weighted("form", shape.CITY_FORMS.values())
    zips = np.array([city.zips for city in shape.cities()])
    first_zip = np.cumsum(zips) - zips

    # Shifted against the lead kinds, so that both irregularities do not always hit the same lead numbers.
    odd = _spread([place.numbers for place in shape.ODD_PLACES], np.arange(len(city)) + shape.LEAD_NUMBERS // 2)
    place = np.where(odd > 0, len(shape.CITY_FORMS) * len(shape.cities()) + odd - 1, form * len(shape.cities()) + city)
    zip_code = np.where(odd > 0, zips.sum() + odd - 1, first_zip[city] + draw.below("zip", zips[city]))
    return place, zip_code


def _fates(draw: Draw, entry_day: IntArray) -> Fates:
    # Multiplication, because pow() may round differently on another machine.
    delay_share = draw.uniform["delay"] * draw.uniform["delay"] * draw.uniform["delay"]
    delay = 1 + (delay_share * shape.LONGEST_DELAY).astype(np.int64)
    booking_day, outcome_day = entry_day + delay * 2 // 5, entry_day + delay
    appointment_day = np.maximum(booking_day, outcome_day - 1)
    first_appointment_day = np.maximum(booking_day, appointment_day - 1 - draw.below("move", 6))
    hour = draw.weighted("hour", shape.APPOINTMENT_TIMES.values())
    first_hour = (hour + 1) % len(shape.APPOINTMENT_TIMES)
    return Fates(
        outcome=draw.weighted("outcome", (final.weight for final in shape.outcomes())),
        booking_day=booking_day,
        move_day=np.where(draw.happens("moved", shape.MOVED_SHARE), (booking_day + outcome_day + 1) // 2, booking_day),
        outcome_day=outcome_day,
        first_appointment=_appointment_code(first_appointment_day, first_hour),
        appointment=_appointment_code(appointment_day, hour),
        ladder=draw.weighted("ladder", shape.JOB_LADDERS.values()),
    )


def _identities(
    draw: Draw, arrival_day: IntArray, horizon: int, scale: float, seed: int
) -> tuple[pa.StringArray, pa.StringArray, pa.Table]:
    """Return the e-mail and phone hash of each lead number, and the leads in the parquet of day `horizon`."""
    position = np.arange(len(arrival_day))
    kinds = _spread([kind.numbers for kind in shape.LEAD_KINDS[1:]], position)
    in_backend = np.flatnonzero(kinds == 0)

    # Position of the lead number that owns each hash; the one past the end stands for the hash of no value.
    before = np.maximum(np.cumsum(kinds == 0) - (kinds == 0), 1)
    earlier = draw.below("earlier lead", before)
    other = (earlier + 1 + draw.below("other earlier lead", np.maximum(before - 1, 1))) % before
    owners: dict[shape.HashSource, IntArray] = {
        "own": position,
        "earlier lead": in_backend[earlier],
        "other earlier lead": in_backend[other],
        "no value": np.full_like(position, len(position)),
    }
    stock = in_backend[arrival_day[in_backend] == 1]
    email_owner = np.choose(kinds, [owners[kind.email] for kind in shape.LEAD_KINDS])
    phone_owner = np.choose(kinds, [owners[kind.phone] for kind in shape.LEAD_KINDS])
    email_hash = _hashes(draw.ids[:, EMAIL_BYTES], stock[len(stock) // 3]).take(email_owner)
    phone_hash = _hashes(draw.ids[:, PHONE_BYTES], stock[len(stock) * 2 // 3]).take(phone_owner)

    parquet_day = _parquet_days(draw, arrival_day)[in_backend]
    seen = int(np.sum(parquet_day <= shape.DEFAULT_DAYS))
    unseen = _draw(seed, {0: max(0, round(shape.BACKEND_LEADS * scale) - seen)}).ids
    in_parquet = in_backend[parquet_day <= horizon]
    leads = {
        "lead_UUID": [_uuids(draw.ids[in_parquet, UUID_BYTES]), _uuids(unseen[:, UUID_BYTES])],
        "phone_hash": [phone_hash.take(in_parquet), _hex(unseen[:, PHONE_BYTES])],
        "email_hash": [email_hash.take(in_parquet), _hex(unseen[:, EMAIL_BYTES])],
    }
    return email_hash, phone_hash, pa.table({name: pa.concat_arrays(parts) for name, parts in leads.items()})


def _parquet_days(draw: Draw, arrival_day: IntArray) -> IntArray:
    """Return the first day on which the parquet has each lead: the arrival day, or for some the day before or after."""
    ahead = draw.happens("in parquet", shape.AHEAD_SHARE)
    behind = ~draw.happens("in parquet", 1 - shape.BEHIND_SHARE) & (arrival_day > 1)
    return arrival_day - ahead + behind


def _hashes(digests: ByteArray, without_value: int) -> pa.StringArray:
    """Return the hash of each lead number, then that of no value, which also replaces the one at `without_value`."""
    no_value = np.frombuffer(bytes.fromhex(shape.NO_VALUE_HASH), dtype=np.uint8)
    digests = np.vstack([digests, no_value])
    digests[without_value] = no_value
    return _hex(digests)


def _hex(data: ByteArray) -> pa.StringArray:
    """Return each row of bytes as hexadecimal text."""
    return pa.array([row.tobytes().hex() for row in data], pa.string())


def _uuids(data: ByteArray) -> pa.StringArray:
    """Return each row of bytes as a random UUID (version 4)."""
    return pa.array([str(UUID(bytes=row.tobytes(), version=4)) for row in data], pa.string())


EARLIEST_DAY = 1 - shape.WINDOW_DAYS


def _appointment_code(day: IntArray, hour: IntArray) -> IntArray:
    return (day - EARLIEST_DAY) * len(shape.APPOINTMENT_TIMES) + hour
