"""The cleaning rules of specification §5 in plain, slow Python, one row at a time."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Any

from cleaning import BLANKS

Row = dict[str, str | None]


NA_VALUES = {"", "nan", "None", "<NA>", "NaT"}

STATES = set(
    "AK AL AR AS AZ CA CO CT DC DE FL GA GU HI IA ID IL IN KS KY LA MA MD ME MI MN MO MP MS MT NC ND NE NH NJ NM NV NY "
    "OH OK OR PA PR RI SC SD TN TX UT VA VI VT WA WI WV WY".split()
)
MAX_LENGTH = {"email_hash": 255, "phone_hash": 255, "city": 100, "dispo": 50, "job_status": 100, "location": 255}


def expected_result(raw: Row) -> tuple[str, Any]:
    """Return the kind of a bronze row, and its invalid columns or its clean values.

    Kinds: `separator`, `rejected` or `row`.
    """
    if any(cell is not None and cell.strip() == "-----" for cell in raw.values()):
        return "separator", None

    # NA values are NULL; blanks around a date, number, flag, code or location are dropped.
    cell = {name: None if text is None or text.strip() in NA_VALUES else text for name, text in raw.items()}
    bare = {name: None if text is None else text.strip() for name, text in cell.items()}

    appointment_day, appointment_time = parse_timestamp(bare["APPT_DATE"])
    clean = {
        "entry_date": parse_timestamp(bare["ENTRYDATE"])[0],
        "lead_number": re.sub(r"^([+-]?[0-9]+)\.0+$", r"\1", bare["LEADNUMBER"]) if bare["LEADNUMBER"] else None,
        "email_hash": cell["email_hash"],
        "phone_hash": cell["phone_hash"],
        "city": cell["CITY"],
        "state": expected_state(bare["STATE"], bare["location"]),
        "zip": expected_zip(bare["ZIP"]),
        "appt_date": appointment_day,
        "appt_time": appointment_time,
        "set": expected_flag(bare["Set"]),
        "demo": expected_flag(bare["Demo"]),
        "dispo": cell["Dispo"],
        "job_status": cell["JOB_STATUS"],
        "location": bare["location"],
        "_extraction_date": cell["_extraction_date"],
        "_partition_date": cell["_partition_date"],
    }

    invalid = {name for name, limit in MAX_LENGTH.items() if clean[name] is not None and len(clean[name]) > limit}
    if bare["APPT_DATE"] == "nu":
        invalid.add("APPT_DATE")
    if clean["lead_number"] is not None and not is_int32(clean["lead_number"]):
        invalid.add("LEADNUMBER")
    if bare["LEADNUMBER"] is bare["email_hash"] is bare["phone_hash"] is None:
        filled = sum(bare[name] is not None for name in raw if not name.startswith("_"))
        many = "LEADNUMBER, email_hash and phone_hash have no value"
        invalid.add(many if filled > 1 else "no lead: at most one cell has a value")
    if clean["set"] not in ("0", "1", None):
        invalid.add("Set")
    if clean["demo"] not in ("0", "1", None):
        invalid.add("Demo")
    return ("rejected", invalid) if invalid else ("row", clean)


def is_digits(text: str, least: int, most: int) -> bool:
    return least <= len(text) <= most and all(letter in "0123456789" for letter in text)


def parse_timestamp(text: str | None) -> tuple[str | None, str | None]:
    """Return date and time of day as ISO text; both None if either is invalid."""
    if text is None:
        return None, None
    if slashes := re.match(r"([0-9]{1,2})/([0-9]{1,2})/", text):
        text = f"{int(slashes[1]):02}/{int(slashes[2]):02}/{text[slashes.end() :]}"
    day, rest = text[:10], text[10:]
    if day[2:3] == day[5:6] == "/":
        month_of_year, day_of_month, year = day[:2], day[3:5], day[6:]
    elif day[2:3] == day[5:6] == "-":
        day_of_month, month_of_year, year = day[:2], day[3:5], day[6:]
    elif day[4:5] == day[7:8] == "-":
        year, month_of_year, day_of_month = day[:4], day[5:7], day[8:]
    else:
        return None, None
    if not (is_digits(year, 4, 4) and is_digits(month_of_year, 2, 2) and is_digits(day_of_month, 2, 2)):
        return None, None
    try:
        on = date(int(year), int(month_of_year), int(day_of_month)).isoformat()
        return on, (time_of_day(rest) if rest else None)
    except ValueError:
        return None, None


def time_of_day(text: str) -> str:
    """Parse the text after a date, including its gap, into HH:MM:SS, with a fraction if it is not 0.

    Raises ValueError for an invalid time.
    """
    if text[0] == "T":
        clock = text[1:]
    elif text[0].isspace():
        clock = text.lstrip()
    else:
        raise ValueError("no gap between date and time")
    clock = re.sub(r"\s*([Zz]|[+-][0-9]{2}:?[0-9]{2})$", "", clock)
    half = clock[-2:].upper() if clock[-2:].isascii() else ""
    if half in ("AM", "PM"):
        clock = clock[:-2].rstrip()
    hour, minute, *seconds = clock.split(":")
    second, point, fraction = seconds[0].partition(".") if seconds else ("00", "", "")
    if not (is_digits(hour, 1, 2) and is_digits(minute, 2, 2) and is_digits(second, 2, 2) and len(seconds) <= 1):
        raise ValueError("not a time of day")
    if point and not is_digits(fraction, 1, 9):
        raise ValueError("not a fraction of a second")
    kept = f".{fraction[:6]}".rstrip("0").rstrip(".")
    if half not in ("AM", "PM"):
        return time(int(hour), int(minute), int(second)).isoformat() + kept
    if not 1 <= int(hour) <= 12:
        raise ValueError("not an hour of a 12-hour clock")
    hour_of_half = 0 if hour == "12" else int(hour)
    return time(hour_of_half + (12 if half == "PM" else 0), int(minute), int(second)).isoformat() + kept


def expected_state(state: str | None, location: str | None) -> str | None:
    if state in STATES:
        return state
    if location is not None and "|" in location:
        code = location.split("|")[-1].strip()
        return code if code in STATES else None
    return None


def expected_flag(text: str | None) -> str | None:
    flags = {"true": "1", "false": "0", "1.0": "1", "0.0": "0"}
    return None if text is None else flags.get(text.lower(), text)


def expected_nulled(raw: Row, clean: dict[str, Any]) -> dict[str, int]:
    """Return 1 for the columns of a row in which a value of bronze, other than a placeholder, became NULL."""
    columns = {
        "ENTRYDATE": ("entry_date", ""),
        "APPT_DATE": ("appt_date", ""),
        "STATE": ("state", "nu"),
        "ZIP": ("zip", "0"),
    }
    values = {name: (raw[name] or "").strip() for name in columns}
    return {
        silver: int(values[name] not in NA_VALUES | {placeholder} and clean[silver] is None)
        for name, (silver, placeholder) in columns.items()
    }


def expected_zip(text: str | None) -> str | None:
    if text is None:
        return None
    digits, dash, plus_4 = re.sub(r"\.0+$", "", text).partition("-") if "-" not in text else text.partition("-")
    if not is_digits(digits, 5, len(text)) or (dash and not is_digits(plus_4, 4, 4)):
        return None

    leading, five = digits[:-5], digits[-5:]
    return five if leading.strip("0") == "" else None


def is_int32(text: str) -> bool:
    digits = text[1:] if text[0] in "+-" else text
    return is_digits(digits, 1, len(text)) and -(2**31) <= int(text) < 2**31


LEAD_COLUMNS = ["lead_UUID", "phone_hash", "email_hash", "_extraction_date"]


def _trimmed(text: str) -> str:
    """Trim white space, zero-width characters and the byte order mark."""
    return text.strip(BLANKS + "\u200b\u200c\u200d\u2060\ufeff")


def expected_leads(raw: list[Row]) -> tuple[list[Row], dict[str, int]]:
    kept: list[Row] = []
    missing_id = duplicates = 0
    for lead in raw:
        if any(lead[name] is None or _trimmed(lead[name]) in NA_VALUES for name in LEAD_COLUMNS[:3]):
            missing_id += 1
            continue
        clean = {
            "lead_uuid": lead["lead_UUID"],
            "phone_hash": _trimmed(lead["phone_hash"]).lower(),
            "email_hash": _trimmed(lead["email_hash"]).lower(),
            "_extraction_date": lead["_extraction_date"],
        }
        if any(all(clean[name] == earlier[name] for name in list(clean)[:3]) for earlier in kept):
            duplicates += 1
            continue
        kept.append(clean)

    return kept, {"missing_id": missing_id, "duplicates": duplicates}
