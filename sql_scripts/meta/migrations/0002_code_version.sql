-- The ledger also records which version of the code built a table, so that a table built by other code is built again.

alter table meta.table_loads add column code_version text;
