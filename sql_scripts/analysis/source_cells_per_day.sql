-- Grain: one row per snapshot day of bronze: number of rows, of values per column (without blanks and separators), of rows whose
-- Set is 1, and of rows whose Demo is 1.
select
    _partition_date,
    count(*) as row_count,
    count(*) filter (where btrim("ENTRYDATE") not in ('', '-----')) as "ENTRYDATE",
    count(*) filter (where btrim("LEADNUMBER") not in ('', '-----')) as "LEADNUMBER",
    count(*) filter (where btrim(email_hash) not in ('', '-----')) as email_hash,
    count(*) filter (where btrim(phone_hash) not in ('', '-----')) as phone_hash,
    count(*) filter (where btrim("CITY") not in ('', '-----')) as "CITY",
    count(*) filter (where btrim("STATE") not in ('', '-----')) as "STATE",
    count(*) filter (where btrim("ZIP") not in ('', '-----')) as "ZIP",
    count(*) filter (where btrim("APPT_DATE") not in ('', '-----')) as "APPT_DATE",
    count(*) filter (where btrim("Set") not in ('', '-----')) as "Set",
    count(*) filter (where btrim("Demo") not in ('', '-----')) as "Demo",
    count(*) filter (where btrim("Dispo") not in ('', '-----')) as "Dispo",
    count(*) filter (where btrim("JOB_STATUS") not in ('', '-----')) as "JOB_STATUS",
    count(*) filter (where btrim(location) not in ('', '-----')) as location,
    count(*) filter (where lower(btrim("Set")) in ('1', '1.0', 'true')) as is_set,
    count(*) filter (where lower(btrim("Demo")) in ('1', '1.0', 'true')) as is_demo
from bronze.csv_snapshots
group by _partition_date
order by _partition_date;
