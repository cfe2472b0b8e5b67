-- Drops all schemas of the pipeline, and what depends on them, such as the views of dbt. The next run fills an empty warehouse.
-- Roles are kept, because all databases of the server share them. No step executes this script.

drop schema if exists gold, silver, bronze, partitions, staging, meta cascade;
