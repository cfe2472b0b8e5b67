-- staging.affected_leads: the leads whose rows are built. Grain: one row per lead. Key: lead_uuid.

select distinct lead_uuid
from meta.affected_leads
