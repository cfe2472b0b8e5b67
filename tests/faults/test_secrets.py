"""The password and the secret key are nowhere to be read: not in what a run says, not in `ps`, not in the books."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from scenario import Story, execute, started
from support import Warehouse

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
    close_connections(planted)


def ending_of(folder: Path, settings: Settings) -> tuple[int, str]:
    """Exit code, and all that could be read of a run from outside."""
    with started(folder, settings, "--log-level", "debug") as process:
        told = Path(f"/proc/{process.pid}/cmdline").read_text() if Path("/proc/self").exists() else ""
        said, complained = process.communicate(timeout=60)
    return process.returncode, told + said + complained


def test_run_shows_no_secret(planted: Settings, story: Story, tmp_path: Path) -> None:
    endings = [
        (ending_of(tmp_path, planted), 0),
        (ending_of(tmp_path, planted.model_copy(update={"s3_bucket_name": "no-such-bucket"})), 1),
        (ending_of(tmp_path, planted.model_copy(update={"postgres_db": "no_such_database"})), 1),
    ]
    warehouse = Warehouse(planted)
    assert warehouse.contents() == story.b
    tables = warehouse.rows("select tablename from pg_tables where schemaname = 'meta'")
    assert tables
    books = "".join(str(warehouse.rows(f"select t::text from meta.{table} t")) for (table,) in tables)
    assert "NoSuchBucket" in books, "failed runs are in the books, too"
    for (exit_code, said), expected in endings:
        assert exit_code == expected, said
        assert ("Traceback" in said) == bool(exit_code), "debugging shows how it came to an error"
    for secret in SECRETS:
        assert secret not in books
        for (_, said), _ in endings:
            assert secret not in said
