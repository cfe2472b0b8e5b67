-- Gold: what analysts and BI tools read. Safe to rerun.

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

-- Grain: one row per lead_uuid of the backend. A new day writes nearly all rows anew: with half of a page free they stay on it,
-- and indexes as they are.
create table if not exists gold.leads (
    lead_uuid varchar(255) primary key,
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
    first_seen date,
    last_seen date
) with (fillfactor = 50);

comment on table gold.leads is
'The backend''s leads as the CRM saw them last: one row per lead_uuid. A lead that no snapshot has is here, too, with NULLs. '
'Where several rows of its last day compete: one that matches on both hashes before e-mail before phone, then the lowest lead '
'number.';
comment on column gold.leads.lead_uuid is 'Id of the lead in the backend.';
comment on column gold.leads.lead_number is 'Number of the lead in the CRM.';
comment on column gold.leads.email_hash is 'Hash of the e-mail address in the snapshot, as it came.';
comment on column gold.leads.phone_hash is 'Hash of the phone number in the snapshot, as it came.';
comment on column gold.leads.city is 'City, as it came.';
comment on column gold.leads.state is 'USPS code; NULL when none is known.';
comment on column gold.leads.zip is 'Five digits; NULL when none is known.';
comment on column gold.leads.appt_date is 'Day of the appointment, at midnight; NULL when there is none.';
comment on column gold.leads.set is '1 when an appointment was set, else 0; NULL when the CRM says nothing.';
comment on column gold.leads.demo is '1 when a demo was given, else 0; NULL when the CRM says nothing.';
comment on column gold.leads.dispo is 'Disposition: what came of the lead.';
comment on column gold.leads.job_status is 'How far the job is that was sold.';
comment on column gold.leads.location is 'City and state in one; NULL in early snapshots.';
comment on column gold.leads.first_seen is 'Day of the first snapshot that has it; NULL when none has.';
comment on column gold.leads.last_seen is 'Day of the latest snapshot that has it: the one that the other columns are of.';

-- Grain: one row per lead that any snapshot has. Half of a page free, as in gold.leads.
create table if not exists gold.lead_quality_current (
    lead_uuid varchar(255) primary key,
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
    _partition_date date not null,
    conversion_rate float,
    lead_quality_flag varchar(50) not null
) with (fillfactor = 50);

comment on table gold.lead_quality_current is
'Each lead once, as it is now: its row of lead_quality_matching on the latest day that has it, the same one that leads has. '
'Leads that no snapshot has are not here.';

do $$
declare
    described record;
begin
    for described in
        select attname, col_description(attrelid, attnum) as description
        from pg_attribute
        where
            attrelid = 'gold.lead_quality_matching'::regclass
            and attname in (select attname from pg_attribute where attrelid = 'gold.lead_quality_current'::regclass)
            and attnum > 0
            and not attisdropped
    loop
        execute format('comment on column gold.lead_quality_current.%I is %L', described.attname, described.description);
    end loop;
end
$$;
comment on column gold.lead_quality_current.lead_uuid is 'Id of the lead in the backend.';
comment on column gold.lead_quality_current._partition_date is 'Day of the latest snapshot that has the lead.';

-- Grain: one row per user. No source yet.
create table if not exists gold.users (
    user_id int primary key,
    username varchar(50) unique,
    password_hash varchar(255),
    role varchar(50)
);

comment on table gold.users is
'Who looks after appointments: one row per user. It has no source yet, so the pipeline leaves it empty.';
comment on column gold.users.user_id is 'Id of the user.';
comment on column gold.users.username is 'Name to log in with.';
comment on column gold.users.password_hash is 'Hash of the password.';
comment on column gold.users.role is 'What the user may do.';

-- Grain: one row per lead and moment of an appointment that any snapshot has.
create table if not exists gold.appointments (
    appointment_id int primary key,
    lead_uuid varchar(255) not null,
    appointment_date timestamp not null,
    status varchar(50),
    user_id int,
    unique (lead_uuid, appointment_date)
);

comment on table gold.appointments is
'Appointments: one row per lead and moment that any snapshot has. One that a corrected snapshot takes back is gone.';
comment on column gold.appointments.appointment_id is
'Id of the appointment: it keeps it from run to run, and no other one ever gets it.';
comment on column gold.appointments.lead_uuid is 'Lead that it is with.';
comment on column gold.appointments.appointment_date is
'Day and time of the appointment; midnight when the CRM has no time.';
comment on column gold.appointments.status is
'Disposition of the lead in the latest snapshot that has this appointment; NULL when it has none.';
comment on column gold.appointments.user_id is
'User who looks after it; NULL: no source says so yet. The pipeline leaves it alone.';

-- Grain: one row per lead, lead number and period in which (dispo, job_status, set, demo, appt_date) stayed the same.
create table if not exists gold.lead_status_history (
    lead_uuid varchar(255) not null,
    lead_number int,
    dispo varchar(50),
    job_status varchar(100),
    set int,
    demo int,
    appt_date timestamp,
    valid_from date not null,
    valid_to date,
    is_current boolean not null,
    unique nulls not distinct (lead_uuid, lead_number, valid_from),
    constraint lead_status_history_period check (valid_from < valid_to),
    constraint lead_status_history_current check (is_current = (valid_to is null))
);

comment on table gold.lead_status_history is
'How the status of leads changed from snapshot to snapshot (SCD type 2): one row per lead, lead number and period in which '
'dispo, job_status, set, demo and appt_date stayed the same. Periods follow each other without gaps: a snapshot without the '
'lead number is no change. As of day d: valid_from <= d and (valid_to > d or valid_to is null).';
comment on column gold.lead_status_history.lead_uuid is 'Id of the lead in the backend.';
comment on column gold.lead_status_history.lead_number is 'Number of the lead in the CRM.';
comment on column gold.lead_status_history.dispo is 'Disposition: what came of the lead.';
comment on column gold.lead_status_history.job_status is 'How far the job is that was sold.';
comment on column gold.lead_status_history.set is
'1 when an appointment was set, else 0; NULL when the CRM says nothing.';
comment on column gold.lead_status_history.demo is
'1 when a demo was given, else 0; NULL when the CRM says nothing.';
comment on column gold.lead_status_history.appt_date is 'Day of the appointment, at midnight; NULL when there is none.';
comment on column gold.lead_status_history.valid_from is 'Day of the first snapshot of the period.';
comment on column gold.lead_status_history.valid_to is
'Day on which the next period begins, no more part of this one; NULL in the current one.';
comment on column gold.lead_status_history.is_current is 'It is the latest period of its lead number. Never NULL.';

-- Where a table that others refer to was dropped and made anew, what they say refers to nothing: it makes way, and step 6 fills
-- them again.
do $$
begin
    if not exists (select from gold.leads) then
        delete from gold.lead_quality_current;
        delete from gold.appointments;
        delete from gold.lead_status_history;
    end if;
    if exists (select from gold.appointments where user_id is not null) then
        update gold.appointments
        set user_id = null
        where not exists (select from gold.users where users.user_id = appointments.user_id);
    end if;
end
$$;

-- Modifications outside the pipeline are recorded, and repaired by the next run. Partitions have triggers of their own.
create or replace trigger note_change
after insert or update or delete or truncate on gold.lead_quality_matching
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on gold.leads
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on gold.lead_quality_current
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on gold.appointments
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on gold.lead_status_history
for each statement execute function meta.note_change();
