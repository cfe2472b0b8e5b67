-- Grain: one row per rejected row that contains an id or hash of the lead, in a named cell or in a malformed line. The cells of a
-- malformed line have no names, so only long ids are searched there. latest_day, total: latest day and number of these rows,
-- before the limit.
select
    _source_file,
    _source_row,
    _partition_date,
    step,
    reason,
    raw_row,
    max(_partition_date) over () as latest_day,
    count(*) over () as total
from silver.rejected_rows
where
    array[regexp_replace(btrim(raw_row ->> 'LEADNUMBER'), '\.0+$', ''), btrim(raw_row ->> 'lead_UUID')] && {ids}::text[]
    or array[silver.match_key(raw_row ->> 'email_hash'), silver.match_key(raw_row ->> 'phone_hash')] && array(
        select silver.match_key(id)
        from unnest({ids}::text[]) as ids (id)
    )
    or string_to_array(translate(raw_row ->> 'line', '" ', ''), ',') && {unmistakable_ids}::text[]
order by _partition_date, _source_file, _source_row
limit {most}
