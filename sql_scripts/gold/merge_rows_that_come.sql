-- Rows of {table} that are new, or other ones than before.

merge into {table} as old
using {come} as new
    on {same_key}
when matched then
    update set {assignments}
when not matched then
    insert ({columns})
    values ({values});
