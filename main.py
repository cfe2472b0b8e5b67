"""Command line of the HomeBuddy Leads ETL: flags → settings → steps → exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from etl.pipeline import STEPS, choose_steps
from etl.utils.terminal import LOG_FORMATS, configure_logging, ended_well, run_and_report, tell
from etl.utils.utils_connection import load_settings

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
  1  failed: nothing is half done, mend the cause and run again
  2  data refused: a file breaks its contract; its day and gold keep their last good rows
  3  another run is at work on this warehouse
""",
)
@click.option("--demo", is_flag=True, help="Run on an embedded PostgreSQL and S3 with sample data: needs no account.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --demo: take the files in DIR/SFTP and DIR/parquet instead of the sample.",
    metavar="DIR",
)
@click.option(
    "--from-step", type=STEP_NUMBER, default=1, help="Start at this step; it works from what the tables hold."
)
@click.option("--only-step", type=STEP_NUMBER, help="Run this step alone.")
@click.option("--full-refresh", is_flag=True, help="Load, clean and match everything again, changed or not.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="When files are refused, publish the good days all the same; exit code 2 stays.",
)
@click.option(
    "--workers", type=click.IntRange(1, 30), help="Days in hand at once.  [default: one for each core, up to 8]"
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Spread the days over the workers of this Dask scheduler.  [default: DASK_SCHEDULER_ADDRESS, if set]",
)
@click.option(
    "--report",
    is_flag=True,
    help="Run no step: write reports/lead_quality.html, the analysis of gold as it stands, as one page.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="How much to tell while working.",
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="json: for orchestrators, one object a line on standard output, and no summary.",
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
    report: bool,
    log_level: str,
    log_format: str,
) -> int:
    """Load CRM lead snapshots and backend leads from S3 into PostgreSQL, match them, grade them.

    Settings come from the environment or from .env; .env.example lists them all. Only what is new is loaded: running
    again is always safe.
    """
    if data and not demo:
        raise click.UsageError("--data goes with --demo")
    if only_step and from_step != 1:
        raise click.UsageError("--only-step and --from-step exclude each other")
    if scheduler and (demo or workers):
        raise click.UsageError("--scheduler goes without --demo and --workers: those are of this machine")
    if report and (data or only_step or from_step != 1 or full_refresh or allow_partial or workers or scheduler):
        raise click.UsageError("--report runs no step: of the other options it takes --demo alone")
    configure_logging(log_level, log_format)
    if report:
        from etl.utils.demo import running_demo, settings_or_demo
        from etl.utils.report import write_report

        tell(f"The report is in {write_report(running_demo() if demo else settings_or_demo())}", "report_written")
        return 0
    steps = choose_steps(from_step, only_step)
    options = {"full_refresh": full_refresh, "allow_partial": allow_partial, "workers": workers}
    if demo:
        from etl.utils.demo import demo_environment

        with demo_environment(data) as environment:
            exit_code = run_and_report(environment.settings, steps, **options)
            tell(environment.how_to_connect(), "how_to_connect")
            return exit_code
    given = {"dask_scheduler_address": scheduler} if scheduler else {}
    return run_and_report(load_settings(**given), steps, **options)


def run_command_line() -> int:
    """The program: its arguments are those of the process."""
    return ended_well(lambda: int(main(standalone_mode=False)))


if __name__ == "__main__":
    sys.exit(run_command_line())
