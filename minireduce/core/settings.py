"""The limits and times by which the master decides. Each has its unit in its name; `config` fills them in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the master's machine is told at start and never reads from anywhere else."""

    heartbeat_interval_s: float = 1.0
    worker_lost_s: float = 10.0  # silence after which a worker's attempts and outputs count as lost
    repair_delay_s: float = 60.0  # silence after which its blocks are replicated elsewhere
    resend_after_s: float = 2.0  # a message without acknowledgement is sent again
    clock_jump_s_max: float = 5.0  # a longer gap between ticks moves all deadlines with it
    reduce_start_fraction: float = 0.05  # of a step's maps done before its reduces are placed and begin to fetch
    fetch_reports_max: int = 3  # reports that a source does not answer, after which its output counts as lost
    errors_kept_max: int = 20  # of a job, for people
    jobs_kept_max: int = 1000  # ended jobs that `jobs` still lists
    result_kept_s: float = 86_400.0  # an unnamed result is kept so long
    replication: int = 3
    block_size_bytes: int = 64 << 20
