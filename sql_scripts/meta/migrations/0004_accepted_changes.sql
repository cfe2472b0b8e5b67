-- Changes of the source that a person has accepted: anomaly detection compares later days with their level.

-- Grain: one row per metric and day from which on its new level is normal.
create table meta.accepted_changes (
    metric varchar(100) not null,
    since date not null,
    note text,
    primary key (metric, since)
);
