-- staging.spans: what the tables of leads are made from. A row that stands unchanged in many snapshots stands here once, so that
-- history is read from few rows: of 22 days a tenth.
--
-- Grain: one row per distinct snapshot row (all columns but the day's own and entry_date) and backend lead that it matches; one
-- with NULL lead_uuid when it matches none. Columns as in gold.lead_quality_matching, with appt_time besides;
-- first_day is the first snapshot that has the row, _partition_date the last one, infinity when that is the latest of all. In
-- snapshots between those two it can be missing. _extraction_date is NULL.
--
-- Filled in as many pieces as there are partitions, at the same time. Kept from run to run.

drop table if exists staging.spans;

create table staging.spans (
    like gold.lead_quality_matching,
    appt_time time,
    first_day date not null
) partition by list (abs(mod(coalesce(lead_number, 0), {pieces})));

do $$
begin
    for piece in 0 .. {pieces} - 1 loop
        execute format('create table staging.spans_%s partition of staging.spans for values in (%s)', piece, piece);
    end loop;
end
$$;

-- Changes by other hands are noticed. Each piece has a trigger of its own besides.
create trigger note_change
after insert or update or delete or truncate on staging.spans
for each statement execute function meta.note_change();
