"""Servers whose messages are not English (case 10): errors are judged by SQLSTATE, whatever their words."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_postgres import refusing_server
from psycopg2 import errors
from servers import Server, distribution_server
from support import environment_of

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils import postgres_errors
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import PipelineError, PostgresError
from etl.utils.postgres_errors import is_transient
from etl.utils.utils_connection import Settings, connect_postgres
from etl.warehouse.transactions import close_connections, transaction

LANGUAGES = {"de_DE": "UTF-8", "fr_FR": "ISO-8859-1", "ru_RU": "KOI8-R"}
"""Locales with translated messages → their encoding."""
ROLE, PASSWORD = "loader", "of-the-loader"


@pytest.fixture(scope="module", params=LANGUAGES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The distribution's PostgreSQL, in another language."""
    language, encoding = request.param, LANGUAGES[request.param]
    localedef = shutil.which("localedef")
    catalogues = Path(f"/usr/share/locale/{language[:2]}/LC_MESSAGES")
    if localedef is None or not list(catalogues.glob("postgres-*.mo")):
        pytest.skip(f"no localedef, or no messages of PostgreSQL in {catalogues}")
    locales = Path(tempfile.mkdtemp(prefix="locales-"))
    locales.chmod(0o755)
    name = f"{language}.{encoding}"
    subprocess.run([localedef, "-i", language, "-f", encoding, locales / name], capture_output=True, timeout=60)
    if not (locales / name).exists():
        pytest.skip(f"localedef cannot make {name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(locales))
        with distribution_server() as server:
            server.execute("postgres", f"create role {ROLE} login password '{PASSWORD}'")
            server.execute("postgres", f"alter system set lc_messages = '{name}'", "select pg_reload_conf()")
            server.execute("postgres", "create database leads")
            yield server
    shutil.rmtree(locales)


def new_settings(server: Server, password: str = PASSWORD, database: str = "leads") -> Settings:
    return server.settings(ROLE, password, database, "http://127.0.0.1:9")


def error_of(settings: Settings) -> tuple[PipelineError, float]:
    started = time.monotonic()
    report = run_steps(settings, STEPS)
    close_connections()
    assert report.exit_code == 1
    assert report.error is not None
    return report.error, time.monotonic() - started


# --- A real server in German, French and Russian ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"password": "wrong"}, "check POSTGRES_USER and POSTGRES_PASSWORD"),
        ({"database": "nodb"}, "check POSTGRES_DB"),
    ],
    ids=["wrong password", "no such database"],
)
def test_refused_log_in_fails_at_once_with_its_hint(server: Server, changes: dict[str, str], hint: str) -> None:
    error, seconds = error_of(new_settings(server, **changes))
    assert error.hint == hint
    assert seconds < 3, "no retry"
    assert "password authentication failed" not in error.message
    assert "does not exist" not in error.message


def test_missing_privileges_have_their_hint(server: Server) -> None:
    error, _ = error_of(new_settings(server))
    assert "permission denied" not in error.message
    assert error.hint is not None
    assert "grant POSTGRES_USER the missing privileges" in error.hint


def test_connection_limit_has_its_hint_and_is_transient(server: Server) -> None:
    """The server refuses it after the password was accepted."""
    server.execute("postgres", f"alter role {ROLE} connection limit 0")
    with pytest.raises(PostgresError) as refused, translate_postgres_errors(new_settings(server)):
        connect_postgres(new_settings(server))
    server.execute("postgres", f"alter role {ROLE} connection limit -1")
    assert refused.value.transient
    assert "too many connections" not in refused.value.message
    assert "raise the limit" in str(refused.value.hint)


def test_context_of_an_error_is_not_shown(server: Server) -> None:
    """Its label is in the server's language, and it may contain a row."""
    settings = new_settings(server)
    with (
        pytest.raises(PostgresError) as raised,
        transaction(settings) as db,
    ):
        db.execute("do $$ begin perform 1 / length(''); /* a row */ end $$")
    close_connections()
    assert "PL/pgSQL" not in raised.value.message
    assert "a row" not in raised.value.message


# --- A server that can be made to say anything ------------------------------------------------------------------------

WRONG_PASSWORD = {
    "Spanish": ("FATAL", "la autentificación password falló para el usuario «loader»", "utf-8"),
    "Spanish in Latin 1": ("FATAL", "la autentificación password falló para el usuario «loader»", "latin-1"),
    "Italian": ("FATALE", 'autenticazione con password fallita per l\'utente "loader"', "utf-8"),
    "Swedish in Latin 1": ("FATALT", "Lösenordsautentisering misslyckades för användare ”loader”", "cp1252"),
    "Japanese in EUC": ("FATAL", 'ユーザー"loader"のパスワード認証に失敗しました', "euc-jp"),
    "Korean": ("치명적오류", '사용자 "loader"의 password 인증을 실패했습니다', "utf-8"),
    "Russian in KOI8": ("ВАЖНО", 'пользователь "loader" не прошёл проверку подлинности', "koi8-r"),
}


@pytest.mark.parametrize("language", WRONG_PASSWORD)
def test_wrong_password_is_permanent_in_every_language(settings: Settings, language: str) -> None:
    severity, message, encoding = WRONG_PASSWORD[language]
    with refusing_server(severity, "28P01", message, encoding) as server:
        error, seconds = error_of(settings.model_copy(update={"postgres_port": server.port}))
        assert server.log_ins <= 2, "an account must not be locked"
    assert error.hint == "check POSTGRES_USER and POSTGRES_PASSWORD"
    assert seconds < 3


@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        ("28000", "pas d'entrée dans pg_hba.conf pour l'hôte « 10.0.0.7 »", "pg_hba.conf"),
        ("3D000", "no existe la base de datos «leads»", "POSTGRES_DB"),
        ("0A000", "protocole non supporté", "POSTGRES_USER"),
        ("XX000", "erreur interne", "POSTGRES_USER"),
    ],
)
def test_other_refusals_are_permanent(settings: Settings, state: str, message: str, hint: str) -> None:
    with refusing_server("FATAL", state, message) as server:
        error, seconds = error_of(settings.model_copy(update={"postgres_port": server.port}))
    assert hint in str(error.hint)
    assert seconds < 3


STARTING_IN_GERMAN = ("FATAL", "57P03", "das Datenbanksystem startet")
STARTING_IN_FRENCH = ("FATAL", "57P03", "le système de bases de données se lance")
FULL_IN_RUSSIAN = ("ВАЖНО", "53300", "извините, уже слишком много клиентов")


@pytest.mark.parametrize(("severity", "state", "message"), [STARTING_IN_GERMAN, STARTING_IN_FRENCH, FULL_IN_RUSSIAN])
def test_server_that_starts_or_is_full_is_transient(
    settings: Settings, severity: str, state: str, message: str
) -> None:
    with refusing_server(severity, state, message) as server:
        busy = settings.model_copy(update={"postgres_port": server.port})
        with pytest.raises(PostgresError) as refused, translate_postgres_errors(busy):
            connect_postgres(busy)
    assert refused.value.transient
    assert message in refused.value.message


def test_server_that_has_started_in_the_meantime_is_transient(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the attempt that fails and the one that asks for the SQLSTATE."""
    ask = postgres_errors._sqlstate_of_refusal
    monkeypatch.setattr(
        postgres_errors, "_sqlstate_of_refusal", lambda given: ask(given | {"port": settings.postgres_port})
    )
    with refusing_server(*STARTING_IN_GERMAN) as server:
        starting = settings.model_copy(update={"postgres_port": server.port})
        with pytest.raises(PostgresError) as refused, translate_postgres_errors(starting):
            connect_postgres(starting)
    assert refused.value.transient


def test_run_waits_for_a_server_that_starts_in_german(
    settings: Settings, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    with refusing_server(*STARTING_IN_GERMAN) as server:
        starting = settings.model_copy(update={"postgres_port": server.port})
        done = python("main.py", environment=environment_of(starting))
        assert server.log_ins > 4
    assert done.returncode == 1
    assert "retrying" in done.stderr
    assert "the server is starting up" in done.stderr


# --- After a connection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "is_expected_to_pass"),
    [("57P01", True), ("40P01", True), ("57014", False), ("42501", False), ("25006", False)],
)
def test_errors_of_a_session_are_judged_by_sqlstate(state: str, is_expected_to_pass: bool) -> None:
    error = errors.lookup(state)("Meldung")
    error.__setstate__({"pgcode": state})
    assert is_transient(error) is is_expected_to_pass


def test_host_name_that_was_resolved_once_is_transient(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that is down for a moment; without a connection before, the setting is wrong."""
    nowhere = settings.model_copy(update={"postgres_host": "postgres.invalid"})
    monkeypatch.setattr(postgres_errors, "_reached", set())
    for is_transient_now in (False, True):
        with pytest.raises(PostgresError) as failed, translate_postgres_errors(nowhere):
            connect_postgres(nowhere)
        assert failed.value.transient is is_transient_now
        assert failed.value.hint == "check POSTGRES_HOST"
        with monkeypatch.context() as patch:  # the name is resolved
            patch.setattr(
                postgres_errors.psycopg2,
                "connect",
                lambda connect=postgres_errors.psycopg2.connect, **given: connect(
                    **given | {"host": settings.postgres_host}
                ),
            )
            connect_postgres(nowhere).close()
