"""Step 1: create the schemas, the tables of bronze and silver, and the roles of readers with their privileges.

CRM columns that existing tables lack are added. A rerun changes nothing unless an object, a privilege or a time limit
of a role is missing, or a definition, a description or a password has changed.
"""

from __future__ import annotations

import logging

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encrypt_password
from pydantic import SecretStr

from etl.engine.context import RunContext, StepResult
from etl.utils.columns import BLANKS, CONTENT_COLUMNS
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings, connect_postgres
from etl.warehouse.definitions import apply_ddl
from etl.warehouse.descriptions import apply_descriptions
from etl.warehouse.partitions import READER_TIME_LIMITS, add_missing_columns
from etl.warehouse.sql_scripts import quote_identifiers, run_sql
from etl.warehouse.tables import SNAPSHOT_COLUMNS
from etl.warehouse.transactions import transaction

log = logging.getLogger(__name__)

READERS = {"bi_reader": "bi_reader_password", "analyst": "analyst_password"}
"""Role → name of the setting with its password. sql_scripts/schemas/admit_readers.sql grants the privileges."""


@retry_transient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        run_sql(db, "schemas/create_schemas.sql")
        apply_ddl(db, "bronze/create_bronze_tables.sql")
        apply_ddl(db, "silver/create_silver_tables.sql")
        add_missing_columns(db, SNAPSHOT_COLUMNS)
        names = {"columns": quote_identifiers(CONTENT_COLUMNS), "blanks": sql.Literal(BLANKS)}
        apply_ddl(db, "silver/create_row_versions.sql", **names)
        apply_descriptions(db, "bronze", "silver", "meta")
        admit_readers(db, context.settings)
    return StepResult()


def admit_readers(db: Cursor, settings: Settings) -> None:
    """Create the roles of readers if they are missing (see `create_reader`), and grant existing ones read access."""
    for role, setting in READERS.items():
        create_reader(db, settings, role, getattr(settings, setting))
    run_sql(db, "schemas/admit_readers.sql")


def create_reader(db: Cursor, settings: Settings, role: str, password: SecretStr | None) -> None:
    """Create a role if it is missing, and set its time limits if it lacks one of them.

    If a password is given and the role cannot log in with it, also set the password and allow the role to log in. If
    the role of the pipeline may not create or alter the role, nothing is changed, and the statements that a superuser
    has to run are logged. Roles are shared by all databases of the server: nothing is changed, either, if a run on
    another database is creating or altering the role.
    """
    name = sql.Identifier(role)
    limits = sql.SQL("; ").join(
        sql.SQL("alter role {} set {} = {}").format(name, sql.Identifier(limit), sql.Literal(value))
        for limit, value in READER_TIME_LIMITS.items()
    )
    db.execute("savepoint reader")
    try:
        db.execute("select rolconfig::text from pg_roles where rolname = %s", (role,))
        found = db.fetchone()
        statements = [] if found else [sql.SQL("create role {} nologin").format(name)]
        if found is None or not all(limit in (found[0] or "") for limit in READER_TIME_LIMITS):
            statements.append(limits)
        for statement in statements:
            db.execute(statement)
        if password and not _can_log_in(settings, role, password):
            # The server receives the SCRAM verifier, so that its log never contains the password.
            verifier = encrypt_password(
                password.get_secret_value(), role, scope=db.connection, algorithm="scram-sha-256"
            )
            db.execute(sql.SQL("alter role {} login password {}").format(name, sql.Literal(verifier)))
    except psycopg2.errors.InsufficientPrivilege:
        db.execute("rollback to savepoint reader")
        commands = [statement.as_string(db) for statement in statements]
        if password:
            commands += [f"alter role {role} login", f"\\password {role} (enter the value of {READERS[role].upper()})"]
        log.log(
            logging.WARNING if password else logging.INFO,
            "role %s may not create or alter role %s. In psql, as a superuser: %s; then rerun",
            *(settings.postgres_user, role, "; ".join(commands)),
        )
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation, psycopg2.errors.InternalError_):
        db.execute("rollback to savepoint reader")  # a run on another database is creating or altering the role


def _can_log_in(settings: Settings, role: str, password: SecretStr) -> bool:
    """Return whether the role can log in with this password. If it can, a run need not write a new verifier."""
    reader = settings.model_copy(update={"postgres_user": role, "postgres_password": password})
    try:
        connect_postgres(reader).close()
    except psycopg2.OperationalError:
        return False
    return True


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(1))
