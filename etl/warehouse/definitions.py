"""Apply DDL scripts only if the script, or the state of an object that it defines (see `_state_of`), has changed."""

from __future__ import annotations

import hashlib
import re

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.warehouse.descriptions import read_descriptions
from etl.warehouse.partitions import acquire_exclusive_lock, add_change_trigger
from etl.warehouse.sql_scripts import script_text


def apply_ddl(db: Cursor, script: str, **names: sql.Composable) -> None:
    """Execute a script that defines tables, views, functions or comments, unless script and objects are unchanged.

    Objects are compared as `_state_of` describes. Executing the script in every run would take exclusive locks on its
    views, and on tables that it alters. After execution, its tables, except `NOT_REPAIRED`, get a trigger that flags
    changes made outside the pipeline, so that the next run repairs them, and digests of the script and its objects are
    recorded in meta.definitions.

    Raises:
        PostgresError: see `acquire_exclusive_lock`.
    """
    text = script_text(script, **names).as_string(db)
    digest = hashlib.sha256(text.encode()).hexdigest()
    objects = [name.replace('"', "") for name in _CREATED.findall(text)]
    key = " ".join([script, *objects[:1]])
    db.execute("select digest, state from meta.definitions where script = %s", (key,))
    if db.fetchone() == (digest, _state_of(db, objects)):
        return
    db.execute(
        "select schemaname || '.' || viewname from pg_views where schemaname || '.' || viewname = any(%s)",
        ([f"{schema}.{name}" for schema, tables in read_descriptions().items() for name in tables],),
    )
    views = {view for (view,) in db.fetchall()}
    if views.intersection(objects):
        # Also the views of later scripts: waiting for one with the tables of others locked would block their readers.
        acquire_exclusive_lock(db, *sorted(views))
    db.execute(text)
    for table in _TABLES.findall(text):
        if table not in NOT_REPAIRED:
            add_change_trigger(db, table)
    db.execute(
        "insert into meta.definitions (script, digest, state) values (%s, %s, %s) "
        "on conflict (script) do update set digest = excluded.digest, state = excluded.state",
        (key, digest, _state_of(db, objects)),
    )


NOT_REPAIRED = {"silver.rejected_rows", "gold.users"}
"""Tables without a change trigger. The pipeline does not fill gold.users; a run finds missing and added rows of
silver.rejected_rows by their number (see `load_ledger.current_loads`)."""
_TABLES = re.compile(r"^create table (?:if not exists )?(\S+)", re.MULTILINE)
_CREATED = re.compile(r"^create (?:or replace )?(?:table|view|function) (?:if not exists )?([^\s(]+)", re.MULTILINE)


def _state_of(db: Cursor, objects: list[str]) -> str:
    """Return a digest of objects: OIDs, view definitions, triggers, names of constraints other than foreign keys and
    NOT NULL, which only PostgreSQL 18 lists.

    A function is represented by its definition instead of its OID, which pg_upgrade changes.
    """
    db.execute(
        """
        select md5(string_agg(
            concat_ws(
                ' ',
                name,
                coalesce(oid::text, pg_get_functiondef(to_regproc(name))),
                case when relkind = 'v' then pg_get_viewdef(oid) end,
                (select string_agg(tgname || tgenabled::text, ' ' order by tgname) from pg_trigger
                where tgrelid = pg_class.oid and not tgisinternal),
                (select string_agg(conname, ' ' order by conname) from pg_constraint
                where conrelid = pg_class.oid and contype not in ('f', 'n'))
            ),
            ' ' order by name
        ))
        from unnest(%s::text[]) as name
        left join pg_class on oid = to_regclass(name)
        """,
        (objects,),
    )
    (state,) = db.fetchone() or ("",)
    return str(state)
