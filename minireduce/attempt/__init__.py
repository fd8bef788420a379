"""Where user code runs: processes of their own, forked by a zygote, spoken to by the worker over Unix sockets.

The order of reading: `conversation` says what worker, zygote and task tell each other and `framing` how it travels;
`zygote` forks and reaps; `task` is the loop of a task process, `work` one task of it; `inputs` opens what a task reads;
`load` turns a job's program into a `Job`; `progress` is the page of memory through which a worker sees how far a task
is, and `watch` keeps it up to date.

Nothing here knows gRPC, tokens or the wire, so no task process can hold any of them.
"""
