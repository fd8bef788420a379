"""What a task does to bytes: split, read, map, combine, partition, sort, spill, merge, reduce, write.

The order of reading: `split` and `read` give records, `map` gathers their pairs and spills sorted runs (`frames`),
`merge` brings runs together, `reduce` walks over the groups, `write` gives lines. `keys` and `values` say how pairs
become bytes. Nothing here knows a daemon, a socket or a clock; all files go through the `Disk` that the caller hands
in.
"""
