"""More days than the server has locks for are published together or not at all."""

from __future__ import annotations

from contextlib import closing

from fault_scenario import assert_clear, run
from servers import OWNER, OWNER_PASSWORD, image_server
from support import Bucket, Warehouse

from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

DAYS = 40
LOCKS_LEFT = 200
"""Enough locks for one day, and for a step that publishes nothing."""
TAKE_MOST_LOCKS = """
do $$
declare taken int := 0;
begin
    begin
        loop
            perform pg_advisory_lock(0, taken);
            taken := taken + 1;
        end loop;
    exception when out_of_memory then
        null;  -- there is none left
    end;
    perform pg_advisory_unlock(0, number) from generate_series(taken - %s, taken) as number;
end
$$
"""


def test_server_with_too_few_locks_is_reported_with_a_hint(s3_endpoint: str) -> None:
    with image_server([], {}) as server:
        settings: Settings = server.settings(OWNER, OWNER_PASSWORD, "postgres", s3_endpoint).model_copy(
            update={
                "s3_bucket_name": "many-days",
                "s3_region": "us-east-1",
                "max_row_drop": 1.0,
                "max_row_growth": 1000.0,
                "max_repeated_leads": 1.0,
            }
        )
        bucket = Bucket(settings)
        bucket.client.create_bucket(Bucket=bucket.name)
        for number in range(1, DAYS + 1):
            bucket.put_snapshot(number, [{"LEADNUMBER": str(number)}])
        bucket.put_leads([("lead", "p1", "e1")])
        first = run(settings)
        assert first.error is None, first.error
        warehouse = Warehouse(settings)
        gold, bronze = warehouse.gold(), warehouse.fingerprint("bronze.csv_snapshots")
        with closing(server.connect("postgres")) as others, others.cursor() as db:
            db.execute(TAKE_MOST_LOCKS, (LOCKS_LEFT,))
            again = run(settings, full_refresh=True)
        close_connections()
        assert again.exit_code == 1
        assert_clear(again.error, "step 2", "out of shared memory", "raise max_locks_per_transaction")
        assert (warehouse.gold(), warehouse.fingerprint("bronze.csv_snapshots")) == (gold, bronze)
