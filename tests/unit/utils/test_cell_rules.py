"""Clean single columns (specification §5, docs/decisions/0003): one example at a time."""

from __future__ import annotations

from string import ascii_uppercase

import pytest
from cleaning import Cases, bronze, clean_value, clean_values, reject_reason, reject_reasons, values

from etl.utils.cell_rules import USPS_STATES
from etl.utils.transform import clean_csv

# --- Dates and times --------------------------------------------------------------------------------------------------


def test_date_in_each_of_three_layouts_is_parsed() -> None:
    cases: Cases = {
        "02/05/2023": "2023-02-05",
        "2023-02-05": "2023-02-05",
        "05-02-2023": "2023-02-05",
        "  02/05/2023 ": "2023-02-05",
        "\xa002/05/2023\u3000": "2023-02-05",
        "02/05/2023 17:30": "2023-02-05",
        "2/5/2023": "2023-02-05",
        "12/5/2023 1:00": "2023-12-05",
        "2/15/2023 13:00": "2023-02-15",
        "2023-02-05T17:30:00.000Z": "2023-02-05",
        "2023-02-05T17:30:00+02:00": "2023-02-05",
        "2023-02-05 17:30:00.123456789 -0530": "2023-02-05",
        "2023-02-05T17:30:00.123": "2023-02-05",
        "05-02-2023  5:30 pm": "2023-02-05",
        "02/29/2024": "2024-02-29",
        "02/29/2000": "2000-02-29",
        "12/31/9999": "9999-12-31",
        "01/01/0001": "0001-01-01",
    }
    assert clean_values("ENTRYDATE", "entry_date", cases) == cases


def test_date_that_does_not_exist_is_null() -> None:
    written = (
        "02/29/2023 02/29/1900 02/30/2024 04/31/2023 13/01/2023 00/10/2023 01/00/2023 01/32/2023 2023-13-01 31-04-2023 "
        "01/01/0000 00/00/0000".split()
    )
    assert clean_values("ENTRYDATE", "entry_date", written) == dict.fromkeys(written)


def test_date_in_any_other_layout_is_null() -> None:
    written = [
        "2023-2-5",
        "5-2-2023",
        "2/5/23",
        "/5/2023",
        "002/05/2023",
        "02/05/23",
        "2023/02/05",
        "02.05.2023",
        "20230205",
        "02-05/2023",
        "Feb 5, 2023",
        "02/05/2023x",
        "x02/05/2023",
        "02/05/2023 soon",
        "02/05/20231:00PM",
        "44962",
        "nu",
        "\u0660\u0662/\u0660\u0665/\u0662\u0660\u0662\u0663",
    ]
    assert clean_values("ENTRYDATE", "entry_date", written) == dict.fromkeys(written)


def test_month_comes_first_with_slashes_and_day_with_dashes() -> None:
    assert clean_value("entry_date", ENTRYDATE="03/04/2023") == "2023-03-04"
    assert clean_value("entry_date", ENTRYDATE="03-04-2023") == "2023-04-03"


def test_time_of_appointment_is_kept_next_to_its_date() -> None:
    cases: Cases = {
        "12/13/2022  1:00PM": "13:00:00",
        "01/02/2023  5:30PM": "17:30:00",
        "01/02/2023 5:30 pm": "17:30:00",
        "01/02/2023 5:30am": "05:30:00",
        "01/02/2023 12:00AM": "00:00:00",
        "01/02/2023 12:00PM": "12:00:00",
        "01/02/2023 11:59:59Pm": "23:59:59",
        "01/02/2023 00:00": "00:00:00",
        "01/02/2023 9:05": "09:05:00",
        "01/02/2023 23:59:59": "23:59:59",
        "2023-01-02T17:30:15": "17:30:15",
        "2023-01-02 17:30:15.999999": "17:30:15.999999",
        "2023-01-02T17:30:15.050Z": "17:30:15.05",
        "2023-01-02T17:30:15.000Z": "17:30:15",
        "2023-01-02 23:59:59.999999999": "23:59:59.999999",
        "02-01-2023\t17:30": "17:30:00",
        "01/02/2023\xa05:30\u202fPM": "17:30:00",
    }
    assert clean_values("APPT_DATE", "appt_time", cases) == cases
    assert None not in clean_values("APPT_DATE", "appt_date", cases).values()


def test_appointment_without_time_of_day_has_a_null_time() -> None:
    clean = clean_csv(bronze({"APPT_DATE": "12/13/2022"})).rows
    assert values(clean["appt_date"]) == ["2022-12-13"]
    assert values(clean["appt_time"]) == [None]


def test_appointment_with_invalid_time_has_null_date_and_time() -> None:
    written = [
        "12/13/2022 24:00",
        "12/13/2022 10:60",
        "12/13/2022 10:00:60",
        "12/13/2022 13:00PM",
        "12/13/2022 0:30AM",
        "12/13/2022 1PM",
        "12/13/2022 1:5PM",
        "12/13/2022 1:00P",
        "12/13/2022 1:00 p.m.",
        "12/13/2022 001:00",
        "12/13/2022 10:00+2",
        "12/13/2022Z",
        "12/13/2022 10:00ZZ",
        "12/13/2022 10:00:00.",
        "12/13/2022 10:00:00.1234567890",
        "12/13/2022 10:00.5",
        "12/13/2022TT10:00",
        "12/13/2022T 10:00",
        "12/13/2022_10:00",
        "02/30/2023 10:00",
    ]
    assert clean_values("APPT_DATE", "appt_date", written) == dict.fromkeys(written)
    assert clean_values("APPT_DATE", "appt_time", written) == dict.fromkeys(written)


def test_nu_appointment_is_rejected() -> None:
    assert reject_reason(APPT_DATE="nu") == "APPT_DATE is 'nu'"
    assert reject_reason(APPT_DATE=" nu  ") == "APPT_DATE is 'nu'"


def test_appointment_similar_to_nu_is_null() -> None:
    written = ["NU", "Nu", "nul", "n u"]
    assert clean_values("APPT_DATE", "appt_date", written) == dict.fromkeys(written)


# --- State and ZIP ----------------------------------------------------------------------------------------------------


def test_usps_codes_are_states_district_and_territories() -> None:
    codes = {
        *("ME", "NH", "VT", "MA", "RI", "CT", "NY", "NJ", "PA"),
        *("DE", "MD", "VA", "WV", "NC", "SC", "GA", "FL", "AL", "MS", "TN", "KY", "AR", "LA", "OK", "TX"),
        *("OH", "IN", "IL", "MI", "WI", "MN", "IA", "MO", "ND", "SD", "NE", "KS"),
        *("MT", "WY", "CO", "NM", "ID", "UT", "AZ", "NV", "WA", "OR", "CA", "AK", "HI"),
        *("DC", "PR", "VI", "GU", "AS", "MP"),
    }
    assert codes == USPS_STATES
    every_pair = [first + second for first in ascii_uppercase for second in ascii_uppercase]
    own = clean_values("STATE", "state", every_pair, location=None)
    assert {code for code, state in own.items() if state == code} == codes
    assert set(own.values()) == {*codes, None}


def test_invalid_state_is_taken_from_the_location() -> None:
    cases = {
        ("WA", "Las Vegas | NV"): "WA",
        (" WA\xa0", None): "WA",
        (None, "Las Vegas | NV"): "NV",
        ("  ", "Las Vegas | NV"): "NV",
        ("nu", "Las Vegas | NV"): "NV",
        ("nv", "Reno | CA"): "CA",
        ("XX", "Las Vegas | NV"): "NV",
        ("WAA", "Las Vegas | NV"): "NV",
        ("nan", "  Las Vegas |NV  "): "NV",
        (None, "Las Vegas |\u3000NV"): "NV",
        (None, "CA | Las Vegas | NV"): "NV",
        (None, "| NV"): "NV",
        (None, '" |   "'): None,
        (None, " |   "): None,
        (None, " | nu"): None,
        (None, "Las Vegas | nv"): None,
        (None, "Las Vegas | XX"): None,
        (None, "Las Vegas | NVX"): None,
        (None, "Las Vegas | N V"): None,
        (None, "Las Vegas | NV | nu"): None,
        (None, "Las Vegas, NV"): None,
        (None, "NV"): None,
        (None, "nan"): None,
        ("nu", None): None,
        ("washington", None): None,
        ("\uff37\uff21", None): None,
    }
    clean = clean_csv(bronze(*({"STATE": state, "location": location} for state, location in cases)))
    assert dict(zip(cases, values(clean.rows["state"]), strict=True)) == cases


def test_zip_is_five_digits_or_null() -> None:
    cases: Cases = {
        "98311": "98311",
        "02139": "02139",
        "00501": "00501",
        " 02139 ": "02139",
        "098311": "98311",
        "0000098311": "98311",
        "002139": "02139",
        "98311-1234": "98311",
        "02139-1234": "02139",
        "098311-1234": "98311",
        "0": None,
        "0000": None,
        "2139": None,
        "983111": None,
        "983111234": None,
        "98311-": None,
        "98311-123": None,
        "98311-12345": None,
        "98311 1234": None,
        "98311.0": "98311",
        "02139.00": "02139",
        "2139.0": None,
        "98311.5": None,
        "98311-1234.0": None,
        "-98311": None,
        "9831a": None,
        "K1A 0B1": None,
        "nu": None,
        "\u0669\u0668\u0663\u0661\u0661": None,
        "\uff1983\uff11\uff11": None,
    }
    assert clean_values("ZIP", "zip", cases) == cases


# --- Lead number and flags --------------------------------------------------------------------------------------------


def test_lead_number_that_fits_32_bits_is_kept() -> None:
    cases: Cases = {
        "0": "0",
        " 217893\t": "217893",
        "2147483647": "2147483647",
        "-2147483648": "-2147483648",
        "+12": "+12",
        "00000000000000000012": "00000000000000000012",
        "-0": "-0",
        None: None,
    }
    assert clean_values("LEADNUMBER", "lead_number", cases) == cases


def test_lead_number_that_is_not_a_32_bit_integer_is_rejected() -> None:
    written = [
        "2147483648",
        "-2147483649",
        "9999999999",
        "10000000000",
        "1" * 400,
        "12.5",
        "12.",
        "2147483648.0",
        "1e3",
        "1,000",
        "1_000",
        "0x1F",
        "--1",
        "+",
        "- 1",
        "1 2",
        "1\n2",
        "A217893",
        "nu",
        "\u0661\u0662",
        "\xb2",
    ]
    reason = "LEADNUMBER is not a 32-bit integer"
    assert reject_reasons("LEADNUMBER", written) == dict.fromkeys(written, reason)


@pytest.mark.parametrize("column", ["Set", "Demo"])
def test_flag_becomes_one_or_zero(column: str) -> None:
    cases: Cases = {"0": "0", "1": "1", "True": "1", "False": "0", " True\t": "1", "0 ": "0", "": None}
    cases |= {"TRUE": "1", "FALSE": "0", "true": "1", "fALSE": "0", "1.0": "1", "0.0": "0"}
    assert clean_values(column, column.lower(), cases) == cases


@pytest.mark.parametrize("column", ["Set", "Demo"])
def test_invalid_flag_is_rejected(column: str) -> None:
    written = ["2", "-1", "01", "1.5", "1.00", "t", "yes", "T", "nu", "\uff11"]
    reason = f"{column} is not one of 0, 1, True, False"
    assert reject_reasons(column, written) == dict.fromkeys(written, reason)
