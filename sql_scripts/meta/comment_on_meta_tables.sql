-- What the pipeline's own books say, for those who read them. Safe to rerun.

comment on table meta.pipeline_runs is 'One row per run.';
comment on column meta.pipeline_runs.run_id is 'Id of the run.';
comment on column meta.pipeline_runs.started_at is 'When it began.';
comment on column meta.pipeline_runs.ended_at is 'When it ended; NULL while it runs.';
comment on column meta.pipeline_runs.status is
'running, complete, failed, refused (files were), or aborted: stopped by a signal, or killed.';
comment on column meta.pipeline_runs.exit_code is
'0 complete, 1 failed, 2 data refused; NULL while it runs, and when it was killed.';
comment on column meta.pipeline_runs.version is 'Version of the pipeline.';
comment on column meta.pipeline_runs.arguments is 'What was asked for: steps, full_refresh, allow_partial.';
comment on column meta.pipeline_runs.steps is 'Of each step: rows in and out, rejected rows, seconds.';
comment on column meta.pipeline_runs.rows_per_table is 'Rows that stood in each table at the end.';
comment on column meta.pipeline_runs.checks is 'Failed data checks of severity warn.';
comment on column meta.pipeline_runs.message is 'What ended it early.';

comment on table meta.ingested_files is
'One row per S3 object that stands in bronze. The same key, ETag and size are loaded once.';
comment on column meta.ingested_files.s3_key is 'Key of the object.';
comment on column meta.ingested_files.bucket is 'Bucket it was read from.';
comment on column meta.ingested_files.etag is 'Its version, as S3 tells it.';
comment on column meta.ingested_files.size_bytes is 'Its size, in bytes.';
comment on column meta.ingested_files.file_number is 'Number in the key of a snapshot; NULL for leads.';
comment on column meta.ingested_files.partition_date is 'Day that the number stands for; NULL for leads.';
comment on column meta.ingested_files.table_name is 'Table that holds its rows.';
comment on column meta.ingested_files.record_count is 'Records of the file: bronze_rows + rejected_lines.';
comment on column meta.ingested_files.bronze_rows is 'Records that are in bronze.';
comment on column meta.ingested_files.rejected_lines is 'Records that are in silver.rejected_rows, for step 2.';
comment on column meta.ingested_files.run_id is 'Run that loaded it.';
comment on column meta.ingested_files.ingested_at is 'When it was loaded.';

comment on table meta.table_loads is
'One row per table that a step fills as a whole (a day''s table in a layer, the leads): what stands in it, and which '
'loads it was '
'made from. A table is current when its inputs are the ones that stand here, and nobody has dropped it or changed its '
'rows since.';
comment on column meta.table_loads.table_name is 'The table.';
comment on column meta.table_loads.parent_table is
'What it is a part of: itself, the table that it is a partition of, or a name for tables in staging.';
comment on column meta.table_loads.partition_date is 'Day that it holds; NULL for leads.';
comment on column meta.table_loads.file_number is 'Number of the file of that day; NULL for leads.';
comment on column meta.table_loads.load_id is 'Id of what stands in it now.';
comment on column meta.table_loads.built_from is 'The loads that it was made from.';
comment on column meta.table_loads.table_oid is 'By which a table of the same name is known to be another one.';
comment on column meta.table_loads.changed is 'Modified outside the pipeline since it was loaded.';
comment on column meta.table_loads.row_count is 'Rows that were loaded.';
comment on column meta.table_loads.rejected_count is 'Rows that went to silver.rejected_rows instead.';
comment on column meta.table_loads.separator_count is 'Separator rows that were dropped.';
comment on column meta.table_loads.facts is 'What else is known: rows per match scenario, leads that were left out.';
comment on column meta.table_loads.code_version is
'Digest of the code that built the table. NULL: built before versions were recorded.';
comment on column meta.table_loads.run_id is 'Run that loaded it.';
comment on column meta.table_loads.loaded_at is 'When it was loaded.';

comment on table meta.commit_marks is
'One row per transaction of the run at work, or the last one, that has written something: who lost the connection while '
'committing '
'finds out here whether the commit was heard.';
comment on column meta.commit_marks.mark is 'Left by the transaction itself.';

comment on table meta.definitions is 'One row per script of views, tables and comments that was carried out.';
comment on column meta.definitions.script is 'Its name, and the first object that it makes.';
comment on column meta.definitions.digest is 'SHA-256 of its text: another text is carried out again.';
comment on column meta.definitions.state is
'Digest of the tables and views that it made, as it left them: when one is gone or another, it is carried out again.';

comment on table meta.migrations is
'One row per migration of schema meta that was applied to this warehouse: the files of sql_scripts/meta/migrations/.';
comment on column meta.migrations.number is 'Number of the migration: they are applied in this order.';
comment on column meta.migrations.name is 'Name of the migration.';
comment on column meta.migrations.applied_at is 'When it was applied.';

comment on table meta.appointment_ids is
'Registry of appointment ids: one row per id ever given. Rows are never deleted: an appointment that returns gets its old id, '
'and no id is given twice.';
comment on column meta.appointment_ids.appointment_id is 'The id: gold.appointments.appointment_id.';
comment on column meta.appointment_ids.lead_uuid is
'Lead of the appointment; NULL: the id and all lower ones were given by an earlier version, and are not given again.';
comment on column meta.appointment_ids.appointment_date is 'Day and time of the appointment; NULL as lead_uuid is.';

comment on table meta.affected_leads is
'One row per lead whose gold rows have to be merged. A publication of gold merges and deletes them; empty after a complete run.';
comment on column meta.affected_leads.lead_uuid is 'Id of the lead in the backend.';
