-- Deletes from {table} the rows of affected leads that {staging} does not contain.

delete from {table} as old
using staging.affected_leads as affected
where
    old.lead_uuid = affected.lead_uuid
    and not exists (
        select new.lead_uuid
        from {staging} as new
        where {unique_key}
    );
