-- Rewinds silver.row_versions to the state before {day}: as if no snapshot of that day or later had been loaded.
-- Leads that match a version which is deleted or opened again are affected.

create temporary table rewound on commit drop as
select
    _row_hash,
    valid_from < {day} as is_reopened
from silver.row_versions
where valid_from >= {day} or valid_to >= {day};

insert into meta.affected_leads (lead_uuid)
select distinct matches.lead_uuid
from rewound
inner join silver.version_matches as matches using (_row_hash)
where matches.lead_uuid is not null
on conflict do nothing;

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

-- Each content that has a match has a version, always.
delete from silver.version_matches
where
    _row_hash in (
        select rewound._row_hash
        from rewound
        where not rewound.is_reopened
    )
    and not exists (
        select
        from silver.row_versions
        where row_versions._row_hash = version_matches._row_hash
    );
