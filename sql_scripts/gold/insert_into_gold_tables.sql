-- Inserts the rows of one day, as returned by the model of gold.lead_quality_matching, into the staging table {target}.

insert into {target} (
    lead_uuid, {columns}, email_match, phone_match, _extraction_date, _partition_date,
    appointment_scheduled, demo_scheduled, conversion_rate, lead_quality_flag, lead_match_id
)
{model}; -- noqa: AM04
