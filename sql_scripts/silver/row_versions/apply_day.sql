-- Updates silver.row_versions so that the contents of {day} are those of {snapshot}. Versions before and after the day
-- are extended, split or joined: a day can be new, late or corrected. {next_day} is the snapshot day after it, NULL if none;
-- {versions} is where versions of the day are: the open partition when the day comes after all others.
-- Leaves the contents that have no match yet in new_contents, for match_contents.sql.

-- Grain: one row per content that leaves the day (closed_hash), and per row of the snapshot whose content comes to it
-- (opened_hash, and the content). Both in one row: a hash that has two lead numbers, a collision, which
-- etl/warehouse/row_versions.py reports.
create table staging.day_changes as
with versions_of_day as (
    select
        _row_hash,
        lead_number as closed_number,
        valid_from
    from {versions} as version -- noqa: AL05
    where valid_from <= {day} and (valid_to > {day} or valid_to is null)
)

select
    versions_of_day._row_hash as closed_hash,
    versions_of_day.valid_from as closed_from,
    snapshot._row_hash as opened_hash,
    {columns} -- noqa: RF02
from {snapshot} as snapshot
full join versions_of_day using (_row_hash)
where
    versions_of_day._row_hash is null
    or snapshot._row_hash is null
    or snapshot.lead_number is distinct from versions_of_day.closed_number;

analyze staging.day_changes (closed_hash, closed_from, opened_hash);

-- Leads whose content changed, and leads for which this day was or is the last snapshot: gold contains its dates.
insert into meta.affected_leads (lead_uuid)
select distinct matches.lead_uuid
from (
    select coalesce(closed_hash, opened_hash) as _row_hash
    from staging.day_changes
    union
    select _row_hash
    from silver.row_versions
    where valid_to = {next_day}
) as contents
inner join silver.version_matches as matches using (_row_hash)
where matches.lead_uuid is not null;

with removed as (
    delete from {versions} as version
    using staging.day_changes
    where
        version._row_hash = coalesce(day_changes.closed_hash, day_changes.opened_hash)
        and (
            (version.valid_from <= {day} and (version.valid_to >= {day} or version.valid_to is null))
            or version.valid_from = {next_day}
        )
    returning version.*
),

version_before as (
    select
        _row_hash,
        valid_from
    from removed
    where valid_to = {day}
),

version_after as (
    select
        _row_hash,
        valid_from,
        valid_to
    from removed
    where valid_from = {next_day}
),

versions as (
    -- Contents that leave the day: what is left before it, and after it.
    select
        _row_hash,
        {columns},
        valid_from,
        {day} as valid_to
    from removed
    where valid_from < {day} and (valid_to > {day} or valid_to is null)
    union all
    select
        _row_hash,
        {columns},
        {next_day} as valid_from,
        valid_to
    from removed
    where valid_from <= {day} and (valid_to > {next_day} or (valid_to is null and {next_day} is not null))
    union all
    -- Contents that come to the day, joined with their versions before it and after it.
    select distinct on (day_changes.opened_hash)
        day_changes.opened_hash as _row_hash,
        {columns}, -- noqa: RF02
        coalesce(version_before.valid_from, {day}) as valid_from,
        case when version_after.valid_from is null then {next_day} else version_after.valid_to end as valid_to
    from staging.day_changes
    left join version_before on day_changes.opened_hash = version_before._row_hash
    left join version_after on day_changes.opened_hash = version_after._row_hash
    where day_changes.opened_hash is not null
)

insert into silver.row_versions (_row_hash, {columns}, valid_from, valid_to)
select * -- noqa: AM04
from versions;

-- A content that was seen before already has matches.
create table staging.new_contents as
select distinct on (opened_hash)
    opened_hash as _row_hash,
    silver.match_key(email_hash) as email_key,
    silver.match_key(phone_hash) as phone_key
from staging.day_changes
where
    opened_hash is not null
    and not exists (
        select matches._row_hash
        from silver.version_matches as matches
        where matches._row_hash = day_changes.opened_hash
    );

-- Delete the matches of contents that no day contains any more: compare_leads.sql would not update them.
delete from silver.version_matches as matches
using staging.day_changes
where
    matches._row_hash = day_changes.closed_hash
    and day_changes.closed_from = {day}
    and not exists (
        select version._row_hash
        from silver.row_versions as version
        where version._row_hash = matches._row_hash
    );
