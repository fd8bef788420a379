"""What a task does to bytes: split, read, map, combine, partition, sort, spill, merge, reduce, write.

The order of reading: `split` and `read` give records, `map` gathers their pairs and spills sorted runs (`frames`),
`merge` brings runs together, `reduce` walks over the groups, `write` gives lines. `keys` and `values` say how pairs
become bytes. Beside this lane of records stands one of columns: `read_batches`, `batches`, `gather_columns`,
`key_columns`, `group_batches`. ARCHITECTURE.md lists the files of both in the order in which pairs pass.

Nothing here knows a daemon, a socket or a clock; all files go through the `Disk` that the caller hands in.
"""
