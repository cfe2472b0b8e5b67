-- The leads of which new snapshots say anything else than the one before. A lead can stand here several times. Empty at first.

drop table if exists staging.touched_leads;
create table staging.touched_leads (lead_uuid varchar(255) not null);
