-- What in gold refers to what. Safe to rerun: it adds what is missing. Apart from the tables, so that it comes back when a
-- table that others refer to was dropped. That of lead_quality_matching only tells BI tools what to join: checking it would add
-- 4 to 5 % to a full refresh (docs/decisions/0009). PostgreSQL can declare such a key from version 18 on.

do $$
declare
    reference record;
begin
    for reference in
        select *
        from (
            values
            ('lead_quality_matching', 'lead_uuid', 'leads', 'not enforced', 18),
            ('lead_quality_current', 'lead_uuid', 'leads', '', 15),
            ('appointments', 'lead_uuid', 'leads', '', 15),
            ('appointments', 'user_id', 'users', '', 15),
            ('lead_status_history', 'lead_uuid', 'leads', '', 15)
        ) as wanted (child, key, parent, mode, since_version)
        where
            since_version <= current_setting('server_version_num')::int / 10000
            and not exists (
                select from pg_constraint
                where conrelid = format('gold.%I', child)::regclass and conname = format('%s_%s_fkey', child, key)
            )
    loop
        execute format(
            'alter table gold.%I add foreign key (%I) references gold.%I %s',
            reference.child, reference.key, reference.parent, reference.mode
        );
    end loop;
end
$$;
