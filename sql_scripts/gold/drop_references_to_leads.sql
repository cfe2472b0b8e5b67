-- While gold.leads and whatever refers to it are filled for the first time: references are checked faster all at once,
-- afterwards, than row by row. create_references.sql brings them back.

do $$
declare
    reference record;
begin
    for reference in
        select
            conname,
            conrelid::regclass as child
        from pg_constraint
        where
            contype = 'f'
            and confrelid = 'gold.leads'::regclass
            and conrelid in (
                'gold.lead_quality_current'::regclass, 'gold.appointments'::regclass, 'gold.lead_status_history'::regclass
            )
    loop
        execute format('alter table %s drop constraint %I', reference.child, reference.conname);
    end loop;
end
$$;
