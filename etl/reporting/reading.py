"""Run the queries of the analysis, all on the same database snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pandas as pd

from etl.utils.columns import BRONZE_COLUMNS, CLEANED_COLUMNS
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.utils_connection import Settings, postgres_engine
from etl.warehouse.partitions import READER_TIME_LIMITS
from etl.warehouse.sql_scripts import read_script
from etl.warehouse.tables import BRONZE_SNAPSHOTS, GOLD_MATCHING, SILVER_LEADS, SILVER_SNAPSHOTS

if TYPE_CHECKING:
    from sqlalchemy import ExceptionContext

DAYS = ("_partition_date", "first_day", "last_day", "latest_snapshot", "previous_snapshot", "first_week", "since")
"""Columns to parse as dates."""
PLACEHOLDERS = {
    "filled_cells": ", ".join(f'count("{name}") as "{name}"' for name in CLEANED_COLUMNS),
    "distinct_values": ", ".join(f'count(distinct "{name}") as "{name}"' for name in CLEANED_COLUMNS),
    "source_cells": ", ".join(
        f"count(*) filter (where btrim(\"{name}\") not in ('', '-----')) as \"{name}\"" for name in BRONZE_COLUMNS
    ),
}
"""Placeholder in a query → columns of its result, one per CRM column."""
Read = Callable[[str], pd.DataFrame]
"""A function that returns the rows of a query. Its argument is a file name in sql_scripts/analysis/, without `.sql`."""


@contextmanager
def reading(settings: Settings) -> Iterator[Read]:
    """Yield a function that reads query results, all from the same database snapshot.

    A run that publishes waits until the block ends. Otherwise, a query that waits for a publication would read its new
    partitions, and the old rows of other tables.

    Raises:
        PostgresError: the server or the connection reports an error.
    """
    from sqlalchemy import event, text

    engine = postgres_engine(settings)
    event.listen(engine, "handle_error", _raise_driver_error)
    isolation = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translate_postgres_errors(settings):
        with engine.connect() as connection:
            tables = connection.scalar(text(_READABLE_TABLES), {"tables": PUBLISHED_TABLES})
        with engine.connect().execution_options(**isolation) as connection:
            for name, value in READER_TIME_LIMITS.items():
                connection.execute(text(f"set local {name} = '{value}'"))
            if tables:
                connection.execute(text(f"lock table {tables} in access share mode"))  # takes no snapshot yet
            yield lambda question: pd.read_sql(
                text(read_script(f"analysis/{question}.sql").format(**PLACEHOLDERS)), connection, parse_dates=list(DAYS)
            )


PUBLISHED_TABLES = [BRONZE_SNAPSHOTS, SILVER_SNAPSHOTS, SILVER_LEADS, GOLD_MATCHING]
"""Tables that a run locks when it replaces their rows or partitions."""
_READABLE_TABLES = """
select string_agg(format('%I.%I', nspname, relname), ', ')
from pg_class
inner join pg_namespace on relnamespace = pg_namespace.oid
where
    nspname || '.' || relname = any(:tables)
    and has_schema_privilege(nspname, 'usage')
    and has_table_privilege(pg_class.oid, 'select')
"""


def _raise_driver_error(context: ExceptionContext) -> None:
    """Raise the error of psycopg2 instead of the one of SQLAlchemy, which contains the whole statement."""
    raise context.original_exception
