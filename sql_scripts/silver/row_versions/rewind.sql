-- Rewinds silver.row_versions to the state before {day}: as if no snapshot of that day or later had been loaded.
-- Leads that match a version which is deleted or reopened are affected.

create table staging.rewound as
select distinct _row_hash
from silver.row_versions
where valid_from >= {day} or valid_to >= {day};

analyze staging.rewound;

insert into meta.affected_leads (lead_uuid)
select distinct matches.lead_uuid
from staging.rewound
inner join silver.version_matches as matches using (_row_hash)
where matches.lead_uuid is not null;

delete from silver.row_versions
where valid_from >= {day};

with reopened as (
    delete from silver.row_versions_closed
    where valid_to >= {day}
    returning *
)

insert into silver.row_versions_open (_row_hash, {columns}, valid_from)
select
    _row_hash,
    {columns},
    valid_from
from reopened;

delete from silver.versioned_days
where _partition_date >= {day};

-- Contents without any version lose their matches: every content that has matches has a version.
create table staging.orphaned as
select _row_hash
from staging.rewound
left join silver.row_versions as version using (_row_hash)
group by _row_hash
having count(version.valid_from) = 0;

delete from silver.version_matches
using staging.orphaned
where version_matches._row_hash = orphaned._row_hash;

drop table staging.rewound, staging.orphaned;
