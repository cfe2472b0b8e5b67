-- Gold: what analysts and BI tools read. Safe to run again.

-- Grain: one row per snapshot row and backend lead that it matches; one with NULL lead_uuid when it matches none.
create table if not exists gold.lead_quality_matching (
    lead_uuid varchar(255),
    lead_number int,
    email_hash varchar(255),
    phone_hash varchar(255),
    city varchar(100),
    state char(2),
    zip varchar(10),
    appt_date timestamp,
    set int,
    demo int,
    dispo varchar(50),
    job_status varchar(100),
    location varchar(255),
    appointment_scheduled boolean not null,
    demo_scheduled boolean not null,
    email_match boolean not null,
    phone_match boolean not null,
    _extraction_date date,
    _partition_date date,
    conversion_rate float,
    lead_quality_flag varchar(50) not null
) partition by list (_partition_date);

comment on table gold.lead_quality_matching is
'Snapshot rows matched to backend leads and graded: one row per snapshot row and lead that it matches on e-mail or '
'phone; one with '
'NULL lead_uuid when it matches none.';
comment on column gold.lead_quality_matching.lead_uuid is 'Id of the lead in the backend; NULL when the row matches none.';
comment on column gold.lead_quality_matching.lead_number is 'Number of the lead in the CRM.';
comment on column gold.lead_quality_matching.email_hash is 'Hash of the e-mail address in the snapshot, as it came.';
comment on column gold.lead_quality_matching.phone_hash is 'Hash of the phone number in the snapshot, as it came.';
comment on column gold.lead_quality_matching.city is 'City, as it came.';
comment on column gold.lead_quality_matching.state is 'USPS code; NULL when none is known.';
comment on column gold.lead_quality_matching.zip is 'Five digits; NULL when none is known.';
comment on column gold.lead_quality_matching.appt_date is 'Day of the appointment, at midnight; NULL when there is none.';
comment on column gold.lead_quality_matching.set is '1 when an appointment was set, else 0; NULL when the CRM says nothing.';
comment on column gold.lead_quality_matching.demo is '1 when a demo was given, else 0; NULL when the CRM says nothing.';
comment on column gold.lead_quality_matching.dispo is 'Disposition: what came of the lead.';
comment on column gold.lead_quality_matching.job_status is 'How far the job is that was sold.';
comment on column gold.lead_quality_matching.location is 'City and state in one; NULL in early snapshots.';
comment on column gold.lead_quality_matching.appointment_scheduled is 'set is 1. Never NULL.';
comment on column gold.lead_quality_matching.demo_scheduled is 'demo is 1. Never NULL.';
comment on column gold.lead_quality_matching.email_match is 'The e-mail hash is this lead''s. Never NULL.';
comment on column gold.lead_quality_matching.phone_match is 'The phone hash is this lead''s. Never NULL.';
comment on column gold.lead_quality_matching._extraction_date is 'Day on which the snapshot''s file was read from S3.';
comment on column gold.lead_quality_matching._partition_date is 'Day of the snapshot.';
comment on column gold.lead_quality_matching.conversion_rate is
'NULL in each row: a rate is of many. See the conversion_funnel views.';
comment on column gold.lead_quality_matching.lead_quality_flag is
'High Quality when set and demo are 1, Medium Quality when only set is, else Low Quality.';

-- Changes by other hands are noticed, and mended by the next run. Each partition has a trigger of its own besides.
create or replace trigger note_change
after insert or update or delete or truncate on gold.lead_quality_matching
for each statement execute function meta.note_change();
