"""The worker's shell: it performs what `core.worker` decides, with task processes, block files, HTTP and one stream."""
