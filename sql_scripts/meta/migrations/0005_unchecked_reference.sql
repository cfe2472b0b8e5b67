-- The foreign key of the fact table is no longer checked. Step 5 declares it as not enforced if PostgreSQL supports that.

alter table if exists gold.lead_quality_matching drop constraint if exists lead_quality_matching_lead_uuid_fkey;
