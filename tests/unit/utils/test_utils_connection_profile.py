"""Which credentials the S3 client uses if AWS_PROFILE is set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws
from pydantic import SecretStr

from etl.utils.errors import SourceError
from etl.utils.utils_connection import Settings, s3_client

KEY_OF_SETTINGS, KEY_OF_PROFILE = "key-of-settings", "key-of-profile"


@pytest.fixture(autouse=True)
def aws_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Profile `existing`, and no other credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[existing]\naws_access_key_id = {KEY_OF_PROFILE}\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    s3_client.cache_clear()
    yield
    s3_client.cache_clear()


def settings(*, key: str | None, role: str | None = None) -> Settings:
    return Settings(
        postgres_user="u",
        postgres_password=SecretStr("p"),
        postgres_db="d",
        postgres_host="h",
        s3_bucket_name="leads",
        s3_access_key_id=SecretStr(key) if key else None,
        s3_secret_access_key=SecretStr("secret") if key else None,
        s3_region="eu-north-1",
        s3_iam_role_arn=role,
        s3_iam_user_arn=None,
        aws_endpoint_url_s3=None,
    )


def signed_url(settings: Settings) -> str:
    return s3_client(settings).generate_presigned_url("get_object", Params={"Bucket": "leads", "Key": "k"})


@pytest.mark.parametrize("profile", ["existing", "left-over"])
@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_keys_of_settings_take_precedence_over_profile(
    monkeypatch: pytest.MonkeyPatch, variable: str, profile: str
) -> None:
    monkeypatch.setenv(variable, profile)
    url = signed_url(settings(key=KEY_OF_SETTINGS))
    assert KEY_OF_SETTINGS in url
    assert "eu-north-1" in url


def test_role_is_assumed_whatever_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "left-over")
    with mock_aws():
        url = signed_url(settings(key=KEY_OF_SETTINGS, role="arn:aws:iam::123456789012:role/reader"))
    assert "security-token=" in url.lower()


def test_profile_is_used_without_keys_in_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "existing")
    assert KEY_OF_PROFILE in signed_url(settings(key=None))


def test_missing_profile_is_an_error_without_keys_in_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "left-over")
    with pytest.raises(SourceError, match="left-over"):
        s3_client(settings(key=None))
