"""Random snapshots and leads of a few people."""

from __future__ import annotations

import random

from support import Bucket

PEOPLE = 12
APPOINTMENTS = ("", "12/13/2022  1:00PM", "12/13/2022  2:00PM", "12/14/2022", "01/02/2023  1:00PM")


def random_day(rng: random.Random, *, rows: int = 25) -> list[dict[str, str]]:
    """Draw rows of a few people who share hashes and lead numbers; rows stay, change, disappear and return."""
    return [random_row(rng) for _ in range(rows)]


def random_row(rng: random.Random) -> dict[str, str]:
    person = rng.randrange(PEOPLE)
    return {
        "LEADNUMBER": rng.choice((str(person), str(person), str(person + 100), "7", "")),
        "email_hash": rng.choice((f"e{person}", f"E{person} ", f"e{(person + 1) % PEOPLE}", "")),
        "phone_hash": rng.choice((f"p{person}", f"p{person}", f"p{(person + 2) % PEOPLE}", "")),
        "Dispo": rng.choice(("Data", "Data", "Sale", "")),
        "Set": rng.choice("011"),
        "Appt Date": rng.choice(APPOINTMENTS),
        "CITY": rng.choice(("Boise", "Boise", "Reno")),
    }


def put_random_leads(bucket: Bucket, rng: random.Random, count: int = PEOPLE + 3) -> None:
    """Upload leads: some are not in the CRM, some lead_uuids are duplicated, some hashes are shared."""
    leads: list[tuple[str | None, str | None, str | None]] = [
        (f"lead {number}", f"p{number}", f"e{number}") for number in range(count)
    ]
    leads += [(f"lead {rng.randrange(PEOPLE)}", f"p{rng.randrange(PEOPLE)}", f"e{number}") for number in range(4)]
    bucket.put_leads(leads)


def steady_days(rng: random.Random, count: int) -> list[list[dict[str, str]]]:
    """Draw days that differ from the day before by a few missing, changed or new rows."""
    days = [random_day(rng, rows=30)]
    ever = list(days[0])
    for _ in range(count - 1):
        rows = [row for row in days[-1] if rng.random() < 0.9]
        rows += [random_row(rng) for _ in range(2)] + rng.sample(ever, 2)
        ever += rows
        days.append(rows)
    return days
