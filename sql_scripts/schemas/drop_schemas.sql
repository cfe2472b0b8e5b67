-- Everything that the pipeline has made, gone: the next run fills an empty warehouse. No step executes this.

drop schema if exists bronze, silver, gold, meta, partitions, staging cascade;
