"""docs/data_dictionary.md and img/gold-model.svg agree with the database."""

from __future__ import annotations

from contextlib import closing

from support import empty_warehouse

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings, connect_postgres
from tools import er_diagram
from tools.data_dictionary import DOCUMENT, render


def test_dictionary_and_diagram_are_up_to_date(postgres_server: Settings, s3_endpoint: str) -> None:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        assert run_steps(settings, [STEPS[0], STEPS[3], STEPS[4]]).error is None
        with closing(connect_postgres(settings)) as connection, connection.cursor() as db:
            assert DOCUMENT.read_text(encoding="utf-8") == render(db), "run `make dictionary`"
            assert er_diagram.PICTURE.read_text(encoding="utf-8") == er_diagram.render(db), "run `make dictionary`"
