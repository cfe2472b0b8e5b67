-- silver.row_versions is a view on silver.row_contents: step 1 creates both, and step 6 fills the table from silver.

drop table if exists silver.row_versions;

delete from meta.table_loads
where parent_table = 'silver.row_versions';
