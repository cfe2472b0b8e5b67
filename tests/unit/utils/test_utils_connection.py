"""Read settings from the environment and `.env`, explain errors without secrets, and build the S3 client."""

from __future__ import annotations

import json
import os
import pickle
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from settings_environment import PASSWORD, REQUIRED, load

from etl.utils.errors import SettingsError, SourceError
from etl.utils.utils_connection import (
    Settings,
    _settings_of_environment,
    caller_identity,
    clear_local_settings,
    load_settings,
    postgres_engine,
    s3_client,
    set_local_settings,
)

ACCESS_KEY = "AKIAVERYSECRETKEYID1"
SECRET_KEY = "a-very-secret-access-key"
KEYS = {"S3_ACCESS_KEY_ID": ACCESS_KEY, "S3_SECRET_ACCESS_KEY": SECRET_KEY, "S3_REGION": "eu-north-1"}

pytestmark = pytest.mark.usefixtures("clean_environment")


def settings_error(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return caught.value


# --- Valid settings ---------------------------------------------------------------------------------------------------


def test_required_settings_suffice_and_the_rest_has_documented_defaults() -> None:
    settings = load()
    assert (settings.postgres_user, settings.postgres_db, settings.postgres_host) == (
        "myuser",
        "mydatabase",
        "postgres",
    )
    assert settings.postgres_password.get_secret_value() == PASSWORD
    assert settings.postgres_port == 5432
    assert settings.s3_access_key_id is None
    assert settings.s3_secret_access_key is None
    assert (settings.csv_bucket, settings.parquet_bucket) == ("homebuddy-leads", "homebuddy-leads")
    assert settings.s3_sftp_files_prefix == "SFTP/data_"
    assert settings.s3_parquet_file == "parquet/leads.parquet"
    assert settings.partition_start_date == date(2024, 10, 1)


def test_every_environment_variable_sets_its_field() -> None:
    settings = load(
        POSTGRES_PORT="6543",
        POSTGRES_SSLMODE="verify-full",
        POSTGRES_SSLROOTCERT="/etc/ssl/rds.pem",
        **KEYS,
        S3_IAM_ROLE_ARN="arn:role",
        S3_IAM_USER_ARN="arn:user",
        S3_SFTP_BUCKET="csvs",
        S3_PARQUET_BUCKET="leads/parquet",
        S3_SFTP_FILES_PREFIX="crm/day-",
        S3_PARQUET_FILE="leads.pq",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9000",
        PARTITION_START_DATE="2025-01-31",
    )
    assert settings.postgres_port == 6543
    assert (settings.postgres_sslmode, settings.postgres_sslrootcert) == ("verify-full", "/etc/ssl/rds.pem")
    assert settings.s3_access_key_id is not None
    assert settings.s3_access_key_id.get_secret_value() == ACCESS_KEY
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == SECRET_KEY
    assert settings.s3_region == "eu-north-1"
    assert (settings.s3_iam_role_arn, settings.s3_iam_user_arn) == ("arn:role", "arn:user")
    assert (settings.csv_bucket, settings.parquet_bucket) == ("csvs", "leads")
    assert (settings.s3_sftp_files_prefix, settings.s3_parquet_file) == ("crm/day-", "leads.pq")
    assert settings.aws_endpoint_url_s3 == "http://127.0.0.1:9000"
    assert settings.partition_start_date == date(2025, 1, 31)


def test_arn_of_a_bucket_is_kept() -> None:
    arn = "arn:aws:s3:eu-north-1:123456789012:accesspoint/leads"
    settings = load(S3_BUCKET_NAME=arn, S3_SFTP_BUCKET=arn)
    assert (settings.csv_bucket, settings.parquet_bucket) == (arn, arn)


def test_env_file_of_this_folder_or_a_parent_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in REQUIRED.items()]
    (tmp_path / ".env").write_text(
        "\n".join(["# comment", *lines, "POSTGRES_PORT=6543", "S3_REGION="]), encoding="utf-8"
    )
    assert load_settings().postgres_port == 6543
    assert load_settings().s3_region is None

    deeper = tmp_path / "your_jup_notebooks" / "deeper"
    deeper.mkdir(parents=True)
    monkeypatch.chdir(deeper)
    for name in [*REQUIRED, "POSTGRES_PORT"]:
        del os.environ[name]  # set by the first load_settings
    assert load_settings().postgres_user == "myuser"


def test_environment_overrides_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_HOST=from-file\nPOSTGRES_USER=from-file\n", encoding="utf-8")
    os.environ.update({name: value for name, value in REQUIRED.items() if name != "POSTGRES_USER"})
    settings = load_settings()
    assert (settings.postgres_host, settings.postgres_user) == ("postgres", "from-file")


def test_env_file_sets_the_variables_of_boto3(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_PROFILE=analyst\n", encoding="utf-8")
    load()
    assert os.environ["AWS_PROFILE"] == "analyst"


def test_example_env_file_is_valid(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / ".env.example"
    (tmp_path / ".env").write_bytes(example.read_bytes())
    assert load_settings().postgres_port == 5432


def test_settings_are_frozen_and_comparable() -> None:
    settings = load(**KEYS)
    with pytest.raises(ValueError, match="frozen"):
        settings.postgres_user = "other"
    assert hash(settings) == hash(load_settings())


def test_pickled_settings_contain_no_secret() -> None:
    sent = pickle.dumps(load(**KEYS))
    for secret in (PASSWORD, ACCESS_KEY, SECRET_KEY):
        assert secret.encode() not in sent
    os.environ["POSTGRES_PASSWORD"] = PASSWORD[::-1]
    _settings_of_environment.cache_clear()
    assert pickle.loads(sent).postgres_password.get_secret_value() == PASSWORD[::-1]
    _settings_of_environment.cache_clear()


def test_settings_given_to_a_process_apply_until_cleared() -> None:
    settings = load(**KEYS)
    sent = pickle.dumps(settings)
    set_local_settings(settings)
    os.environ.clear()
    assert pickle.loads(sent) == settings
    clear_local_settings(settings.postgres_address)
    with pytest.raises(SettingsError, match="POSTGRES_USER"):
        pickle.loads(sent)


@pytest.mark.parametrize("address", ["host:8786", "tcp://host", "http://host:8786", "tcp://host:8786/x", "tcp:// :1"])
def test_scheduler_address_needs_protocol_host_and_port(address: str) -> None:
    assert "DASK_SCHEDULER_ADDRESS must be tcp://host:port" in str(settings_error(DASK_SCHEDULER_ADDRESS=address))


def test_arguments_override_the_environment() -> None:
    load(DASK_SCHEDULER_ADDRESS="tcp://one:1")
    assert load_settings(dask_scheduler_address="tls://two:2").dask_scheduler_address == "tls://two:2"


# --- Missing and invalid settings -------------------------------------------------------------------------------------


def test_missing_settings_are_named_in_one_error_with_a_hint() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.message == f"missing settings: {', '.join(REQUIRED)}"
    assert ".env.example" in str(caught.value)
    assert "--demo" in str(caught.value)
    assert caught.value.exit_code == 1


def test_empty_variable_counts_as_missing() -> None:
    assert (
        settings_error(POSTGRES_HOST="", S3_BUCKET_NAME="").message == "missing settings: POSTGRES_HOST, S3_BUCKET_NAME"
    )
    assert load(POSTGRES_HOST="h", S3_BUCKET_NAME="b", S3_ACCESS_KEY_ID="", POSTGRES_PORT="").postgres_port == 5432


@pytest.mark.parametrize("port", ["five", "0", "65536", "-1", "54.32", "5432 or so"])
def test_invalid_port_is_named(port: str) -> None:
    error = settings_error(POSTGRES_PORT=port)
    assert error.message.startswith("invalid settings: POSTGRES_PORT should be ")


@pytest.mark.parametrize("day", ["01.10.2024", "2024-13-01", "today"])
def test_invalid_start_date_is_named(day: str) -> None:
    assert settings_error(PARTITION_START_DATE=day).message.startswith("invalid settings: PARTITION_START_DATE ")


def test_missing_and_invalid_settings_are_named_in_one_error() -> None:
    message = settings_error(POSTGRES_PORT="five", PARTITION_START_DATE="today", POSTGRES_USER="").message
    missing, wrong = message.split(" · ")
    assert missing == "missing settings: POSTGRES_USER"
    assert "POSTGRES_PORT should be " in wrong
    assert "PARTITION_START_DATE must be " in wrong


@pytest.mark.parametrize("half", [{"S3_ACCESS_KEY_ID": ACCESS_KEY}, {"S3_SECRET_ACCESS_KEY": SECRET_KEY}])
def test_access_key_without_its_secret_is_refused(half: dict[str, str]) -> None:
    message = settings_error(**half).message
    assert message.startswith("invalid settings: set both S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY")
    assert message.count("S3_ACCESS_KEY_ID") == 1


# --- Secrets ----------------------------------------------------------------------------------------------------------


def assert_no_secret(text: str) -> None:
    for secret in (PASSWORD, ACCESS_KEY, SECRET_KEY):
        assert secret not in text


def test_settings_do_not_show_secrets() -> None:
    settings = load(**KEYS)
    for text in (repr(settings), str(settings), f"{settings}", str(settings.model_dump()), settings.model_dump_json()):
        assert_no_secret(text)
    assert_no_secret(json.dumps(settings.model_dump(), default=str))
    assert "myuser" in repr(settings)


def test_engine_and_warehouse_name_do_not_show_the_password() -> None:
    settings = load()
    engine = postgres_engine(settings)
    assert_no_secret(f"{engine!r} {engine.url} {settings.postgres_address}")
    assert settings.postgres_address == "myuser@postgres:5432/mydatabase"


@pytest.mark.parametrize(
    "variables",
    [
        KEYS | {"POSTGRES_PORT": "five"},
        {"S3_ACCESS_KEY_ID": ACCESS_KEY},
        {"S3_SECRET_ACCESS_KEY": SECRET_KEY, "POSTGRES_USER": ""},
        {"POSTGRES_PORT": PASSWORD, "PARTITION_START_DATE": SECRET_KEY},
    ],
)
def test_errors_do_not_show_misplaced_secrets(variables: dict[str, str]) -> None:
    error = settings_error(**variables)
    assert_no_secret(f"{error} {error!r}")
    assert_no_secret("".join(traceback.format_exception(error)))
    assert_no_secret(repr(error.__context__))


# --- The S3 client ----------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/leads-reader"


@pytest.fixture
def aws(clean_environment: None) -> Iterator[None]:
    """Mock AWS with fake credentials in the environment; a new one for each test."""
    del clean_environment
    s3_client.cache_clear()
    with mock_aws():
        yield
    s3_client.cache_clear()


def presigned_url(settings: Settings) -> str:
    """Presign a URL: the access key and the region of the client are part of it."""
    client = s3_client(settings)
    return client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})


def new_user(name: str) -> tuple[str, dict[str, str]]:
    """Create a user; return its ARN and the settings with its keys."""
    iam = boto3.client("iam", region_name="us-east-1")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return arn, KEYS | {"S3_ACCESS_KEY_ID": key["AccessKeyId"], "S3_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.usefixtures("aws")
def test_client_signs_with_the_keys_of_the_settings() -> None:
    url = presigned_url(load(**KEYS))
    assert ACCESS_KEY in url
    assert "eu-north-1" in url
    assert SECRET_KEY not in url


@pytest.mark.usefixtures("aws")
def test_client_without_keys_uses_the_credentials_of_boto3() -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIAFROMTHECHAIN", "AWS_SECRET_ACCESS_KEY": "x"}
    assert "AKIAFROMTHECHAIN" in presigned_url(load(S3_REGION="eu-north-1"))


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("key_id", "is_sent"), [("ASIAOFAROLE", True), ("AKIAOFAUSER", False)])
def test_session_token_is_sent_with_temporary_keys(key_id: str, is_sent: bool) -> None:
    os.environ["AWS_SESSION_TOKEN"] = "token-of-the-session"
    url = presigned_url(load(**KEYS | {"S3_ACCESS_KEY_ID": key_id}))
    assert ("token-of-the-session" in url) is is_sent


@pytest.mark.usefixtures("aws")
def test_client_uses_the_endpoint_of_the_settings() -> None:
    client = s3_client(load(**KEYS, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9000"))
    assert client.meta.endpoint_url == "http://127.0.0.1:9000"


@pytest.mark.usefixtures("aws")
def test_equal_settings_share_a_client() -> None:
    assert s3_client(load(**KEYS)) is s3_client(load_settings())


@pytest.mark.usefixtures("aws")
def test_role_of_the_settings_is_assumed() -> None:
    url = presigned_url(load(**KEYS, S3_IAM_ROLE_ARN=ROLE))
    assert ACCESS_KEY not in url
    assert "ASIA" in url, "prefix of temporary keys"
    assert "security-token=" in url.lower()
    assert "eu-north-1" in url


@pytest.mark.usefixtures("aws")
def test_role_is_assumed_again_before_its_credentials_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    in_five_minutes = property(lambda _: datetime.now(UTC) + timedelta(minutes=5), lambda *_: None)
    monkeypatch.setattr("moto.sts.models.AssumedRole.expiration", in_five_minutes, raising=False)
    settings = load(**KEYS, S3_IAM_ROLE_ARN=ROLE)
    s3_client(settings)
    first, second = (re.findall("ASIA[A-Z0-9]+", presigned_url(settings)) for _ in range(2))
    assert first
    assert second
    assert first != second


@pytest.mark.usefixtures("aws")
def test_credentials_of_the_configured_user_are_accepted() -> None:
    arn, keys = new_user("pipeline")
    assert keys["S3_ACCESS_KEY_ID"] in presigned_url(load(**keys, S3_IAM_USER_ARN=arn))


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("role", ["", ROLE])
def test_credentials_of_another_user_are_refused_naming_both_users(role: str) -> None:
    arn, _ = new_user("pipeline")
    other_arn, other_keys = new_user("analyst")
    with pytest.raises(SettingsError) as caught:
        s3_client(load(**other_keys, S3_IAM_USER_ARN=arn, S3_IAM_ROLE_ARN=role))
    assert f"belong to {other_arn}, but S3_IAM_USER_ARN is {arn}" in caught.value.message
    assert caught.value.hint
    assert other_keys["S3_SECRET_ACCESS_KEY"] not in str(caught.value)


@pytest.mark.usefixtures("aws")
def test_user_is_checked_before_the_role_is_assumed() -> None:
    arn, keys = new_user("pipeline")
    assert "security-token=" in presigned_url(load(**keys, S3_IAM_USER_ARN=arn, S3_IAM_ROLE_ARN=ROLE)).lower()


@pytest.mark.usefixtures("aws")
def test_identity_is_the_user_or_the_session_of_the_role() -> None:
    arn, keys = new_user("pipeline")
    assert caller_identity(load(**keys)) == arn
    assert ":assumed-role/" in caller_identity(load(**keys, S3_IAM_ROLE_ARN=ROLE))


@pytest.mark.usefixtures("aws")
def test_role_that_is_not_an_arn_is_explained() -> None:
    with pytest.raises(SourceError, match="identity of the S3 credentials"):
        s3_client(load(**KEYS, S3_IAM_ROLE_ARN="reader"))
