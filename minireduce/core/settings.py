"""The limits and times by which master and worker decide. Each has its unit in its name; `config` fills them in."""

from __future__ import annotations

from minireduce.core.spec import DEFAULT_QUEUE
from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """A queue of jobs. `slots_max` 0: as many as there are."""

    name: str
    weight: float = 1.0
    slots_max: int = 0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the master's machine is told at start and never reads from anywhere else."""

    heartbeat_interval_s: float = 1.0  # longer where there are very many workers (membership.py)
    heartbeats_per_s_max: int = 400  # of all workers that have nothing else to say
    worker_lost_s: float = 10.0  # silence after which a worker's attempts and outputs count as lost
    repair_delay_s: float = 60.0  # silence after which its blocks are replicated elsewhere
    maintenance_s: float = 600.0  # the same for a worker that stopped in good order
    resend_after_s: float = 2.0  # a message without acknowledgement is sent again
    clock_jump_s_max: float = 5.0  # a longer gap between ticks moves all deadlines with it
    reduce_start_fraction: float = 0.05  # of a step's maps done before its reduces are placed and begin to fetch
    fetch_reports_max: int = 3  # reports about one output, or workers in trouble, before a fetch is given up
    fetch_reports_to_move: int = 2  # so many move the reading attempt, which costs less, if the reader may be to blame
    fetch_complaint_kept_s: float = 120.0  # how long such a report counts when the two are weighed
    fetch_moves_max: int = 2  # how often a task is taken from a worker that cannot read its input
    progress_interval_s: float = 1.0  # how often what the scheduler counted of a job is persisted
    part_copies: int = 2  # workers that should hold each part of a job's last step, at most the live ones
    part_copies_per_worker_max: int = 4  # such copies that a worker gives and takes at a time
    part_copy_run_s_min: float = 1.0  # a part that took less to make is not copied while its job runs
    part_copy_wait_s: float = 10.0  # how long a job waits for the copies of its result before it has succeeded
    troubled_tasks_min: int = 3  # tasks of a job that failed on a worker before that gets no more of the job
    ahead_s: float = 0.1  # so much work in short tasks a slot is given beyond the one that it runs
    ahead_tasks_max: int = 512
    locality_wait_node_s: float = 0.7  # slots pass a job by for so long, until it takes one in the rack of its input
    locality_wait_rack_s: float = 0.3  # and for so long after that, until it takes any
    preempt_after_s: float = 30.0  # below its share, after which a job gets slots of those above theirs
    preempted_per_tick_max: int = 100  # attempts that are killed at once for that
    priority_wait_s: float = 60.0  # without a slot, after which a job goes once before higher priorities
    queues: tuple[QueueSettings, ...] = (QueueSettings(DEFAULT_QUEUE),)
    backup_check_interval_s: float = 0.5  # how often it is looked for attempts that need a backup
    backup_age_s_min: float = 1.0  # an attempt that was begun so lately gets none
    backup_age_fraction_min: float = 0.2  # nor one that has had less of the time that a fresh one would need
    backup_rate_window_s: float = 10.0  # an attempt's rate of late is that of so long, or up to twice that
    backup_gain_s_min: float = 1.0  # what a backup must be expected to save
    backup_gain_ratio_min: float = 1.5  # an attempt must have so many times as far to go as a fresh one
    backup_slots_fraction: float = 0.1  # of the cluster's slots may run backups, and one always may
    backup_fetch_bytes_per_s: float = 50e6  # what the backup of a reduce is expected to fetch its input with
    hot_key_share_min: float = 0.5  # of its partition's bytes, for a key to be told as hot
    hot_partition_ratio_min: float = 2.0  # and its partition must be so many times as large as a usual one
    slow_worker_speed_max: float = 0.5  # a worker whose attempts run at less of the usual speed is slow
    slow_worker_attempts_min: int = 3  # so many attempts must say so
    slow_worker_task_s_min: float = 0.1  # tasks that usually take less say nothing about a worker
    slow_worker_remembered_s: float = 300.0  # what attempts said of a worker counts for so long
    errors_kept_max: int = 20  # of a job, for people
    jobs_kept_max: int = 1000  # ended jobs that `jobs` still lists
    skipped_kept_max: int = 50_000  # bad records of all ended jobs, those of the latest
    jobs_unended_max: int = 1000  # jobs that run, are being published, or whose result is kept; more are refused
    workers_lost_kept_max: int = 1000  # lost workers that `cluster workers` still lists
    job_history_max: int = 10_000  # of a job are kept, of an ended one those that did not succeed first
    history_max: int = 200_000  # of all ended jobs
    history_interval_s: float = 5.0  # how often attempts that ended are written down while their job runs
    history_early_s_min: float = 1.0  # one that succeeded in less is written down when its job ends
    job_logs_bytes_max: int = 16 << 20  # of what a job's attempts print is kept here, each piece and 512
    logs_bytes_max: int = 128 << 20  # of what all jobs' attempts print
    results_keep_s: float = 86_400.0  # an unnamed result is kept so long
    replication: int = 3
    block_size_bytes: int = 64 << 20
    replicas_min: int = 2  # on disk before a block counts as written, at most the live workers
    lease_s: float = 60.0  # a writer that is silent for longer loses what it had not closed
    trash_kept_s: float = 86_400.0  # what was removed can be brought back for so long; 0: nothing is kept
    staging_keep_s: float = 86_400.0  # an upload whose job was not submitted in this time since it began is removed
    inodes_collected_per_tick: int = 1000  # of removed files and directories, so that no removal holds others up
    copies_per_worker_max: int = 4  # replicas that repair moves from and to one worker at a time
    repair_bytes_per_s: int = 100 << 20  # that repair moves to one worker, and from it
    balance_threshold: float = 0.1  # a worker so far from the mean used share gives replicas up, or gets some
    balance_bytes_per_s: int = 10 << 20  # that are moved for that from and to one worker; 0: none are
    copy_timeout_s: float = 30.0  # a copy may take so long, and the time that its bytes need
    copy_bytes_per_s_min: int = 1 << 20
    copy_retry_after_s: float = 30.0  # a target to which a copy failed is left alone for so long


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker's machine is told at start and never reads from anywhere else."""

    tick_interval_s: float = 0.1
    master_wait_s: float = 600.0  # how long attempts and outputs are kept while the master is out of reach
    reconnect_s_min: float = 0.05  # the pause before a stream is opened again; it doubles up to the bound
    reconnect_s_max: float = 5.0
    welcome_wait_s: float = 4.0  # a stream on which no answer to `Hello` came is given up
    resend_after_s: float = 2.0  # a message without acknowledgement is sent again
    progress_interval_s: float = 0.5
    printed_waiting_bytes_max: int = 4 << 20  # of what attempts print waits for a master that is away
    remember_interval_s: float = 1.0  # how often the master's latest commit is written down, within one epoch
    stop_wait_s: float = 5.0  # how long an orderly end may take
    probes_max: int = 1000  # of one attempt that looks for bad records, after which it fails
    fetches_max: int = 8  # requests for outputs under way at once
    fetches_per_source_max: int = 4
    request_outputs_max: int = 64  # outputs that one request names
    request_bytes_max: int = 8 << 20  # expected of a request, after which no more outputs are added to it
    fetch_retry_s_min: float = 0.2  # the pause after a source did not answer; it doubles up to the bound
    fetch_retry_s_max: float = 10.0
    fetch_tries_per_report: int = 3  # so many tries without an answer, then the master is told, and again
    merges_ahead: bool = False  # whether free slots merge for reduces that wait
    merge_after_s: float = 0.2  # a slot must have been free for so long
    merge_runs_min: int = 16  # of a reduce, before a process is asked whether anything can be merged ahead
    prefetch_bytes_max: int = 1 << 30  # what reduces may have fetched while maps still run
    batch_s: float = 0.02  # so much work a task process is given at once
    batch_tasks_max: int = 128
    hand_back_after_s: float = 1.0  # a map that no slot was free for is given back to the master
