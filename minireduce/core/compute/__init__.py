"""Jobs, steps, tasks and attempts: who runs what where, and what happens when it fails."""
