-- Advances silver.row_versions by one day: closes the open versions whose content is missing from the day, and opens the
-- contents of the day that are not open. {snapshot} is the day's partition of silver.stg_csv_snapshots, {day} its date.
-- Leaves the opened contents that have no match yet in new_contents, for match_contents.sql.

-- Grain: one row per content to close, and per row of the day to open. One hash with two lead numbers is a collision, which
-- etl/warehouse/row_versions.py reports.
create table staging.day_changes as
select
    version._row_hash as closed_hash,
    snapshot._row_hash as opened_hash
from {snapshot} as snapshot
full join silver.row_versions_open as version using (_row_hash)
where
    version._row_hash is null
    or snapshot._row_hash is null
    or snapshot.lead_number is distinct from version.lead_number;

analyze staging.day_changes;

with closed as (
    delete from silver.row_versions_open as version
    using staging.day_changes
    where version._row_hash = day_changes.closed_hash
    returning version.*
)

insert into silver.row_versions_closed (_row_hash, {columns}, valid_from, valid_to)
select
    _row_hash,
    {columns},
    valid_from,
    {day}
from closed;

create table staging.new_contents (_row_hash bigint, email_key text, phone_key text);

with opened as (
    insert into silver.row_versions_open (_row_hash, {columns}, valid_from)
    select distinct on (_row_hash)
        _row_hash,
        {columns},
        {day}
    from {snapshot} as snapshot -- noqa: AL05
    where _row_hash in (select day_changes.opened_hash from staging.day_changes)
    returning *
)

insert into staging.new_contents (_row_hash, email_key, phone_key)
select
    _row_hash,
    silver.match_key(email_hash) as email_key,
    silver.match_key(phone_hash) as phone_key
from opened;

analyze staging.new_contents;

-- A content that was there before, and returns, has its matches.
delete from staging.new_contents
using silver.version_matches as matches
where new_contents._row_hash = matches._row_hash;

insert into meta.affected_leads (lead_uuid)
select distinct matches.lead_uuid
from staging.day_changes
inner join silver.version_matches as matches on matches._row_hash = coalesce(day_changes.closed_hash, day_changes.opened_hash)
where matches.lead_uuid is not null;

insert into silver.versioned_days (_partition_date, _extraction_date, load_id)
values ({day}, (select snapshot._extraction_date from {snapshot} as snapshot limit 1), {load_id});
