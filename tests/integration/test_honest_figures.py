"""The sentences of the analysis on the real files, against SQL: no figure of a broken flag stands without its note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers import running_postgres

from etl.local.demo import demo_settings
from etl.reporting import report
from etl.reporting.analysis import analyse_gold
from etl.reporting.answers import Answer
from etl.reporting.reading import reading
from etl.reporting.report import write_report
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from conftest import Demo

BROKEN = "2024-10-20, 2024-10-22"
"""Days of the available files on which Set is 0 in every row."""


@pytest.fixture(scope="module")
def settings(demo: Demo, real_data: Path) -> Settings:
    """Run the demo on the real files; return the settings of its warehouse."""
    done = demo.run("--data", str(real_data))
    assert done.returncode == 0, done.stderr
    server = running_postgres(demo.folder / ".local")
    assert server is not None
    return demo_settings(server, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def gold(settings: Settings) -> dict[str, Answer]:
    with reading(settings) as read:
        return analyse_gold(read)


@pytest.fixture(scope="module")
def one(settings: Settings, demo: Demo) -> Callable[[str], tuple[Any, ...]]:
    """Return a function that gives the only row of a query."""
    del settings
    return lambda query: demo.query(query)[0]


One = Callable[[str], tuple[Any, ...]]


@pytest.mark.parametrize(
    "name",
    [
        *("lead_quality_distribution", "lead_quality_per_day", "new_high_quality_leads_per_day", "status_changes"),
        *("week_on_week", "data_anomalies", "suspect_shares"),
    ],
)
def test_answers_that_rest_on_set_name_its_days(gold: dict[str, Answer], name: str) -> None:
    answer = gold[name]
    assert f" on {BROKEN} (expected " in answer.note
    assert f"rows with Set = 1: 0.0 % on {BROKEN} (expected 21.6 %)" in answer.note


@pytest.mark.parametrize(
    "name",
    [
        *("match_scenarios", "leads_per_day", "conversion_funnel", "suspect_hashes"),
        *("first_weeks", "days_to_stage", "disposition_groups", "leads_that_left"),
    ],
)
def test_answers_that_do_not_rest_on_set_have_no_note(gold: dict[str, Answer], name: str) -> None:
    assert gold[name].note == ""


def test_quality_sentences_state_the_last_day_with_sound_flags(gold: dict[str, Answer], one: One) -> None:
    high, leads = one(
        "select count(distinct lead_uuid) filter (where set = 1 and demo = 1), count(distinct lead_uuid) "
        "from gold.lead_quality_matching where _partition_date = '2024-10-13'"
    )
    quality = f"{100 * high / leads:.1f} %"
    assert (
        f"On the last day with sound flags (2024-10-13), {quality} were" in gold["lead_quality_distribution"].sentence
    )
    assert f"{quality} of that of 13 October 2024, the last day" in gold["lead_quality_per_day"].sentence
    now, total = one("select count(*) filter (where set = 1 and demo = 1), count(*) from gold.lead_quality_current")
    assert f"Of {total:,} leads as they are now, {now:,} (" in gold["lead_quality_distribution"].sentence


def test_trend_sentence_leaves_out_the_broken_days(gold: dict[str, Answer], one: One) -> None:
    (total, days) = one(
        """
        select count(*), date '2024-10-13' - date '2024-10-01' from (
            select min(_partition_date) as day from gold.lead_quality_matching
            where set = 1 and demo = 1 and lead_uuid is not null group by lead_uuid
        ) as first_days where day > '2024-10-01'
        """
    )
    sentence = gold["new_high_quality_leads_per_day"].sentence
    assert "(without 2 days, because of anomalies), " in sentence
    assert f", {total} leads became high quality: {total / days:.1f} a day on average" in sentence


def test_funnel_sentence_counts_appointments_by_date(gold: dict[str, Answer], one: One) -> None:
    leads, appointments, sales = one(
        """
        select
            count(*),
            count(*) filter (where set = 1 or appt_date is not null or demo = 1 or dispo = 'Sale'),
            count(*) filter (where dispo = 'Sale')
        from gold.lead_quality_current
        """
    )
    sentence = gold["conversion_funnel"].sentence
    assert f"Of {leads:,} leads, {100 * appointments / leads:.1f} % had an appointment" in sentence
    assert f"{100 * sales / leads:.1f} % a sale" in sentence


def test_status_sentence_and_rows_leave_out_changes_of_the_broken_flag(gold: dict[str, Answer], one: One) -> None:
    changed, changes, only_set = one(
        """
        with changes as (
            select
                lead_uuid,
                valid_from,
                row(dispo, job_status, demo, appt_date) as rest,
                lag(row(dispo, job_status, demo, appt_date)) over numbers as rest_before,
                lag(valid_from) over numbers is not null as is_change
            from gold.lead_status_history
            window numbers as (partition by lead_uuid, lead_number order by valid_from)
        ),
        judged as (
            select *, rest is not distinct from rest_before and valid_from in ('2024-10-20', '2024-10-22') as is_broken
            from changes where is_change
        )
        select count(distinct lead_uuid) filter (where not is_broken), count(*) filter (where not is_broken),
            count(*) filter (where is_broken) from judged
        """
    )
    assert only_set > 600
    assert one("select count(*) from gold.status_changes") == (changes,)
    assert f", {changed:,} ({100 * changed / 4364:.1f} %) changed their status" in gold["status_changes"].sentence
    (dispositions,) = one("select count(*) from gold.status_changes where dispo is distinct from dispo_before")
    assert gold["status_changes"].rows["change_count"].sum() == dispositions


def test_freshness_sentence_lists_missing_and_affected_days(gold: dict[str, Answer], one: One) -> None:
    (missing, late) = one("select missing_days, days_late from gold.data_freshness")
    assert f"22 October 2024, {late} days ago" in gold["freshness"].sentence
    assert f"{missing} days without a snapshot: 2024-10-03 to 2024-10-05, 2024-10-07 to " in gold["freshness"].sentence
    assert "Days with anomalies: 2024-10-13, 2024-10-20, 2024-10-22." in gold["freshness"].sentence


def test_report_headline_shows_sound_quality_beside_now(settings: Settings, tmp_path: Path) -> None:
    page = write_report(settings, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "were of high quality on the last day with sound flags (2024-10-13)" in page
    assert "now: 2.2\u00a0%" in page


def test_report_states_how_many_rows_of_a_table_are_left_out(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_ROWS", 3)
    page = write_report(settings, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<summary>the first 3 of 8 rows</summary>" in page
    assert "<summary>3 rows</summary>" in page
