-- Adds foreign keys that are missing in gold. Safe to rerun. Not part of create_gold_tables.sql, because dropping a referenced
-- table also drops the foreign keys of other tables, and `create table if not exists` would not add them again. The foreign key
-- of lead_quality_matching is not enforced, which PostgreSQL supports from version 18 on: it only tells BI tools what to join,
-- and checking it would add 4 to 5 % to a full refresh (docs/decisions/0009).

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
