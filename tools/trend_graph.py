"""Generator of img/graph.png, the trend of new high-quality leads in the sample data: `make graph`.

The pipeline loads the sample into a temporary embedded PostgreSQL. Neither real data nor charts of it are committed;
gold_EDA.ipynb and the report show this chart for your own warehouse.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from etl.engine.runner import run_steps
from etl.local.demo import BUCKET, demo_settings
from etl.local.s3_server import s3_server, upload_folder
from etl.local.sample_data import write_sample
from etl.pipeline import STEPS
from etl.reporting.answers import Anomalies
from etl.reporting.charts import new_high_quality_leads_per_day as trend
from etl.reporting.daily import new_high_quality_leads_per_day
from etl.reporting.reading import reading
from etl.utils.utils_connection import Settings, s3_client
from tools.temporary_postgres import temporary_postgres

PICTURE = Path(__file__).parents[1] / "img" / "graph.png"


def draw(settings: Settings, target: Path) -> None:
    """Draw the chart from gold, and save it as `target`."""
    with reading(settings) as read:
        anomalies = Anomalies(read("data_anomalies"))
        answer = new_high_quality_leads_per_day(read("new_high_quality_leads_per_day"), anomalies)
    # Omit matplotlib's version, which would change the file without changing the chart.
    trend(answer.rows, affected_days=answer.affected_days).savefig(target, dpi=150, metadata={"Software": None})


def main() -> None:
    """Run the pipeline on the sample data, and draw the chart."""
    with (
        TemporaryDirectory(prefix="homebuddy-graph-") as name,
        temporary_postgres() as postgres,
        s3_server() as endpoint,
    ):
        settings, sample = demo_settings(postgres, endpoint), Path(name) / "sample"
        write_sample(sample)
        upload_folder(s3_client(settings), BUCKET, sample)
        report = run_steps(settings, STEPS)
        if report.error:
            raise report.error
        draw(settings, PICTURE)
    click.echo(f"Chart written to {PICTURE}")


if __name__ == "__main__":
    main()
