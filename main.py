"""Command line of HomeBuddy Leads ETL: read options and settings, run steps, return the exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from etl.console.command import run_and_report, run_cli
from etl.console.output import LOG_FORMATS, configure_logging, echo
from etl.pipeline import STEPS, choose_steps
from etl.utils.utils_connection import Settings, load_settings

STEP_NUMBER = click.IntRange(1, len(STEPS))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Steps:
"""
    + "\n".join(f"  {step.number}  {step.title}" for step in STEPS)
    + """

\b
Exit codes:
  0  complete
  1  failed: unfinished changes were rolled back; fix the cause and rerun
  2  data refused: a file violates its data contract (its day keeps its last
     good rows), or a day is missing or late (MISSING_DAYS=refuse)
  3  another run is active on this warehouse
""",
)
@click.option("--demo", is_flag=True, help="Use an embedded PostgreSQL and S3 with sample data; needs no account.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --demo: use the files in DIR/SFTP and DIR/parquet instead of sample data.",
    metavar="DIR",
)
@click.option(
    "--from-step", type=STEP_NUMBER, default=1, help="Start with this step, on the current contents of the tables."
)
@click.option("--only-step", type=STEP_NUMBER, help="Run only this step.")
@click.option("--full-refresh", is_flag=True, help="Load, clean and match all data again, changed or not.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="If files or days are refused, publish the other days; the exit code is still 2.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 30),
    help="Number of days processed in parallel.  [default: one per core, up to 8]",
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Process days on the workers of this Dask scheduler.  [default: DASK_SCHEDULER_ADDRESS, if set]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Run no step; list what a run with these options would do. Writes nothing and needs no lock.",
)
@click.option(
    "--explain",
    metavar="LEAD",
    help="Run no step; print the history of the leads with this UUID, lead number, or hash of e-mail or phone.",
)
@click.option(
    "--report",
    is_flag=True,
    help="Run no step; write reports/lead_quality.html, a self-contained page on lead quality and data quality.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Lowest level of log messages to print.",
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="json: one object per line on standard output, for orchestrators; no summary.",
)
def main(
    demo: bool,
    data: Path | None,
    from_step: int,
    only_step: int | None,
    full_refresh: bool,
    allow_partial: bool,
    workers: int | None,
    scheduler: str | None,
    dry_run: bool,
    explain: str | None,
    report: bool,
    log_level: str,
    log_format: str,
) -> int:
    """Load CRM lead snapshots and backend leads from S3 into PostgreSQL, match them, grade them.

    Settings come from the environment or from .env; .env.example lists them all. By default, only new and changed files
    are loaded. Reruns are always safe.
    """
    _check_options(click.get_current_context().params)
    configure_logging(log_level, log_format)
    if report or explain is not None:
        from etl.local.demo import running_demo, settings_or_demo

        settings = running_demo() if demo else settings_or_demo()
        return _write_report(settings) if explain is None else _explain(settings, explain)
    options: dict[str, Any] = {"steps": choose_steps(from_step, only_step)}
    options |= {"full_refresh": full_refresh, "allow_partial": allow_partial}
    if dry_run:
        return _dry_run(demo, options)
    if demo:
        from etl.local.demo import demo_environment, how_to_connect

        with demo_environment(data, all_steps=from_step == 1 and not only_step) as (settings, server):
            exit_code = run_and_report(settings, workers=workers, **options)
            echo(how_to_connect(server), "how_to_connect")
            return exit_code
    given = {"dask_scheduler_address": scheduler} if scheduler else {}
    return run_and_report(load_settings(**given), workers=workers, **options)


OPTIONS_OF_RUNS = ("data", "only_step", "full_refresh", "allow_partial", "workers", "scheduler", "dry_run")


def _check_options(given: Mapping[str, Any]) -> None:
    """Raise if options cannot be combined, or an option lacks another one that it requires.

    Raises:
        click.UsageError: names the options.
    """
    if given["data"] and not given["demo"]:
        raise click.UsageError("--data requires --demo")
    if given["only_step"] and given["from_step"] != 1:
        raise click.UsageError("--only-step and --from-step cannot be combined")
    if given["scheduler"] and (given["demo"] or given["workers"]):
        raise click.UsageError("--scheduler cannot be combined with --demo or --workers, which apply to this machine")
    if given["dry_run"] and given["data"]:
        raise click.UsageError("--dry-run cannot be combined with --data: a dry run reads the folder of the last demo")
    runs_no_step = [option for option in ("report", "explain") if given[option] not in (None, False)]
    is_run = given["from_step"] != 1 or any(given[option] for option in OPTIONS_OF_RUNS)
    if len(runs_no_step) > 1 or (runs_no_step and is_run):
        raise click.UsageError(
            f"--{runs_no_step[0]} runs no step: it can only be combined with --demo, --log-level and --log-format"
        )


def _write_report(settings: Settings) -> int:
    from etl.reporting.report import write_report

    echo(f"Report written to {write_report(settings)}", "report_written")
    return 0


def _explain(settings: Settings, lead: str) -> int:
    from etl.console.text_tables import write_record
    from etl.reporting.explain import explain
    from etl.reporting.explain_tables import summary, tables

    explanation = explain(settings, lead)
    for history in explanation.histories:
        record = {"lead": asdict(history)}
        write_record(history.title, summary(history), "lead_explained", record, tables(history), history.notes)
    if explanation.left_out:
        echo(f"\nother leads that match {lead!r}, not shown: {explanation.left_out:,}", "leads_left_out")
    return 0


def _dry_run(demo: bool, options: Mapping[str, Any]) -> int:
    from etl.console.dry_run import report_dry_run

    if not demo:
        return report_dry_run(load_settings(), **options)
    from etl.local.demo import demo_source, running_demo

    with demo_source(running_demo()) as settings:
        return report_dry_run(settings, **options)


if __name__ == "__main__":
    sys.exit(run_cli(lambda: int(main(standalone_mode=False))))
