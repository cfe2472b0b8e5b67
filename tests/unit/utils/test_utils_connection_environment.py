"""Settings as files, shells and secret stores deliver them: in odd encodings, with line ends, in other layouts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from settings_environment import PASSWORD, REQUIRED, load

from etl.utils import utils_connection
from etl.utils.errors import SettingsError
from etl.utils.utils_connection import load_settings

ENV = "".join(f"{name}={value}\n" for name, value in REQUIRED.items())

pytestmark = pytest.mark.usefixtures("clean_environment")


def error_of(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return str(caught.value)


# --- .env -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        ENV.encode("utf-16"),
        ENV.encode("utf-16-le"),
        b"# f\xfcr den Server\n" + ENV.encode(),
        ENV.replace(PASSWORD, "pässword").encode("latin-1"),
    ],
    ids=["UTF-16", "UTF-16 without mark", "comment in cp1252", "value in latin-1"],
)
def test_env_file_in_another_encoding_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{tmp_path / '.env'} is not UTF-8" in str(caught.value)
    assert "save it as UTF-8" in str(caught.value)


def test_empty_variable_does_not_hide_the_value_in_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(ENV + "MISSING_DAYS=refuse\n")
    monkeypatch.setenv("MISSING_DAYS", "")
    assert load_settings().missing_days == "refuse"


def test_value_that_the_locale_lacks_is_named_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENV.replace(PASSWORD, "pass€word"), encoding="utf-8")
    program = (
        "from etl.utils.utils_connection import load_settings\n"
        "try:\n    load_settings()\nexcept Exception as error:\n    print(type(error).__name__, ascii(str(error)))"
    )
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3]), **locale},
        check=True,
    )
    assert done.stdout.startswith("SettingsError ")
    assert "POSTGRES_PASSWORD needs another locale" in done.stdout
    assert "20ac" not in done.stdout


def test_misspelt_setting_in_env_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = "jupyter_token=x\nAWS_ENDPOINT_URL=http://x\nPOSTGRES_PUBLISHED_PORT=1\nmissing_days=warn\n"
    (tmp_path / ".env").write_text(ENV + others)
    load_settings()
    assert not caplog.text
    (tmp_path / ".env").write_text(ENV + "MISSING_DAY=refuse\n")
    assert load_settings().missing_days == "warn"
    assert ".env: MISSING_DAY is not a setting and is ignored; did you mean MISSING_DAYS?" in caplog.text


def test_example_env_file_causes_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".env").write_text((Path(__file__).parents[3] / ".env.example").read_text())
    load_settings()
    assert not caplog.text


def test_env_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + ENV.encode())
    assert load_settings().postgres_user == "myuser"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take the rights of another user")
@pytest.mark.parametrize("user", [65534, 12345], ids=["nobody", "a user without an account"])
def test_env_file_of_another_user_is_named(tmp_path: Path, user: int) -> None:
    (tmp_path / ".env").write_text(ENV)
    (tmp_path / ".env").chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    program = (
        f"import os; os.setuid({user})\n"
        "from etl.utils.utils_connection import load_settings\n"
        "try:\n    load_settings()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import etl.utils.utils_connection, dotenv\n" + program],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3])},
        check=True,
    )
    assert done.stdout.startswith(f"SettingsError {tmp_path / '.env'} cannot be read: Permission denied")
    assert f"make it readable for user id {user}" in done.stdout


def test_folder_in_place_of_the_env_file_has_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").mkdir()
    monkeypatch.setattr(utils_connection, "PROJECT", tmp_path)
    with pytest.raises(SettingsError, match="cannot be read: Is a directory") as raised:
        load_settings()
    assert raised.value.hint == "replace it with a copy of .env.example"


@pytest.mark.parametrize("value", ["x${y}z", "${POSTGRES_USER}", "$HOME", "a${b:-c}d"])
def test_value_of_env_file_is_not_interpolated(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(ENV.replace(PASSWORD, f"'{value}'"))
    assert load_settings().postgres_password.get_secret_value() == value


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t"])
def test_line_end_behind_a_setting_is_removed(end: str) -> None:
    given = {
        "POSTGRES_HOST": "server",
        "S3_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "S3_SECRET_ACCESS_KEY": "secret+key",
        "AWS_ENDPOINT_URL_S3": "http://minio:9000",
        "POSTGRES_PORT": "5433",
        "PARTITION_START_DATE": "2024-10-01",
    }
    settings = load(**{name: value + end for name, value in given.items()}, AWS_SESSION_TOKEN=f"token{end}")
    assert settings.postgres_host == "server"
    assert settings.postgres_port == 5433
    assert settings.aws_endpoint_url_s3 == "http://minio:9000"
    assert settings.s3_access_key_id is not None
    assert settings.s3_access_key_id.get_secret_value() == "AKIAEXAMPLE"
    assert os.environ["AWS_SESSION_TOKEN"] == "token", "boto3 reads it by itself"


def test_blanks_of_a_password_are_kept() -> None:
    assert load(POSTGRES_PASSWORD=" a b \n").postgres_password.get_secret_value() == " a b "


@pytest.mark.parametrize("url", ["localhost:9000", "minio.local", "ftp://host", "http://", "//host:9000", "http://a b"])
def test_endpoint_that_is_no_url_is_named(url: str) -> None:
    assert "AWS_ENDPOINT_URL_S3 must be a URL such as http://host:port" in error_of(AWS_ENDPOINT_URL_S3=url)


@pytest.mark.parametrize("name", ["s3://leads", "leads/", "leads/parquet", "/"])
def test_bucket_with_scheme_or_folder_is_named(name: str) -> None:
    expected = "S3_BUCKET_NAME must be the name of a bucket or the ARN of an access point, without s3:// or a folder"
    assert expected in error_of(S3_BUCKET_NAME=name)


@pytest.mark.parametrize("variable", ["S3_SFTP_BUCKET", "S3_PARQUET_BUCKET"])
def test_other_bucket_with_scheme_is_named(variable: str) -> None:
    assert f"{variable} must begin with the name of a bucket" in error_of(**{variable: "s3://leads/parquet"})


def test_access_point_arn_is_accepted_as_bucket() -> None:
    arn = "arn:aws:s3:eu-north-1:123456789012:accesspoint/leads"
    assert load(S3_BUCKET_NAME=arn, S3_PARQUET_BUCKET="/parquet").parquet_bucket == arn


def test_endpoint_with_a_password_is_refused_without_showing_it() -> None:
    message = error_of(AWS_ENDPOINT_URL_S3="http://user:planted-secret@host:9000")
    assert "without user, password or query" in message
    assert "planted-secret" not in message


@pytest.mark.parametrize("url", ["http://localhost:9000", "https://s3.example.com", "http://[::1]:9000/path"])
def test_endpoint_that_is_a_url_is_accepted(url: str) -> None:
    assert load(AWS_ENDPOINT_URL_S3=url).aws_endpoint_url_s3 == url


@pytest.mark.parametrize("day", ["20241001", "10/01/2024", "1727740800", "2024-10-01T00:00:00", "2024-13-01", "today"])
def test_start_date_that_is_no_iso_date_is_named(day: str) -> None:
    message = error_of(PARTITION_START_DATE=day)
    assert "PARTITION_START_DATE " in message
    if day != "2024-13-01":
        assert "must be a date such as 2024-10-01" in message
