-- Everything that the pipeline has made, gone: the next run fills an empty warehouse. No step executes this.

drop schema if exists gold cascade;
drop schema if exists silver cascade;
drop schema if exists bronze cascade;
drop schema if exists partitions cascade;
drop schema if exists staging cascade;
drop schema if exists meta cascade;
