-- Inserts a day of gold.lead_quality_matching into its staging table, {target}: the rows that its model matches and grades.

insert into {target} (
    lead_uuid, {columns}, email_match, phone_match, _extraction_date, _partition_date,
    appointment_scheduled, demo_scheduled, conversion_rate, lead_quality_flag, lead_match_id
)
{model}; -- noqa: AM04
