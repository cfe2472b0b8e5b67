"""Apply the numbered migrations of schema `meta`: `sql_scripts/meta/migrations/0001_….sql`, `0002_….sql` and so on.

Each migration is applied once, in order, and recorded in meta.migrations. A released migration is never edited; the
next change gets the next number. Other schemas need no migrations: their definitions are applied again whenever the
text changes (see `definitions.apply_ddl`), bronze only gets new columns, and silver and gold are rebuilt from bronze.
"""

from __future__ import annotations

import logging

from psycopg2.extensions import cursor as Cursor

from etl.utils.errors import CheckFailedError, listed
from etl.warehouse.partitions import acquire_exclusive_lock
from etl.warehouse.sql_scripts import SQL_SCRIPTS, run_sql, table_exists

log = logging.getLogger(__name__)

MIGRATIONS = SQL_SCRIPTS / "meta" / "migrations"


def known_migrations() -> list[str]:
    """Return the names of all migrations in this version of the code, in order, such as `0001_meta_tables`."""
    return sorted(path.stem for path in MIGRATIONS.glob("*.sql"))


def migrate(db: Cursor) -> None:
    """Apply all pending migrations, in order, in the caller's transaction. The caller holds the run lock.

    Raises:
        CheckFailedError: the warehouse has migrations that this version of the code does not contain.
        PostgresError: a session keeps a table of schema `meta` locked (see `acquire_exclusive_lock`).
    """
    pending = pending_migrations(db)
    if pending:
        run_sql(db, "meta/create_migrations_table.sql")
        # Lock all tables of `meta` first, so that readers do not queue behind a migration that waits for a lock.
        db.execute("select format('%s.%s', schemaname, tablename) from pg_tables where schemaname = 'meta'")
        acquire_exclusive_lock(db, *[name for (name,) in db.fetchall()])
    for migration in pending:
        run_sql(db, f"meta/migrations/{migration}.sql")
        number, name = migration.split("_", 1)
        db.execute("insert into meta.migrations (number, name) values (%s, %s)", (int(number), name))
        log.info("schema meta: migration %s applied", migration)


def pending_migrations(db: Cursor) -> list[str]:
    """Return the migrations that were not yet applied to the warehouse, in order.

    Raises:
        CheckFailedError: the warehouse has migrations that this version of the code does not contain.
    """
    applied: set[str] = set()
    if table_exists(db, "meta.migrations"):
        db.execute("select number, name from meta.migrations")
        applied = {f"{number:04}_{name}" for number, name in db.fetchall()}
    known = known_migrations()
    if unknown := sorted(applied - set(known)):
        raise CheckFailedError(
            "the warehouse was upgraded by a newer version of the pipeline: this version does not contain the applied "
            f"migrations {listed(unknown)}",
            hint="run that version, or a later one; nothing was changed",
        )
    return [migration for migration in known if migration not in applied]
