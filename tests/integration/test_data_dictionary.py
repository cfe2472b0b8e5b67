"""What `make dictionary` generates agrees with the database."""

from __future__ import annotations

from contextlib import closing

from support import empty_warehouse

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings, connect_postgres
from tools.data_dictionary import generated_files
from tools.superset_assets import ASSETS


def test_generated_files_are_up_to_date(postgres_server: Settings, s3_endpoint: str) -> None:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        assert run_steps(settings, [STEPS[0], STEPS[3], STEPS[4]]).error is None
        with closing(connect_postgres(settings)) as connection, connection.cursor() as db:
            files = generated_files(db)
    assert [path for path, text in files.items() if path.read_text(encoding="utf-8") != text] == [], "make dictionary"
    assert set(ASSETS.rglob("*.yaml")) <= set(files), "make dictionary"
