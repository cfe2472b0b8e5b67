-- Loads of snapshot days record the ETag of their file: shares of matches are compared with those of builds from the same file.

update meta.table_loads as loads
set facts = loads.facts || jsonb_build_object('etag', files.etag)
from meta.ingested_files as files
where loads.parent_table = 'bronze.csv_snapshots' and loads.table_name = files.table_name;

update meta.table_loads as loads
set facts = loads.facts || jsonb_build_object('etag', bronze.facts ->> 'etag')
from meta.table_loads as bronze
where
    loads.parent_table = 'silver.stg_csv_snapshots'
    and bronze.parent_table = 'bronze.csv_snapshots'
    and loads.built_from[1] = bronze.load_id;
