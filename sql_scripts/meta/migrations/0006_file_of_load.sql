-- Loads of snapshot days record the ETag of their file: shares of matches are compared with those of builds from the same file.

update meta.table_loads as loads
set facts = loads.facts || jsonb_build_object('etag', files.etag)
from meta.ingested_files as files
where loads.parent_table = 'bronze.csv_snapshots' and loads.table_name = files.table_name;

update meta.table_loads as loads
set facts = loads.facts || jsonb_build_object('etag', bronze.facts ->> 'etag')
from meta.table_loads as bronze
where
    loads.parent_table in ('silver.stg_csv_snapshots', 'staging.stg_csv_data')
    and bronze.parent_table = 'bronze.csv_snapshots'
    and bronze.facts ? 'etag'
    and loads.built_from[1] = bronze.load_id;

update meta.table_loads as loads
set facts = loads.facts || jsonb_build_object('etag', silver.facts ->> 'etag')
from meta.table_loads as silver
where
    loads.parent_table = 'gold.lead_quality_matching'
    and silver.parent_table = 'silver.stg_csv_snapshots'
    and silver.facts ? 'etag'
    and loads.built_from[1] = silver.load_id;
