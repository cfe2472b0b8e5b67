create table meta.appointment_ids (appointment_id int primary key, lead_uuid varchar(255), appointment_date timestamp, unique (lead_uuid, appointment_date));
create table meta.affected_leads (lead_uuid varchar(255) primary key);
