-- Gold: what analysts and BI tools read. Safe to run again.

create schema if not exists gold;
comment on schema gold is 'Ready for analysts and BI tools: matched and graded leads.';

-- Grain: one row per snapshot row and backend lead that it matches; one with NULL lead_uuid when it matches none.
create table if not exists gold.lead_quality_matching (
    lead_uuid               varchar(255),
    lead_number             int,
    email_hash              varchar(255),
    phone_hash              varchar(255),
    city                    varchar(100),
    state                   char(2),
    zip                     varchar(10),
    appt_date               timestamp,
    set                     int,
    demo                    int,
    dispo                   varchar(50),
    job_status              varchar(100),
    location                varchar(255),
    appointment_scheduled   boolean not null,
    demo_scheduled          boolean not null,
    email_match             boolean not null,
    phone_match             boolean not null,
    _extraction_date        date,
    _partition_date         date,
    conversion_rate         float,
    lead_quality_flag       varchar(50) not null
) partition by list (_partition_date);

-- Changes by other hands are noticed, and mended by the next run. Each partition has a trigger of its own besides.
create or replace trigger note_change
after insert or update or delete or truncate on gold.lead_quality_matching
for each statement execute function meta.note_change();
