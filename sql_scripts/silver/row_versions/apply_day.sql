-- Makes the contents of {day} in silver.row_contents equal to those of {snapshot}: for a new, late, corrected or removed day.
-- {period} is the range from the day to {next_day}, the next snapshot (NULL if there is none): it is added to the days of added
-- contents, and subtracted from those of removed contents. Adds the leads of both to meta.affected_leads, and deletes the matches
-- of contents that no snapshot has any more. Creates staging.day_changes, which row_versions.py reads and drops, and
-- staging.new_contents: the contents without matches, for match_contents.sql.

-- Grain: one row per content that is removed from the day, and per row of the snapshot whose content is added (is_in_snapshot).
-- A content that is stored with another lead number is a hash collision, which etl/warehouse/row_versions.py reports.
create table staging.day_changes as
with contents as (
    select
        _row_hash,
        valid_during,
        lead_number as known_number
    from silver.row_contents
)

select
    _row_hash,
    snapshot._row_hash is not null as is_in_snapshot,
    contents._row_hash is not null as is_known,
    contents.known_number,
    contents.valid_during <@ {period} as has_no_other_day,
    {columns} -- noqa: RF02
from {snapshot} as snapshot
full join contents using (_row_hash)
where
    (snapshot._row_hash is not null) <> coalesce(contents.valid_during @> {day}, false)
    or (snapshot._row_hash = contents._row_hash and snapshot.lead_number is distinct from contents.known_number);

analyze staging.day_changes (_row_hash, is_in_snapshot, is_known, has_no_other_day);

-- Leads of added and removed contents, and leads with a version that ends at {next_day}: its last snapshot may have changed.
insert into meta.affected_leads (lead_uuid)
select distinct matches.lead_uuid
from (
    select _row_hash
    from staging.day_changes
    union
    select _row_hash
    from silver.row_contents
    where valid_during @> ({next_day} - 1) and not valid_during @> {next_day}
) as contents
inner join silver.version_matches as matches using (_row_hash)
where matches.lead_uuid is not null;

merge into silver.row_contents as contents
using (
    select distinct on (_row_hash) * -- noqa: AM04
    from staging.day_changes
) as changes
    on contents._row_hash = changes._row_hash
when matched and changes.is_in_snapshot then
    update set valid_during = contents.valid_during + {period}
when matched and changes.has_no_other_day then
    delete
when matched then
    update set valid_during = contents.valid_during - {period}
when not matched then
    insert (_row_hash, {columns}, valid_during)
    values (_row_hash, {columns}, {period});

-- Only contents that silver.row_contents did not contain before: all others have matches.
create table staging.new_contents as
select distinct on (_row_hash)
    _row_hash,
    silver.match_key(email_hash) as email_key,
    silver.match_key(phone_hash) as phone_key
from staging.day_changes
where not is_known;

-- Delete the matches of contents that no day has any more: compare_leads.sql would not update them.
delete from silver.version_matches as matches
using staging.day_changes
where matches._row_hash = day_changes._row_hash and day_changes.has_no_other_day;
