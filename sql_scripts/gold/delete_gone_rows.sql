-- Rows of {table} that are no more.

delete from {table} as old
using {gone} as gone
where {same_key};
