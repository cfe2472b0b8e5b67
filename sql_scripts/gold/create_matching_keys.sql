-- The keys of gold.lead_quality_matching, which create_gold_tables.sql gives to a new table: step 6 adds those that are missing
-- when it publishes. A table of an earlier version has neither, and its days have no ids; the foreign key is dropped with
-- gold.leads, or when leads are removed, and can be added when gold.leads is complete.

do $$
begin
    if not exists (
        select from pg_constraint where conrelid = 'gold.lead_quality_matching'::regclass and contype = 'p'
    ) then
        alter table gold.lead_quality_matching add primary key (_partition_date, lead_match_id);
    end if;
    if not exists (
        select from pg_constraint where conrelid = 'gold.lead_quality_matching'::regclass and contype = 'f'
    ) then
        alter table gold.lead_quality_matching add foreign key (lead_uuid) references gold.leads;
    end if;
end
$$;
