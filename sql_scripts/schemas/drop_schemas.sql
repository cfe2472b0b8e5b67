-- Drops all schemas of the pipeline, and what depends on them, such as the views of dbt. The next run fills an empty warehouse.
-- Roles are kept, because all databases of the server share them. No step executes this script.

drop schema if exists gold cascade;
drop schema if exists silver cascade;
drop schema if exists bronze cascade;
drop schema if exists partitions cascade;
drop schema if exists staging cascade;
drop schema if exists meta cascade;
