"""Upload files with valid rows, separators and invalid rows."""

from __future__ import annotations

from support import Bucket


def put_files(bucket: Bucket) -> None:
    """Upload four days of valid rows, a separator and an invalid row each, and the leads."""
    for number in range(1, 5):
        rows = [{"LEADNUMBER": str(number * 100 + row), "email_hash": f"e{row}"} for row in range(20)]
        bucket.put_snapshot(number, [*rows, {"CITY": "-----"}, {"LEADNUMBER": "no number"}])
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(8)])
