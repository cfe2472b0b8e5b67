-- Merges {staging} into {table}: updates rows that differ, inserts new ones.

merge into {table} as old
using {staging} as new
    on {unique_key}
when matched and ({old_columns}) is distinct from ({new_columns}) then
    update set {assignments}
when not matched then
    insert ({columns})
    values ({new_columns});
