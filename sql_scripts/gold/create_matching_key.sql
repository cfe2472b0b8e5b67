-- Adds the primary key to a gold.lead_quality_matching that an earlier version created; create_gold_tables.sql creates new tables
-- with it. Step 6 executes this script when it publishes, because only then do all days have ids. Safe to rerun.

do $$
begin
    if not exists (
        select from pg_constraint where conrelid = 'gold.lead_quality_matching'::regclass and contype = 'p'
    ) then
        alter table gold.lead_quality_matching add primary key (_partition_date, lead_match_id);
    end if;
end
$$;
