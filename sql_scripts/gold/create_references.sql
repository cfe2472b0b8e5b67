-- What in gold refers to what. Safe to rerun: it adds what is missing. Apart from the tables, so that it comes back when a
-- table that others refer to was dropped.

do $$
declare
    reference record;
begin
    for reference in
        select *
        from (
            values
            ('lead_quality_current', 'lead_uuid', 'leads'),
            ('appointments', 'lead_uuid', 'leads'),
            ('appointments', 'user_id', 'users'),
            ('lead_status_history', 'lead_uuid', 'leads')
        ) as wanted (child, key, parent)
        where not exists (
            select from pg_constraint
            where conrelid = format('gold.%I', child)::regclass and conname = format('%s_%s_fkey', child, key)
        )
    loop
        execute format(
            'alter table gold.%I add foreign key (%I) references gold.%I', reference.child, reference.key, reference.parent
        );
    end loop;
end
$$;
