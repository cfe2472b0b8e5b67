"""Cases to measure: changed objects in the bucket, initial warehouse, and expected number of loaded days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.real_shape import BASE, CORRECTED, CORRECTED_DAY, FEWER_LEADS, GROWN_LEADS, LEADS_KEY, NEW_DAY, Dataset
from etl.local.s3_server import upload_folder
from etl.utils.utils_connection import Settings, s3_client

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Objects = Mapping[str, str]
"""Key of an object → part of the data set that contains it."""

DAYS = 22
LATE_DAY = 7


def snapshot_key(day: int) -> str:
    return f"SFTP/data_{day}.csv"


BASE_OBJECTS: Objects = {LEADS_KEY: BASE, **{snapshot_key(day): BASE for day in range(1, DAYS + 1)}}

LOADED, WITHOUT_LATE_DAY, WITH_FEWER_LEADS = "loaded", "without_late_day", "with_fewer_leads"
WAREHOUSES: Mapping[str, Objects] = {
    LOADED: BASE_OBJECTS,
    WITHOUT_LATE_DAY: {key: part for key, part in BASE_OBJECTS.items() if key != snapshot_key(LATE_DAY)},
    WITH_FEWER_LEADS: {**BASE_OBJECTS, LEADS_KEY: FEWER_LEADS},
}
"""Initial warehouse of cases → objects in the bucket when it was loaded."""


@dataclass(frozen=True)
class Case:
    """A run of the pipeline on a loaded warehouse, after objects in the bucket have changed."""

    name: str
    warehouse: str = LOADED
    changes: Objects = field(default_factory=dict)
    loaded_days: int = 1
    """Number of days that the run must replace in bronze or add to it."""
    arguments: Sequence[str] = ()

    @property
    def option(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def objects(self) -> Objects:
        """Objects in the bucket during the run."""
        return {**WAREHOUSES[self.warehouse], **self.changes}


FULL_REFRESH = Case("full refresh", loaded_days=DAYS, arguments=("--full-refresh",))

CASES = (
    Case("unchanged", loaded_days=0),
    Case("new day", changes={snapshot_key(DAYS + 1): NEW_DAY}),
    Case("grown leads", changes={snapshot_key(DAYS + 1): NEW_DAY, LEADS_KEY: GROWN_LEADS}),
    Case("corrected day", changes={snapshot_key(CORRECTED_DAY): CORRECTED}),
    Case("late day", WITHOUT_LATE_DAY, {snapshot_key(LATE_DAY): BASE}),
    Case("late leads", WITH_FEWER_LEADS, {snapshot_key(DAYS + 1): NEW_DAY, LEADS_KEY: BASE}),
)
DEFAULT_CASES = tuple(case for case in CASES if case.name != "late leads")
"""`late leads` needs a separate warehouse and is rare: usually a lead is in the backend before it is in the CRM."""


class Bucket:
    """A bucket that contains one of several versions of a data set."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self.name = settings.s3_bucket_name
        self._dataset = dataset
        self._client: S3Client = s3_client(settings)
        upload_folder(self._client, self.name, dataset.folder / BASE)
        self._objects = dict(BASE_OBJECTS)

    def hold(self, objects: Objects) -> None:
        """Upload or delete objects until the bucket contains these. Equal contents have equal ETags."""
        for key in self._objects.keys() - objects.keys():
            self._client.delete_object(Bucket=self.name, Key=key)
        for key, part in objects.items():
            if self._objects.get(key) != part:
                with self._dataset.file(part, key).open("rb") as body:
                    self._client.put_object(Bucket=self.name, Key=key, Body=body)
        self._objects = dict(objects)

    def records(self) -> tuple[int, int]:
        """Return the number of records in all snapshots, and that in the leads file."""
        counts = {key: self._dataset.records[f"{part}/{key}"] for key, part in self._objects.items()}
        leads = counts.pop(LEADS_KEY)
        return sum(counts.values()), leads
