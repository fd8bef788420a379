"""What the user writes: jobs, aggregations, formats, partitioners, and the task that user code runs in."""
