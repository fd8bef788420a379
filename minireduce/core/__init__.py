"""What the cluster decides, and nothing else: pure machines, `advance(event, now) -> list[Action]`.

`cluster` is the master's, `worker` a worker's; `compute` and `storage` are the two halves of the master's. No clock, no
socket, no thread and no file is touched here: shells perform the actions and feed the results back as events, and so
the same code runs in production and in the simulator.
"""
