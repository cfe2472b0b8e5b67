-- What {table} and {wanted}, the rows that it shall hold, differ in; of the leads for which {scope}. Made aside, so that putting
-- it right is short. Rows of which it is not so that {stays} are being written to meanwhile.

drop table if exists {come}, {gone};

-- Grain: one row of {table} that is new, or another one than before.
create table {come} as
select {columns}
from {wanted}
except
select {columns}
from {table}
where {scope} and {stays};

-- Grain: one key of {table} that is no more.
create table {gone} as
select {key}
from {table}
where {scope}
except
select {key}
from {wanted};

analyze {come}, {gone};
