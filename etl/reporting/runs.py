"""Answer questions about the runs of the pipeline, and about how current and complete gold is."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime
from typing import Any

import pandas as pd

from etl.reporting.answers import Anomalies, Answer, missing_days, ranges
from etl.reporting.words import counted, day
from etl.warehouse.anomalies import FEWEST_ROWS, SHORTEST_BASELINE


def freshness(
    rows: pd.DataFrame, days: pd.DataFrame, quality: pd.DataFrame, anomalies: Anomalies, runs: pd.DataFrame
) -> Answer:
    """Answer how current and complete gold is.

    Rows: `aspect state detail`, one each for the latest snapshot, the last run, missing days, and days with anomalies.
    `state` is "ok" or "attention". Without a snapshot, there are no rows.

    Args:
        rows: the only row of gold.data_freshness.
        days: the rows of `leads_per_day`.
        quality: the rows of `lead_quality_per_day`.
        runs: the last runs that publish gold, the latest first.
    """
    question, latest = "How current and complete is the data?", rows.iloc[0]
    aspects = ["aspect", "state", "detail"]
    if days.empty:
        return Answer(question, pd.DataFrame(columns=aspects), "There is no snapshot yet.")
    missing, affected, ended = missing_days(days), anomalies.days(["*"]), latest["last_complete_run"]
    status = runs["status"].iloc[0] if len(runs) else "none on record"
    is_complete = status == "complete"
    details = [
        (
            "current",
            latest["days_late"] <= 1,
            f"The latest snapshot is of {day(latest['latest_snapshot'])}, {counted(latest['days_late'], 'day')} ago.",
        ),
        (
            "last run",
            is_complete,
            ("No run has completed yet." if pd.isna(ended) else f"The last complete run ended {moment(ended)}.")
            + ("" if is_complete or pd.isna(ended) else f" The last run: {status}."),
        ),
        (
            "complete",
            not missing,
            f"{counted(len(missing), 'day')} without a snapshot: {ranges(missing)}."
            if missing
            else "No day between the first and the latest snapshot is missing.",
        ),
        (
            "as expected",
            not affected,
            (f"Days with anomalies: {ranges(affected)}." if affected else "No anomalies were found.")
            + _untested_days(quality),
        ),
    ]
    states = [(aspect, "ok" if holds else "attention", text) for aspect, holds, text in details]
    table = pd.DataFrame(states, columns=aspects)
    return Answer(question, table, " ".join(table["detail"]))


def _untested_days(quality: pd.DataFrame) -> str:
    has_few_rows = bool(quality.groupby("_partition_date")["row_count"].sum().min() < FEWEST_ROWS)
    few = f" Days of fewer than {FEWEST_ROWS} rows are not tested." * has_few_rows
    return f" Most metrics are not tested on the first {SHORTEST_BASELINE} snapshots.{few}"


def ended_runs(runs: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return those of the runs that have ended, each as column → value."""
    return runs[runs["ended_at"].notna()].to_dict("records")


def run_checks(runs: pd.DataFrame) -> Answer:
    """Answer what the checks of the latest run that ended found; if that run is not complete, its status and message.

    Rows: `finding`, one per warning of its steps and checks.

    Args:
        runs: the last runs, the latest first. `checks` is the list of warnings, or None.
    """
    question, ended = "What did the checks of the last run find?", ended_runs(runs)
    if not ended:
        return Answer(question, pd.DataFrame(columns=["finding"]), "No run has ended yet.")
    last = ended[0]
    rows = pd.DataFrame({"finding": last["checks"] or []})
    run = f"The run that ended {moment(last['ended_at'])}"
    if last["status"] != "complete":  # its checks may not have run, and a check that stopped it is only in the message
        return Answer(question, rows, f"{run} has the status {last['status']}: {last['message']}")
    found = f"found {counted(len(rows), 'issue')}" if len(rows) else "found nothing"
    return Answer(question, rows, f"{run} is complete; its checks {found}.")


def refused_files(runs: pd.DataFrame) -> Answer:
    """Answer whether the last run that ended refused files or days. `runs` are those that read files.

    Rows: `started_at status message run_id`, one per run, the latest first. `started_at` is text; `message` is the
    first line of the message. Columns without any value are left out.
    """
    question = "Were files refused?"
    table = runs.reindex(columns=["started_at", "status", "message", "run_id"])
    table["started_at"] = table["started_at"].map(moment)
    table["message"] = table["message"].str.split("\n").str[0]
    table = table.dropna(axis="columns", how="all")  # most often there are no messages
    ended = ended_runs(runs)
    if not ended:
        return Answer(question, table, "No run has ended yet.")
    last = ended[0]
    if last["status"] == "refused":
        return Answer(question, table, f"The last run refused data: {last['message']}")
    if last["status"] != "complete":  # it may have refused data, too
        return Answer(question, table, f"The last run has the status {last['status']}: {last['message']}")
    refusals = [run["status"] for run in ended].count("refused")
    before = f" Of the last {counted(len(ended), 'run')}, {refusals} refused data." if refusals else ""
    return Answer(question, table, f"The last run refused no file.{before}")


def moment(time: datetime) -> str:
    """Format a UTC time, as in `2024-10-23 06:15 UTC`."""
    return f"{time:%Y-%m-%d %H:%M} UTC"
