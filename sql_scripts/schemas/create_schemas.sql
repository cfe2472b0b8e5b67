-- Creates the schemas of the layers, and two for internal use; describes schema meta. Safe to rerun.

create schema if not exists bronze;
comment on schema bronze is 'Raw: the rows of the source files as text; snapshot rows with file and line.';

create schema if not exists silver;
comment on schema silver is 'Cleaned and typed: a table per snapshot day, the row versions of all days, the backend''s leads.';

create schema if not exists gold;
comment on schema gold is 'Ready for analysts and BI tools: matched and graded leads.';

create schema if not exists partitions;
comment on schema partitions is 'Partitions of bronze.csv_snapshots and gold.lead_quality_matching: query these instead.';

-- The first migration has created this schema.
comment on schema meta is 'Internal: load ledger and run history.';

create schema if not exists staging;
comment on schema staging is
'Tables that one step passes to the next: empty after a complete run of all steps.';
