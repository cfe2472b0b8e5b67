-- The reference of the fact to gold.leads is no longer checked; step 5 declares it again, as not enforced, where PostgreSQL can.

alter table if exists gold.lead_quality_matching drop constraint if exists lead_quality_matching_lead_uuid_fkey;
