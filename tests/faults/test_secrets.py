"""Password and secret key are in no output of a run, not in `ps`, and not in schema meta."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_scenario import Scenario, execute, main_process
from pydantic import SecretStr
from support import Warehouse, environment_of, run_case

from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

PASSWORD, KEY_ID, KEY = "planted-pass/word", "PLANTEDKEYID", "planted+secret/key"
READERS_PASSWORD = "planted-for-readers"
SECRETS = (PASSWORD, "planted-pass%2Fword", KEY, "planted%2Bsecret%2Fkey", READERS_PASSWORD)


@pytest.fixture
def planted(settings: Settings) -> Iterator[Settings]:
    role = f"keeper_of_{settings.postgres_db}"
    execute(settings, f"create role {role} login password '{PASSWORD}'")
    execute(settings, f"grant {role} to {settings.postgres_user}")
    execute(settings, f"grant create on database {settings.postgres_db} to {role}")
    execute(settings, "drop schema bronze, silver, gold, meta, partitions, staging cascade")
    planted = settings.model_copy(
        update={
            "postgres_user": role,
            "postgres_password": SecretStr(PASSWORD),
            "bi_reader_password": SecretStr(READERS_PASSWORD),
            "s3_access_key_id": SecretStr(KEY_ID),
            "s3_secret_access_key": SecretStr(KEY),
        }
    )
    yield planted
    close_connections()


def wait_for_exit(folder: Path, settings: Settings) -> tuple[int, str]:
    """Run the pipeline; return its exit code, and its command line and output."""
    with main_process(folder, settings, "--log-level", "debug") as process:
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text() if Path("/proc/self").exists() else ""
        output, errors = process.communicate(timeout=60)
    return process.returncode, command_line + output + errors


def test_run_shows_no_secret(planted: Settings, scenario: Scenario, tmp_path: Path) -> None:
    results = [
        (wait_for_exit(tmp_path, planted), 0),
        (wait_for_exit(tmp_path, planted.model_copy(update={"s3_bucket_name": "no-such-bucket"})), 1),
        (wait_for_exit(tmp_path, planted.model_copy(update={"postgres_db": "no_such_database"})), 1),
    ]
    warehouse = Warehouse(planted)
    assert warehouse.contents() == scenario.b
    tables = warehouse.rows("select tablename from pg_tables where schemaname = 'meta'")
    assert tables
    meta_rows = "".join(str(warehouse.rows(f"select t::text from meta.{table} t")) for (table,) in tables)
    assert "NoSuchBucket" in meta_rows, "failed runs are recorded, too"
    for (exit_code, output), expected in results:
        assert exit_code == expected, output
        assert ("Traceback" in output) == bool(exit_code), "debug output contains the traceback of an error"
    for secret in SECRETS:
        assert secret not in meta_rows
        for (_, output), _ in results:
            assert secret not in output


def test_session_token_with_a_line_end_is_never_shown(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    runs = "select status from meta.pipeline_runs"
    runs_before = warehouse.rows(runs)
    done = run_case("07-session-token-in-the-error", tmp_path, environment=environment_of(settings))
    assert "LEAKED" not in done.stdout, "its own search for the token"
    assert done.returncode == 1, "which is that of grep: nothing found"
    assert warehouse.rows(runs) == [*runs_before, ("complete",)], "the line end is stripped"
    assert "SESSIONTOKENSECRET123" not in str(warehouse.rows("select t::text from meta.pipeline_runs t"))
