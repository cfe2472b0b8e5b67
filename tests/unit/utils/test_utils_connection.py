"""Settings of the environment and `.env`, explained when wrong and silent about secrets; whose the S3 client is."""

from __future__ import annotations

import json
import os
import pickle
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

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

PASSWORD = "a-very-secret-password"
ACCESS_KEY = "AKIAVERYSECRETKEYID1"
SECRET_KEY = "a-very-secret-access-key"
NECESSARY = {
    "POSTGRES_USER": "myuser",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_DB": "mydatabase",
    "POSTGRES_HOST": "postgres",
    "S3_BUCKET_NAME": "homebuddy-leads",
}
KEYS = {"S3_ACCESS_KEY_ID": ACCESS_KEY, "S3_SECRET_ACCESS_KEY": SECRET_KEY, "S3_REGION": "eu-north-1"}
OF_THE_PIPELINE = ("POSTGRES_", "S3_", "AWS_", "PARTITION_", "JUPYTER_", "DASK_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment that knows nothing of the pipeline, and a folder without `.env`; each test has its own."""
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(OF_THE_PIPELINE):
            del os.environ[name]
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


def load(**variables: str) -> Settings:
    os.environ.update(NECESSARY | variables)
    return load_settings()


def fault(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return caught.value


# --- what is read -----------------------------------------------------------------------------------------------------


def test_what_is_necessary_is_enough_and_the_rest_has_the_documented_defaults() -> None:
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


def test_every_variable_has_its_place() -> None:
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


def test_settings_are_read_from_the_env_file_of_this_folder_or_one_above(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"{name}={value}" for name, value in NECESSARY.items()]
    (tmp_path / ".env").write_text(
        "\n".join(["# comment", *lines, "POSTGRES_PORT=6543", "S3_REGION="]), encoding="utf-8"
    )
    assert load_settings().postgres_port == 6543
    assert load_settings().s3_region is None

    deeper = tmp_path / "your_jup_notebooks" / "deeper"
    deeper.mkdir(parents=True)
    monkeypatch.chdir(deeper)
    for name in [*NECESSARY, "POSTGRES_PORT"]:
        del os.environ[name]  # the first reading put them there
    assert load_settings().postgres_user == "myuser"


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_HOST=from-file\nPOSTGRES_USER=from-file\n", encoding="utf-8")
    os.environ.update({name: value for name, value in NECESSARY.items() if name != "POSTGRES_USER"})
    settings = load_settings()
    assert (settings.postgres_host, settings.postgres_user) == ("postgres", "from-file")


def test_the_env_file_reaches_boto3s_own_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_PROFILE=somebody\n", encoding="utf-8")
    load()
    assert os.environ["AWS_PROFILE"] == "somebody"


def test_the_example_file_is_one_that_works(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / ".env.example"
    (tmp_path / ".env").write_bytes(example.read_bytes())
    assert load_settings().postgres_port == 5432


def test_settings_are_frozen_and_comparable() -> None:
    settings = load(**KEYS)
    with pytest.raises(ValueError, match="frozen"):
        settings.postgres_user = "other"
    assert hash(settings) == hash(load_settings())


def test_no_setting_crosses_a_process_boundary() -> None:
    sent = pickle.dumps(load(**KEYS))
    for secret in (PASSWORD, ACCESS_KEY, SECRET_KEY):
        assert secret.encode() not in sent
    os.environ["POSTGRES_PASSWORD"] = PASSWORD[::-1]
    _settings_of_environment.cache_clear()
    assert pickle.loads(sent).postgres_password.get_secret_value() == PASSWORD[::-1]
    _settings_of_environment.cache_clear()


def test_settings_that_a_process_was_handed_are_its_own_until_it_is_rid_of_them() -> None:
    settings = load(**KEYS)
    sent = pickle.dumps(settings)
    set_local_settings(settings)
    os.environ.clear()
    assert pickle.loads(sent) == settings
    clear_local_settings(settings.postgres_address)
    with pytest.raises(SettingsError, match="POSTGRES_USER"):
        pickle.loads(sent)


@pytest.mark.parametrize("address", ["host:8786", "tcp://host", "http://host:8786", "tcp://host:8786/x", "tcp:// :1"])
def test_a_schedulers_address_names_protocol_host_and_port(address: str) -> None:
    assert "DASK_SCHEDULER_ADDRESS: must be tcp://host:port" in str(fault(DASK_SCHEDULER_ADDRESS=address))


def test_what_is_given_wins_over_the_environment() -> None:
    load(DASK_SCHEDULER_ADDRESS="tcp://one:1")
    assert load_settings(dask_scheduler_address="tls://two:2").dask_scheduler_address == "tls://two:2"


# --- what is missing or wrong -----------------------------------------------------------------------------------------


def test_all_missing_settings_are_named_in_one_error_that_says_what_to_do() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.message == f"missing settings: {', '.join(NECESSARY)}"
    assert ".env.example" in str(caught.value)
    assert "--demo" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_empty_variable_counts_as_missing() -> None:
    assert fault(POSTGRES_HOST="", S3_BUCKET_NAME="").message == "missing settings: POSTGRES_HOST, S3_BUCKET_NAME"
    assert load(POSTGRES_HOST="h", S3_BUCKET_NAME="b", S3_ACCESS_KEY_ID="", POSTGRES_PORT="").postgres_port == 5432


@pytest.mark.parametrize("port", ["five", "0", "65536", "-1", "54.32", "5432 or so"])
def test_a_port_that_is_none_is_named(port: str) -> None:
    error = fault(POSTGRES_PORT=port)
    assert error.message.startswith("invalid settings: POSTGRES_PORT: ")


@pytest.mark.parametrize("day", ["01.10.2024", "2024-13-01", "today"])
def test_a_start_date_that_is_none_is_named(day: str) -> None:
    assert fault(PARTITION_START_DATE=day).message.startswith("invalid settings: PARTITION_START_DATE: ")


def test_what_is_missing_and_what_is_wrong_is_told_at_once() -> None:
    message = fault(POSTGRES_PORT="five", PARTITION_START_DATE="today", POSTGRES_USER="").message
    missing, wrong = message.split(" · ")
    assert missing == "missing settings: POSTGRES_USER"
    assert "POSTGRES_PORT: " in wrong
    assert "PARTITION_START_DATE: " in wrong


@pytest.mark.parametrize("half", [{"S3_ACCESS_KEY_ID": ACCESS_KEY}, {"S3_SECRET_ACCESS_KEY": SECRET_KEY}])
def test_half_a_pair_of_keys_is_refused(half: dict[str, str]) -> None:
    message = fault(**half).message
    assert message.startswith("invalid settings: set both S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY")
    assert message.count("S3_ACCESS_KEY_ID") == 1


# --- secrets ----------------------------------------------------------------------------------------------------------


def assert_silent(text: str) -> None:
    for secret in (PASSWORD, ACCESS_KEY, SECRET_KEY):
        assert secret not in text


def test_settings_do_not_show_their_secrets() -> None:
    settings = load(**KEYS)
    for text in (repr(settings), str(settings), f"{settings}", str(settings.model_dump()), settings.model_dump_json()):
        assert_silent(text)
    assert_silent(json.dumps(settings.model_dump(), default=str))
    assert "myuser" in repr(settings)


def test_neither_the_engine_nor_the_name_of_the_warehouse_shows_the_password() -> None:
    settings = load()
    engine = postgres_engine(settings)
    assert_silent(f"{engine!r} {engine.url} {settings.postgres_address}")
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
def test_no_error_shows_a_secret_not_even_one_in_the_wrong_place(variables: dict[str, str]) -> None:
    error = fault(**variables)
    assert_silent(f"{error} {error!r}")
    assert_silent("".join(traceback.format_exception(error)))
    assert_silent(repr(error.__context__))


# --- the S3 client ----------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/leads-reader"


@pytest.fixture
def aws() -> Iterator[None]:
    """An AWS of the test's own. It gives every caller its fake credentials, as the environment of a machine would."""
    s3_client.cache_clear()
    with mock_aws():
        yield
    s3_client.cache_clear()


def signature(settings: Settings) -> str:
    """With whose credentials, and for which region, the client signs."""
    client = s3_client(settings)
    return client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})


def new_user(name: str) -> tuple[str, dict[str, str]]:
    """A user's ARN and the settings with their keys."""
    iam = boto3.client("iam", region_name="us-east-1")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return arn, KEYS | {"S3_ACCESS_KEY_ID": key["AccessKeyId"], "S3_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.usefixtures("aws")
def test_the_client_signs_with_the_keys_of_the_settings() -> None:
    url = signature(load(**KEYS))
    assert ACCESS_KEY in url
    assert "eu-north-1" in url
    assert SECRET_KEY not in url


@pytest.mark.usefixtures("aws")
def test_without_keys_the_client_takes_what_boto3_finds_by_itself() -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIAFROMTHECHAIN", "AWS_SECRET_ACCESS_KEY": "x"}
    assert "AKIAFROMTHECHAIN" in signature(load(S3_REGION="eu-north-1"))


@pytest.mark.usefixtures("aws")
def test_the_client_talks_to_the_endpoint_of_the_settings() -> None:
    client = s3_client(load(**KEYS, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9000"))
    assert client.meta.endpoint_url == "http://127.0.0.1:9000"


@pytest.mark.usefixtures("aws")
def test_equal_settings_share_a_client() -> None:
    assert s3_client(load(**KEYS)) is s3_client(load_settings())


@pytest.mark.usefixtures("aws")
def test_the_role_of_the_settings_is_assumed() -> None:
    url = signature(load(**KEYS, S3_IAM_ROLE_ARN=ROLE))
    assert ACCESS_KEY not in url
    assert "ASIA" in url, "temporary keys start so"
    assert "security-token=" in url.lower()
    assert "eu-north-1" in url


@pytest.mark.usefixtures("aws")
def test_credentials_of_the_user_of_the_settings_are_taken() -> None:
    arn, keys = new_user("pipeline")
    assert keys["S3_ACCESS_KEY_ID"] in signature(load(**keys, S3_IAM_USER_ARN=arn))


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("role", ["", ROLE])
def test_credentials_of_another_user_are_refused_naming_both_even_when_a_role_is_to_be_assumed(role: str) -> None:
    arn, _ = new_user("pipeline")
    other_arn, other_keys = new_user("somebody-else")
    with pytest.raises(SettingsError) as caught:
        s3_client(load(**other_keys, S3_IAM_USER_ARN=arn, S3_IAM_ROLE_ARN=role))
    assert f"belong to {other_arn}, but S3_IAM_USER_ARN is {arn}" in caught.value.message
    assert caught.value.hint
    assert other_keys["S3_SECRET_ACCESS_KEY"] not in str(caught.value)


@pytest.mark.usefixtures("aws")
def test_the_user_is_checked_and_then_the_role_is_assumed() -> None:
    arn, keys = new_user("pipeline")
    assert "security-token=" in signature(load(**keys, S3_IAM_USER_ARN=arn, S3_IAM_ROLE_ARN=ROLE)).lower()


@pytest.mark.usefixtures("aws")
def test_the_identity_is_the_user_or_the_session_of_the_role() -> None:
    arn, keys = new_user("pipeline")
    assert caller_identity(load(**keys)) == arn
    assert ":assumed-role/" in caller_identity(load(**keys, S3_IAM_ROLE_ARN=ROLE))


@pytest.mark.usefixtures("aws")
def test_a_role_that_is_no_arn_is_explained() -> None:
    with pytest.raises(SourceError, match="identity of the S3 credentials"):
        s3_client(load(**KEYS, S3_IAM_ROLE_ARN="reader"))
