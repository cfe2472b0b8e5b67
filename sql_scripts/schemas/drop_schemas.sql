-- All that the pipeline has made in this database, gone: the next run fills an empty warehouse. The role bi_reader, which belongs
-- to the server, stays. No step executes this.

drop schema if exists gold cascade;
drop schema if exists silver cascade;
drop schema if exists bronze cascade;
drop schema if exists partitions cascade;
drop schema if exists staging cascade;
drop schema if exists meta cascade;
