"""What a worker decides, in parts that `core.worker` joins: its session with the master, attempts, fetches."""
