"""HomeBuddy Leads ETL: CRM snapshots and backend leads from S3, matched and graded in PostgreSQL."""

__version__ = "0.1.0"
