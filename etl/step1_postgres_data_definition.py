"""Step 1: the schemas, the tables of bronze and silver, and the role that BI tools read gold with.

Everything is made only where it is not there yet, or when its definition has changed: a second run changes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import define
from etl.utils.transactions import run_sql, transaction

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one
    from pydantic import SecretStr

log = logging.getLogger(__name__)

BI_READER = "bi_reader"
"""The role of BI tools: it reads gold and nothing else (see sql_scripts/schemas/admit_bi_reader.sql)."""


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        run_sql(db, "schemas/create_schemas.sql")
        define(db, "bronze/create_bronze_tables.sql")
        define(db, "silver/create_silver_tables.sql")
        define(db, "meta/comment_on_meta_tables.sql")
        admit_bi_reader(db, context.settings.bi_reader_password)
    return StepResult()


def admit_bi_reader(db: Cursor, password: SecretStr | None) -> None:
    """Make the role that BI tools read gold with. With a password it may log in, else it is one to be granted.

    A role of the pipeline that may not make roles goes on without it, and says so.
    """
    try:
        db.execute("savepoint bi_reader")
        db.execute("select from pg_roles where rolname = %s", (BI_READER,))
        if not db.rowcount:
            db.execute(sql.SQL("create role {} nologin").format(sql.Identifier(BI_READER)))
        if password:
            # The server gets what it would make of the password, so that none stands in its log.
            verifier = encrypt_password(
                password.get_secret_value(), BI_READER, scope=db.connection, algorithm="scram-sha-256"
            )
            db.execute(
                sql.SQL("alter role {} login password {}").format(sql.Identifier(BI_READER), sql.Literal(verifier))
            )
    except psycopg2.errors.InsufficientPrivilege:
        db.execute("rollback to savepoint bi_reader")
        log.log(
            logging.WARNING if password else logging.INFO,
            "the role %s cannot be made or given a password by this one. As one that may: create role %s login; "
            "\\password %s",
            *[BI_READER] * 3,
        )
    run_sql(db, "schemas/admit_bi_reader.sql")


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(1))
