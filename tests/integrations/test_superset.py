"""The dashboard of integrations/superset, in a Superset on this machine and a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import chromium
from support import PROJECT, Warehouse

from etl.reporting.answers import FLAGS, Anomalies

pytestmark = pytest.mark.integrations

SECONDS_TO_START = 240
SCREENSHOT = os.environ.get("SUPERSET_SCREENSHOT")
"""A file to which the dashboard is to be drawn: img/superset.png."""

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def superset(
    reader_environment: dict[str, str], tool: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Yield address and password of a new Superset with the dashboard."""
    home = tmp_path_factory.mktemp("superset")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = reader_environment | {"SUPERSET_HOME": str(home), "SUPERSET_PORT": str(port)}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [tool["superset"] / "python", PROJECT / "integrations" / "superset" / "serve.py"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + SECONDS_TO_START
        while not is_up(address):
            assert server.poll() is None, (home / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (home / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield address, (home / "admin_password").read_text()
    finally:
        server.terminate()
        server.wait(30)


def is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10) as response:
            return response.status == 200
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="module")
def charts(superset: tuple[str, str]) -> dict[str, Rows]:
    """Return the rows that each chart of the dashboard has got, by its title, as a browser shows the dashboard."""
    address, password = superset
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1640})
        answers = []
        page.on("response", lambda response: answers.append(response) if "/api/v1/chart/data" in response.url else None)
        page.goto(f"{address}/login/")
        page.fill("input[name=username], #username", "admin")
        page.fill("input[type=password]", password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        listed = page.request.get(f"{address}/api/v1/dashboard/lead_quality/charts").json()["result"]
        titles = {chart["id"]: chart["slice_name"] for chart in listed}
        page.goto(f"{address}/superset/dashboard/lead_quality/")
        page.wait_for_load_state("networkidle", timeout=60_000)
        rows = {}
        for answer in answers:
            (result,) = answer.json()["result"]
            assert result["error"] is None
            rows[titles[answer.request.post_data_json["form_data"]["slice_id"]]] = result["data"]
        assert set(rows) == set(titles.values())
        assert page.locator("[data-test=error-message], .ant-alert-error").count() == 0
        if SCREENSHOT:
            page.wait_for_timeout(3000)  # until charts have faded in
            page.screenshot(path=SCREENSHOT)
    return rows


def query(warehouse: Warehouse, question: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query of the report: a file in sql_scripts/analysis/."""
    return warehouse.rows((PROJECT / "sql_scripts" / "analysis" / f"{question}.sql").read_text(encoding="utf-8"))


def funnel(warehouse: Warehouse) -> list[int]:
    """Return the numbers of leads, appointments, demos and sales of all states."""
    _states, *counts = zip(*query(warehouse, "conversion_funnel_per_state"), strict=True)
    return [sum(column) for column in counts[:4]]


def milliseconds(moment: date | datetime) -> float:
    return pd.Timestamp(moment).timestamp() * 1000


def test_headlines_are_the_figures_of_the_report(charts: dict[str, Rows], warehouse: Warehouse) -> None:
    leads, appointments, demos, sales = funnel(warehouse)
    assert charts["Leads"] == [{"leads": leads}]
    assert charts["Appointments"] == [{"appointment_rate": pytest.approx(appointments / leads)}]
    assert charts["Demos"] == [{"demo_rate": pytest.approx(demos / leads)}]
    assert charts["Sales"] == [{"conversion_rate": pytest.approx(sales / leads)}]


def test_leads_per_day_are_those_of_the_report(charts: dict[str, Rows], warehouse: Warehouse) -> None:
    days = query(warehouse, "leads_per_day")
    assert charts["How many leads are there each day?"] == [
        {"_partition_date": milliseconds(day), "leads": leads} for day, leads, *_ in days
    ]
    assert charts["How many of them are new?"] == [
        {"_partition_date": milliseconds(day), "new_leads": new} for day, _, new, *_ in days[1:]
    ]


def test_quality_is_that_of_sound_days(charts: dict[str, Rows], warehouse: Warehouse) -> None:
    columns = ["_partition_date", "metric", "observed", "expected"]
    affected = Anomalies(pd.DataFrame(query(warehouse, "data_anomalies"), columns=columns)).days(FLAGS)
    leads = {day: count for day, count, *_ in query(warehouse, "leads_per_day")}
    sound = {
        day: (high, leads[day])
        for day, flag, high, _ in query(warehouse, "lead_quality_per_day")
        if flag == "High Quality" and day not in affected
    }
    assert 0 < len(sound) < len(leads)
    assert charts["How good are the leads, day by day?"] == [
        {"_partition_date": milliseconds(day), "high_quality_share": pytest.approx(high / all_leads)}
        for day, (high, all_leads) in sound.items()
    ]
    total = sum(high for high, _ in sound.values()) / sum(all_leads for _, all_leads in sound.values())
    assert charts["High quality"] == [{"high_quality_share": pytest.approx(total)}]


def test_distribution_and_funnel_are_those_of_the_report(charts: dict[str, Rows], warehouse: Warehouse) -> None:
    flags = {flag: now for flag, _, _, now in query(warehouse, "lead_quality_distribution")}
    assert {row["lead_quality_flag"]: row["leads"] for row in charts["How good are the leads now?"]} == flags

    stages = dict(zip(("leads", "appointment", "demo", "sale"), funnel(warehouse), strict=True))
    assert {row["stage"]: row["leads"] for row in charts["Where do leads get lost?"]} == stages

    states = query(warehouse, "conversion_funnel_per_state")
    found = charts["Where do leads get lost, state by state?"]
    assert {row["state"]: list(row.values())[1:] for row in found} == {
        state: pytest.approx([leads, *rates]) for state, leads, _, _, _, *rates in states
    }


def test_freshness_and_open_anomalies_are_shown(charts: dict[str, Rows], warehouse: Warehouse) -> None:
    ((run, latest, late, missing, anomalies),) = query(warehouse, "data_freshness")
    assert charts["How current and complete is the data?"] == [
        {
            "latest_snapshot": milliseconds(latest),
            "last_complete_run": pytest.approx(milliseconds(run), abs=1),
            "days_late": late,
            "missing_days": missing,
            "open_anomalies": anomalies,
        }
    ]
    expected = warehouse.rows(
        "select distinct on (metric) metric, min(_partition_date) over metrics, _partition_date, "
        "count(*) over metrics, message from gold.data_anomalies "
        "window metrics as (partition by metric) order by metric, _partition_date desc"
    )
    assert expected
    assert sorted(tuple(row.values()) for row in charts["Which days should not be trusted?"]) == [
        (metric, milliseconds(first), milliseconds(last), days, message)
        for metric, first, last, days, message in expected
    ]
