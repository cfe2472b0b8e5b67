-- The load ledger also records the version of the code that built a table, so that a change of the code rebuilds it.

alter table meta.table_loads add column code_version text;
