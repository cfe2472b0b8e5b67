"""`make graph`: img/graph.png, the trend of new high-quality leads, from the sample data.

The pipeline fills an embedded PostgreSQL of its own, which is gone afterwards. Real data is never committed, nor is a
picture of it; the same picture of one's own data stands in gold_EDA.ipynb and in the report.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from etl.engine.runner import run_steps
from etl.local.demo import BUCKET, demo_settings
from etl.local.embedded import temporary_postgres
from etl.local.s3_server import s3_server, upload_folder
from etl.local.sample_data import ensure_sample
from etl.pipeline import STEPS
from etl.reporting.answers import Anomalies
from etl.reporting.charts import new_high_quality_leads_per_day as trend
from etl.reporting.daily import new_high_quality_leads_per_day
from etl.reporting.reading import reading
from etl.utils.utils_connection import Settings, s3_client

PICTURE = Path(__file__).parents[1] / "img" / "graph.png"


def draw(settings: Settings, target: Path) -> None:
    """Draw what gold holds."""
    with reading(settings) as read:
        anomalies = Anomalies(read("data_anomalies"))
        answer = new_high_quality_leads_per_day(read("new_high_quality_leads_per_day"), anomalies)
    # The version that drew it would make another file of the same picture.
    trend(answer.rows, affected_days=answer.affected_days).savefig(target, dpi=150, metadata={"Software": None})


def main() -> None:
    """Run the pipeline on the sample, and draw."""
    with (
        TemporaryDirectory(prefix="homebuddy-graph-") as name,
        temporary_postgres() as postgres,
        s3_server() as endpoint,
    ):
        settings, sample = demo_settings(postgres, endpoint), Path(name) / "sample"
        ensure_sample(sample)
        upload_folder(s3_client(settings), BUCKET, sample)
        report = run_steps(settings, STEPS)
        if report.error:
            raise report.error
        draw(settings, PICTURE)
    click.echo(f"{PICTURE} is up to date")


if __name__ == "__main__":
    main()
