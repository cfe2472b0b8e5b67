"""An S3 server in this process, for the demo and for tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.local.postgres_cluster import HOST, EmbeddedError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = logging.getLogger(__name__)


_open_s3_servers: set[str] = set()


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server in this process until the end of the block. Yields its endpoint URL.

    The server accepts any credentials and keeps objects in memory. Servers that run at the same time share their
    buckets, which are deleted when the last server stops.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)  # 0: any free port
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    _open_s3_servers.add(endpoint)
    try:
        yield endpoint
    finally:
        _open_s3_servers.discard(endpoint)
        if not _open_s3_servers:
            _delete_buckets(host, port)
        server.stop()


def _delete_buckets(host: str, port: int) -> None:
    # moto keeps its state per process, not per server. http.client ignores proxy settings.
    from http.client import HTTPConnection

    with suppress(OSError), closing(HTTPConnection(host, port, timeout=10)) as connection:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()


def upload_folder(client: S3Client, bucket: str, data: Path) -> int:
    """Upload `files_to_upload(data)` under their paths relative to `data`. Returns the number of files.

    The bucket is created if it is missing.

    Raises:
        EmbeddedError: there are no files to upload.
        OSError: a file cannot be read.
    """
    files = files_to_upload(data)
    if not files:
        raise EmbeddedError(
            f"{data} contains neither SFTP/*.csv nor parquet/*.parquet",
            hint="fill the warehouse of the demo again: python main.py --demo, or python main.py --demo --data DIR",
        )
    create_bucket(client, bucket)
    for file in files:
        with file.open("rb") as body:
            client.put_object(Bucket=bucket, Key=file.relative_to(data).as_posix(), Body=body)
    log.info("%d files from %s uploaded to s3://%s", len(files), data, bucket)
    return len(files)


def files_to_upload(data: Path) -> list[Path]:
    """Return the files `data/SFTP/*.csv*`, ignoring case and without hidden files, and `data/parquet/*.parquet`."""
    # Includes .CSV and .csv.bak, which the pipeline ignores with a warning.
    return sorted(data.glob("SFTP/[!.]*.[cC][sS][vV]*")) + sorted(data.glob("parquet/*.parquet"))


def create_bucket(client: S3Client, bucket: str) -> None:
    """Create a bucket if it does not exist."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
        return
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchBucket"):
            raise
    region = client.meta.region_name
    is_default = region in (None, "us-east-1", "aws-global")  # S3 rejects its default region as a constraint
    options: Any = {} if is_default else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=bucket, **options)
