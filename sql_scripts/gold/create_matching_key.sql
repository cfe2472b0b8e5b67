-- The primary key of gold.lead_quality_matching, which create_gold_tables.sql gives to a new table: step 6 adds it to a table
-- of an earlier version when it publishes. Only then do all days have ids.

do $$
begin
    if not exists (
        select from pg_constraint where conrelid = 'gold.lead_quality_matching'::regclass and contype = 'p'
    ) then
        alter table gold.lead_quality_matching add primary key (_partition_date, lead_match_id);
    end if;
end
$$;
