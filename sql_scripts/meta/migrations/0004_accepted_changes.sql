-- A change of the source that a person accepts as the new normal: anomaly detection compares later days with its level.

-- Grain: one row per metric and day from which on its new level is normal.
create table meta.accepted_changes (
    metric varchar(100) not null,
    since date not null,
    note text,
    primary key (metric, since)
);
