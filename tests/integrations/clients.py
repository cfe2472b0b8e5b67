"""What BI tools should see of gold, and the drivers of some of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PASSWORD = "a reader's password"
"""That of bi_reader."""

RELATIONS = {
    ("lead_quality_matching", "lead_uuid", "leads", "lead_uuid"),
    ("lead_quality_current", "lead_uuid", "leads", "lead_uuid"),
    ("appointments", "lead_uuid", "leads", "lead_uuid"),
    ("appointments", "user_id", "users", "user_id"),
    ("lead_status_history", "lead_uuid", "leads", "lead_uuid"),
}
"""Table, column, table and column that it refers to."""

FIGURES = """
    select
        count(*),
        count(distinct lead_uuid),
        count(*) filter (where appointment_scheduled),
        sum(demo),
        min(appt_date),
        max(_partition_date),
        count(*) filter (where lead_quality_flag = 'High Quality')
    from gold.lead_quality_matching
"""

REFUSED = {
    "select password_hash from gold.users",
    "select * from silver.stg_csv_snapshots",
    "select * from meta.pipeline_runs",
    "update gold.leads set city = 'Reno'",
    "delete from gold.appointments",
    "create table gold.mine (i int)",
    "create table public.mine (i int)",
}
INSUFFICIENT_PRIVILEGE = "42501"
COMMENTS = """
    select
        relname,
        obj_description(oid, 'pg_class'),
        (
            select jsonb_object_agg(attname, col_description(attrelid, attnum)) from pg_attribute
            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
        )
    from pg_class
    where relnamespace = 'gold'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
"""
"""Table or view, its comment, and the comments of its columns."""


def debian_file(path: str, package: str) -> Path:
    """Return a file that a package of Debian contains, and install the package if it is missing.

    Skips the test where the package cannot be installed.
    """
    found = next(Path("/").glob(path), None)
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, timeout=180, check=False)
        found = next(Path("/").glob(path), None)
    if found is None:
        pytest.skip(f"{package} is not installed: /{path} does not exist, and root could not install it")
    return found
