"""The variables that settings require, and how they are loaded."""

from __future__ import annotations

import os

from etl.utils.utils_connection import Settings, load_settings

PASSWORD = "a-very-secret-password"
REQUIRED = {
    "POSTGRES_USER": "myuser",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_DB": "mydatabase",
    "POSTGRES_HOST": "postgres",
    "S3_BUCKET_NAME": "homebuddy-leads",
}


def load(**variables: str) -> Settings:
    os.environ.update(REQUIRED | variables)
    return load_settings()
