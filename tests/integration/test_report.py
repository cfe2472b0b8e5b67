"""`python main.py --report` writes one page about gold that opens offline and fits phones, desktops and paper."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import axe_core, chromium
from support import PROJECT, Bucket, environment_of, run_python

from etl.engine.run_report import RunReport
from etl.local.embedded import stop_postgres
from etl.reporting.report import REPORT, write_report
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from conftest import Demo
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def report(demo: Demo) -> Path:
    """Write the report of the demo with its two commands."""
    done = demo.run()
    assert done.returncode == 0, done.stderr
    done = demo.run("--report")
    assert (done.returncode, done.stdout) == (0, f"Report written to {REPORT}\n"), done.stderr
    return demo.folder / REPORT


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    """Return the text of the page, without tags."""
    body = re.sub(r"<style>.*?</style>", "", report.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_report_has_kpis_sentences_and_tables(text: str, demo: Demo) -> None:
    assert "22 snapshots, 1 October 2024 to 22 October 2024" in text
    assert "3,599 leads in the latest snapshot of 4,347 ever seen" in text
    assert "5.1 became high quality a day, on average 71 leads after the first day, without affected days" in text
    assert "15.1 % were of high quality on the last day with sound flags (2024-10-15)" in text
    assert "of the leads in that snapshot; now: 2.0 %, 86 of 4,347 leads ever seen" in text
    assert "98.7 % of rows match on both hashes 115 rows without a lead" in text
    assert "After the first day (without 7 days, because of anomalies), 71 leads became high quality" in text
    (run_id,) = demo.query("select run_id::text from meta.pipeline_runs order by started_at desc limit 1")[0]
    assert f"last run {run_id}, complete, ended 20" in text


def test_report_lists_refusals_rejects_drift_and_suspect_hashes(text: str) -> None:
    assert "The last run refused no file." in text
    assert "No row is rejected." in text
    assert "3 columns drifted: STATE (empty), location (empty), Set (never 1)." in text
    assert "Set never 1 2024-10-16 to 2024-10-22" in text
    assert "has Demo = 1" not in text
    assert "Suspect: 1 hash." in text


def test_report_without_settings_uses_the_local_demo_even_if_it_is_stopped(report: Path, demo: Demo) -> None:
    report.unlink()
    stop_postgres(demo.folder / ".local")
    done = run_python(demo.folder, "main.py", "--report", environment={})
    assert done.returncode == 0, done.stderr
    assert report.exists()


def test_incomplete_settings_are_an_error_next_to_a_demo(report: Path, demo: Demo) -> None:
    del report
    done = run_python(demo.folder, "main.py", "--report", environment={"POSTGRES_HOST": "warehouse.invalid"})
    assert done.returncode == 1
    assert "missing settings: POSTGRES_USER" in done.stderr


def test_report_runs_no_step_and_refuses_options_of_steps(report: Path, demo: Demo) -> None:
    del report
    runs = demo.query("select count(*) from meta.pipeline_runs")
    done = demo.run("--report", "--full-refresh")
    assert done.returncode == 1
    assert "--report runs no step" in done.stderr
    assert demo.query("select count(*) from meta.pipeline_runs") == runs


def test_report_without_gold_is_an_error_with_a_hint(settings: Settings, tmp_path: Path) -> None:
    done = run_python(tmp_path, "main.py", "--report", environment=environment_of(settings))
    assert done.returncode == 1
    assert "gold.lead_quality_matching" in done.stderr
    assert "python main.py --from-step 1" in done.stderr
    assert not (tmp_path / REPORT).exists()


def test_report_of_an_empty_gold_is_written(
    settings: Settings, run_pipeline: Callable[..., RunReport], tmp_path: Path
) -> None:
    assert run_pipeline(only_step=1).error is None
    assert run_pipeline(only_step=5).error is None
    page = write_report(settings, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No snapshot yet" in page
    assert "There are no rows yet." in page


def test_report_escapes_markup_in_data(
    settings: Settings, run_pipeline: Callable[..., RunReport], bucket: Bucket, tmp_path: Path
) -> None:
    markup = "<script>alert(1)</script>"
    bucket.put_snapshot(1, [{"Dispo": "Data"}])
    bucket.put_snapshot(2, [{"Dispo": markup, "Set": "0"}])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run_pipeline().error is None
    page = write_report(settings, tmp_path / "page.html").read_text(encoding="utf-8")
    assert markup not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "no row of these snapshots has Set = 1: 2024-10-02" in page


class Outline(HTMLParser):
    """Headings and texts of charts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.alts: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "svg":
            self.alts.append(dict(attributes).get("aria-label"))


def test_headings_are_nested_and_each_chart_has_a_text(report: Path) -> None:
    outline = Outline(report.read_text(encoding="utf-8"))
    assert outline.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert len(outline.alts) >= 2 * 13, "wide and narrow"
    assert all(alt and len(alt) > 20 for alt in outline.alts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


SIZES = {"phone": (390, 844), "desk": (1440, 900)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_report_in_a_browser_loads_nothing_and_fits_the_window(
    browser: Browser, report: Path, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    shown = page.evaluate("Array.from(document.querySelectorAll('svg'), chart => chart.checkVisibility())")
    assert shown.count(True) == shown.count(False) >= 13, "either the wide or the narrow one"
    assert scroll_width(page) <= width
    page.close()


def test_printed_report_is_light_and_shows_every_row(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 700, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(report.as_uri())
    assert scroll_width(page) <= 700
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "Array.from(document.querySelectorAll('td')).filter(cell => !cell.checkVisibility()).length"
    assert page.evaluate(hidden) == 0
    page.close()


@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("desk", "dark")])
def test_report_has_no_accessibility_violations(browser: Browser, report: Path, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    script = axe_core()
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    page.evaluate(script)
    result = page.evaluate("axe.run()")
    assert [(found["id"], found["nodes"][0]["html"]) for found in result["violations"]] == []
    assert len(result["passes"]) > 20
    page.close()


def test_tables_are_downloaded_as_csv_with_all_rows(browser: Browser, report: Path, demo: Demo) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    links = page.locator("a.csv")
    assert links.count() >= 19
    with page.expect_download() as download:
        page.get_by_label("Download as CSV: How many leads are there each day, and how many of them are new?").click()
    assert download.value.suggested_filename == "leads_per_day.csv"
    rows = demo.query("select _partition_date::text, total_leads::text from gold.leads_per_day order by 1")
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        assert [(row["_partition_date"], row["total_leads"]) for row in csv.DictReader(file)] == rows
    page.close()


def test_day_under_the_pointer_shows_its_value(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(report.as_uri())
    assert page.evaluate(UNDER_THE_POINTER) == "2 October 2024: became high quality 9"
    page.close()


UNDER_THE_POINTER = """
() => {
    const day = Array.from(document.querySelectorAll('svg.wide title'))
        .find(title => title.textContent.startsWith('2 October 2024: became high quality')).parentElement
    day.scrollIntoView({block: 'center'})
    const {x, y, width, height} = day.getBoundingClientRect()
    const found = document.elementFromPoint(x + width / 2, y + height / 2)
    return found.closest('g:has(> title)')?.firstChild.textContent ?? found.outerHTML
}
"""


def test_every_part_is_reached_by_keyboard_with_a_visible_focus(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(report.as_uri())
    reached = set()
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement !== document.body"):
        name, outline = page.evaluate(
            "[document.activeElement.getAttribute('aria-label') || document.activeElement.textContent, "
            "getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.add(name.strip())
        assert outline == "solid", name
        page.keyboard.press("Tab")
    assert {"Quality", "22 rows", "Table: How much relies on suspect matches?"} <= reached
    assert len([name for name in reached if name.startswith("Download as CSV: ")]) == page.locator("a.csv").count()
    page.close()


def test_printed_page_breaks_cut_no_sentence(browser: Browser, report: Path, tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on PATH: apt-get install poppler-utils")
    page = browser.new_page()
    page.goto(report.as_uri())
    page.pdf(path=tmp_path / "page.pdf", format="A4", prefer_css_page_size=True)
    sentences = [_without_line_breaks(text) for text in page.locator("p").all_inner_texts()]
    page.close()
    subprocess.run(["pdftotext", "-layout", "page.pdf", "page.txt"], cwd=tmp_path, check=True)
    printed = [_without_line_breaks(text) for text in (tmp_path / "page.txt").read_text(encoding="utf-8").split("\f")]
    assert 5 < len(printed) < 20
    assert [sentence for sentence in sentences if not any(sentence in text for text in printed)] == []


def _without_line_breaks(text: str) -> str:
    return " ".join(text.split()).replace("- ", "-")  # a line may end after the hyphen of a date


def scroll_width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_sufficient_contrast(browser: Browser, report: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(report.as_uri())
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5
    page.close()


LOWEST_CONTRAST = """
() => {
    const channels = text => text.match(/[\\d.]+/g).map(Number)
    const luminance = ([red, green, blue]) => [red, green, blue]
        .map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0)
    const behind = element => {
        const colour = channels(getComputedStyle(element).backgroundColor)
        return colour.length === 4 && colour[3] === 0 ? behind(element.parentElement) : colour
    }
    const says = element => Array.from(element.childNodes).some(node => node.nodeType === 3 && node.textContent.trim())
    const contrasts = Array.from(document.body.querySelectorAll('*')).filter(says).map(element => {
        const both = [luminance(channels(getComputedStyle(element).color)), luminance(behind(element))]
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)
    })
    return Math.min(...contrasts)
}
"""


def test_report_folder_is_ignored_by_git() -> None:
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"{REPORT.parent}/" in ignored
