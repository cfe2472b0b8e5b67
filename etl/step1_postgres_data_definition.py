"""Step 1: the schemas, the tables of bronze and silver, and the role that BI tools read gold with.

Everything is made only where it is not there yet, or when its definition has changed: a second run changes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from etl.utils.columns import CONTENT_COLUMNS, ROW_HASH
from etl.utils.day_tables import add_missing_column
from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import SILVER_SNAPSHOTS, define
from etl.utils.transactions import run_sql, transaction
from etl.utils.utils_connection import connect_postgres

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one
    from pydantic import SecretStr

    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)

BI_READER = "bi_reader"
"""The role of BI tools: it reads gold and nothing else (see sql_scripts/schemas/admit_bi_reader.sql)."""


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        run_sql(db, "schemas/create_schemas.sql")
        define(db, "bronze/create_bronze_tables.sql")
        add_missing_column(db, SILVER_SNAPSHOTS, ROW_HASH, "bigint")
        define(db, "silver/create_silver_tables.sql")
        define(db, "silver/create_row_versions.sql", columns=sql.SQL(", ").join(map(sql.Identifier, CONTENT_COLUMNS)))
        define(db, "meta/comment_on_meta_tables.sql")
        admit_bi_reader(db, context.settings)
    return StepResult()


def admit_bi_reader(db: Cursor, settings: Settings) -> None:
    """Make the role that BI tools read gold with, and let it log in when it has a password.

    The role belongs to the server, not to this database. A pipeline that may not make roles goes on, and says so.
    """
    password = settings.bi_reader_password
    name = sql.Identifier(BI_READER)
    db.execute("savepoint bi_reader")
    try:
        db.execute("select from pg_roles where rolname = %s", (BI_READER,))
        if not db.rowcount:
            db.execute(sql.SQL("create role {} nologin").format(name))
        if password and not _can_log_in(settings, password):
            # The server gets what it would make of the password, so that none stands in its log.
            verifier = encrypt_password(
                password.get_secret_value(), BI_READER, scope=db.connection, algorithm="scram-sha-256"
            )
            db.execute(sql.SQL("alter role {} login password {}").format(name, sql.Literal(verifier)))
    except psycopg2.errors.InsufficientPrivilege:
        db.execute("rollback to savepoint bi_reader")
        log.log(
            logging.WARNING if password else logging.INFO,
            "%s may make no role %s, or not give it a password. One who may: create role %s; alter role %s login; "
            "\\password %s. Then run again",
            settings.postgres_user,
            *[BI_READER] * 4,
        )
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation, psycopg2.errors.InternalError_):
        db.execute("rollback to savepoint bi_reader")  # the run of another database is just doing the same
    run_sql(db, "schemas/admit_bi_reader.sql")


def _can_log_in(settings: Settings, password: SecretStr) -> bool:
    """Whether the role has this very password already: each change of it would be written anew."""
    reader = settings.model_copy(update={"postgres_user": BI_READER, "postgres_password": password})
    try:
        connect_postgres(reader).close()
    except psycopg2.OperationalError:
        return False
    return True


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(1))
