-- Gold: the tables for analysts and BI tools. Safe to rerun.

-- Grain: one row per lead_uuid of the backend. A new day updates nearly all rows: with half of each page free, updated rows stay
-- on their page, and indexes need no update.
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

-- Grain: one row per snapshot row and backend lead that it matches; one with NULL lead_uuid if it matches none. lead_match_id
-- numbers the rows of a day: no other columns identify a row, because lead_uuid can be NULL and a file can repeat a row.
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
    lead_quality_flag varchar(50) not null,
    lead_match_id int not null,
    primary key (_partition_date, lead_match_id)
) partition by list (_partition_date);

-- Grain: one row per lead_uuid that a snapshot contains. Half of each page is free, as in gold.leads.
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
    _partition_date date,
    conversion_rate float,
    lead_quality_flag varchar(50) not null
) with (fillfactor = 50);

-- Grain: one row per user. Not filled by the pipeline: no source contains users yet.
create table if not exists gold.users (
    user_id int primary key,
    username varchar(50) unique,
    password_hash varchar(255),
    role varchar(50)
);

-- Grain: one row per lead and appointment_date that a snapshot contains.
create table if not exists gold.appointments (
    appointment_id int primary key,
    lead_uuid varchar(255) not null,
    appointment_date timestamp not null,
    status varchar(50),
    user_id int,
    unique (lead_uuid, appointment_date)
);

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

-- After gold.leads was dropped and created again, it gets the leads that other tables refer to; step 6 completes or deletes them.
-- After gold.users was dropped and created again, appointments keep no user_id of a missing user. Tables without such rows are
-- not written, as that would count as a change.
do $$
begin
    if not exists (select from gold.leads) then
        insert into gold.leads (lead_uuid)
        select lead_uuid from gold.lead_quality_current
        union
        select lead_uuid from gold.appointments
        union
        select lead_uuid from gold.lead_status_history;
    end if;
    if exists (select from gold.appointments where user_id is not null) then
        update gold.appointments
        set user_id = null
        where not exists (select from gold.users where users.user_id = appointments.user_id);
    end if;
end
$$;
