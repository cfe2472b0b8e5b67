-- Grain: one row per snapshot day of bronze: its rows, and how many of them have more than blanks in each column.
select
    _partition_date,
    count(*) as row_count,
    count(nullif(btrim("ENTRYDATE"), '')) as "ENTRYDATE",
    count(nullif(btrim("LEADNUMBER"), '')) as "LEADNUMBER",
    count(nullif(btrim(email_hash), '')) as email_hash,
    count(nullif(btrim(phone_hash), '')) as phone_hash,
    count(nullif(btrim("CITY"), '')) as "CITY",
    count(nullif(btrim("STATE"), '')) as "STATE",
    count(nullif(btrim("ZIP"), '')) as "ZIP",
    count(nullif(btrim("APPT_DATE"), '')) as "APPT_DATE",
    count(nullif(btrim("Set"), '')) as "Set",
    count(nullif(btrim("Demo"), '')) as "Demo",
    count(nullif(btrim("Dispo"), '')) as "Dispo",
    count(nullif(btrim("JOB_STATUS"), '')) as "JOB_STATUS",
    count(nullif(btrim(location), '')) as location
from bronze.csv_snapshots
group by _partition_date
order by _partition_date;
