"""Run histories through the pipeline and compare gold with the oracle after every run.

Uses the public interface of the pipeline: settings, `run_steps`, the bucket, and the tables of silver and gold;
to remove a day, also its partitions and the ledger.

    failures = run_histories(settings, bucket, range(500))
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

import oracle
import psycopg2
import pytest
from histories import FILE_HEADER, History, Kill, Operation, PutDay, PutLeads, RemoveDay, Run, random_history
from killed_run import KillSwitch, RunHungError, run_and_kill, wait_until_sessions_end
from oracle import AppointmentIds, Rows, Rules
from support import Bucket, connection_arguments, drop_schemas

from etl.engine.context import RunContext, StepResult
from etl.engine.run_report import Step
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

LEAD_TABLES = (oracle.LEADS, oracle.CURRENT, oracle.APPOINTMENTS, oracle.HISTORY)
WORKERS = 2


class Failure(NamedTuple):
    """A history after which a check of gold fails."""

    history: History
    operation: int
    """Number of the failing operation, from 1; one more than the number of operations for the final checks."""
    check: str
    details: str

    def __str__(self) -> str:
        return (
            f"history {self.history.seed}, operation {self.operation}: {self.check}\n{self.details}\n"
            f"Operations:\n{self.history}"
        )


class CheckFailedError(Exception):
    """A check of gold failed."""

    def __init__(self, check: str, details: str) -> None:
        super().__init__(check, details)
        self.check, self.details = check, details


def run_histories(
    settings: Settings, bucket: Bucket, seeds: Iterable[object], rules: Rules | None = None
) -> list[Failure]:
    """Run the random history of each seed in an empty warehouse. Returns the failures."""
    rules = rules or Rules()
    histories = (random_history(seed, with_removed_days=rules.removed_days) for seed in seeds)
    return [failure for history in histories if (failure := run_history(settings, bucket, history, rules))]


def run_history(
    settings: Settings,
    bucket: Bucket,
    history: History,
    rules: Rules | None = None,
    kills: Counter[str] | None = None,
) -> Failure | None:
    """Run one history from an empty bucket and an empty warehouse. Returns the first failed check.

    Args:
        kills: counts the states that killed runs leave.
    """
    bucket.clear()
    drop_schemas(settings)
    done = 0
    with _query(settings) as query:
        runner = _HistoryRunner(settings, bucket, query, rules or Rules(), Counter() if kills is None else kills)
        try:
            with clock_ahead(lambda: runner.days_ahead):
                for operation in history.operations:
                    runner.apply(operation)
                    done += 1
                runner.check_end()
        except CheckFailedError as error:
            return Failure(history, done + 1, error.check, error.details)
        except RunHungError:
            raise  # sessions of another test would look like a detected error
        except Exception:  # noqa: BLE001 - a broken pipeline can raise anything
            close_connections()
            return Failure(history, done + 1, "exception", traceback.format_exc())
    return None


@contextmanager
def _query(settings: Settings) -> Iterator[oracle.Query]:
    """Yield a function that queries on one connection, in a transaction per query."""
    connection = psycopg2.connect(**connection_arguments(settings))
    connection.autocommit = True

    def query(text: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as db:
            db.execute(text)
            return db.fetchall() if db.description else []

    try:
        yield query
    finally:
        connection.close()


@contextmanager
def clock_ahead(days: Callable[[], int]) -> Iterator[None]:
    """Set the clock of the pipeline ahead by the number of days that the function returns."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=days())

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == "etl" and getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Clock)
        yield


class _HistoryRunner:
    """Executes operations, and compares gold with the oracle after each run."""

    def __init__(
        self, settings: Settings, bucket: Bucket, query: oracle.Query, rules: Rules, kills: Counter[str]
    ) -> None:
        self.days_ahead = 0
        self._settings = settings
        self._bucket = bucket
        self._query = query
        self._rules = rules
        self._kills = kills
        self._ids = AppointmentIds(rules)
        self._gold = self._read_gold()

    # --- Operations ---

    def apply(self, operation: Operation) -> None:
        match operation:
            case PutDay():
                self._bucket.put_snapshot(operation.number, operation.rows, FILE_HEADER)
            case PutLeads():
                self._bucket.put_leads(operation.rows)
            case RemoveDay():
                self._remove_day(operation)
            case Run():
                self.days_ahead += operation.days_later
                if operation.kill:
                    self._run_and_kill(operation.kill, full_refresh=operation.full_refresh)
                else:
                    self.run(full_refresh=operation.full_refresh)

    def _remove_day(self, operation: RemoveDay) -> None:
        number = operation.number
        self._bucket.client.delete_object(Bucket=self._bucket.name, Key=f"SFTP/data_{number}.csv")
        if self._query("select to_regclass('meta.table_loads')") == [(None,)]:
            return  # every run so far was killed before it created a table
        day = f"date '{self._settings.partition_start_date + timedelta(days=number - 1)}'"
        loads = f"partition_date = {day}" + (" and parent_table not like 'gold.%'" if operation.keep_gold_load else "")
        self._query(f"drop table if exists partitions.csv_snapshots_{number:02}, silver.stg_csv_data_{number:02}")
        self._query(f"delete from meta.table_loads where {loads}")
        self._query(f"delete from meta.ingested_files where partition_date = {day}")
        if self._query("select to_regclass('silver.rejected_rows')") != [(None,)]:
            self._query(f"delete from silver.rejected_rows where _partition_date = {day}")

    def run(self, *, full_refresh: bool = False) -> None:
        error = self._run_steps(full_refresh)
        if error:
            raise CheckFailedError("the run fails", error)
        self._check_gold()

    def _run_steps(self, full_refresh: bool, steps: Sequence[Step] | None = None) -> str | None:
        report = run_steps(self._settings, steps or choose_steps(), full_refresh=full_refresh, workers=WORKERS)
        return None if report.exit_code == 0 else str(report.error)

    def _run_and_kill(self, kill: Kill, *, full_refresh: bool) -> None:
        # parent and child must not share a connection
        close_connections()
        self._bucket.client.close()
        wait_until_sessions_end(self._query)
        switch = KillSwitch(kill.when, kill.commit)
        steps = [_arming(step, switch) if step.number == kill.since_step else step for step in choose_steps()]
        killed, error = run_and_kill(lambda: self._run_steps(full_refresh, steps), switch)
        wait_until_sessions_end(self._query)
        if error:
            raise CheckFailedError("the run fails", error)
        if killed and self._read_gold() == self._gold:
            self._kills["old gold"] += 1
            return
        self._kills["new gold" if killed else "not reached"] += 1
        self._check_gold("after a kill, neither old nor new: " if killed else "")

    # --- Checks ---

    def _check_gold(self, context: str = "") -> None:
        actual, ids = self._gold = self._read_gold()
        differing = oracle.differences(actual, oracle.expected_gold(self._query, self._rules))
        if differing:
            raise CheckFailedError(f"{context}gold differs from the oracle", described(differing))
        violations = self._ids.violations(ids)
        if violations:
            raise CheckFailedError(f"{context}appointment ids", "\n".join(violations))

    def _read_gold(self) -> tuple[dict[str, Rows], list[tuple[Any, ...]]]:
        return oracle.actual_gold(self._query), oracle.appointment_ids(self._query)

    def check_end(self) -> None:
        """Run the checks that hold after any history. Leaves a warehouse that was loaded at once."""
        self._check_rerun()
        self._check_full_refresh()
        self._check_fresh_warehouse()

    def _check_rerun(self) -> None:
        before = {table: self._stamps(table) for table in oracle.COLUMNS}
        partitions = "select inhrelid from pg_inherits where inhparent = 'gold.lead_quality_matching'::regclass"
        partitions_before = sorted(self._query(partitions))
        self.run()
        written = [table for table in oracle.COLUMNS if self._stamps(table) != before[table]]
        if sorted(self._query(partitions)) != partitions_before:
            written.append("partitions")
        if written:
            raise CheckFailedError("a rerun writes to gold", ", ".join(written))

    def _check_full_refresh(self) -> None:
        """Check that contents and ids are equal, and that unchanged rows are not written."""
        (contents, ids), stamps = self._gold, {table: dict(self._stamps(table)) for table in LEAD_TABLES}
        self.days_ahead += len(contents[oracle.LEADS]) % 2
        self.run(full_refresh=True)
        self._compare("a full refresh changes", contents)
        if self._gold[1] != ids:
            raise CheckFailedError("a full refresh changes", "appointment ids")
        for table, before in stamps.items():
            written = [row for row, xmin in self._stamps(table) if before.get(row, xmin) != xmin]
            if written:
                raise CheckFailedError("a full refresh writes rows that stay as they are", f"{table}: {written[:5]}")

    def _check_fresh_warehouse(self) -> None:
        contents, _ = self._gold
        self._put_kept_rows()
        drop_schemas(self._settings)
        self._ids = AppointmentIds(self._rules)
        self.run()
        self._compare("a warehouse that is loaded in one go differs", contents)

    def _put_kept_rows(self) -> None:
        """Upload the rows of bronze in place of files that were not loaded because they have no leads."""
        loaded = self._query("select file_number, s3_key, etag from meta.ingested_files where file_number is not null")
        for number, key, etag in loaded:
            if self._bucket.client.head_object(Bucket=self._bucket.name, Key=key)["ETag"].strip('"') != etag:
                rows = self._query(f"select * from partitions.csv_snapshots_{number:02} order by _source_row")
                cells = ([cell or "" for cell in row[: len(FILE_HEADER)]] for row in rows)
                self._bucket.put_snapshot(
                    number, [dict(zip(FILE_HEADER, row, strict=True)) for row in cells], FILE_HEADER
                )

    def _compare(self, check: str, expected: dict[str, Rows]) -> None:
        differing = oracle.differences(*map(_without_extraction_date, (self._gold[0], expected)))
        if differing:
            raise CheckFailedError(check, described(differing))

    def _stamps(self, table: str) -> list[tuple[Any, ...]]:
        """Read all rows as text, each with its transaction and its table."""
        return sorted(self._query(f"select t::text, concat_ws(' ', xmin, tableoid) from {table} as t"))


def _arming(step: Step, switch: KillSwitch) -> Step:
    def run(context: RunContext) -> StepResult:
        switch.arm()
        return step.run(context)

    return replace(step, run=run)


def described(differing: dict[str, str]) -> str:
    return "\n".join(f"{table}\n{rows}" for table, rows in differing.items())


def _without_extraction_date(gold: dict[str, Rows]) -> dict[str, Rows]:
    """Remove the column that depends on the time of the load."""
    contents: dict[str, Rows] = {}
    for table, columns in oracle.COLUMNS.items():
        kept = [index for index, column in enumerate(columns) if column != "_extraction_date"]
        contents[table] = Counter()
        for row, count in gold[table].items():
            contents[table][tuple(row[index] for index in kept)] += count
    return contents
