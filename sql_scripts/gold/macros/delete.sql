-- Deletes the rows of affected leads from {table} that are not in {staging}.

delete from {table} as old
using staging.affected_leads as affected
where
    old.lead_uuid = affected.lead_uuid
    and not exists (
        select new.lead_uuid
        from {staging} as new
        where {unique_key}
    );
