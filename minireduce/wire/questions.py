"""What is asked of the master without changing anything, one class a question. Most answers are `core.views`.

They stand here and not in core, since no machine ever sees them: the shell answers from the machine's views.
"""

from __future__ import annotations

from minireduce.core.views import JobState
from minireduce.frozen import dataclass
from minireduce.ids import JobId, TaskId


@dataclass(frozen=True, slots=True)
class CertifyBlockServer:
    """Sign this request (PEM) of a worker whose block server is reached as `hosts`; the reply is a certificate."""

    request_pem: bytes
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GetJob:
    """One job; "@" is the one submitted last."""

    job: JobId


@dataclass(frozen=True, slots=True)
class ListJobs:
    """All jobs, the latest first."""


@dataclass(frozen=True, slots=True)
class WaitJob:
    """The job as soon as its state is another than `seen`, or after `timeout_s` as it is then.

    That the caller says what it has seen leaves no gap in which a change could be missed between two waits.
    """

    job: JobId
    seen: JobState
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ListTasks:
    """The tasks of a job with their attempts."""

    job: JobId


@dataclass(frozen=True, slots=True)
class ReadPrinted:
    """What the attempts of a job, or of one of its tasks, have printed, behind the place `after` (0: from the
    beginning).
    """

    job: JobId
    after: int
    task: TaskId | None = None


@dataclass(frozen=True, slots=True)
class OpenLogs:
    """What opens the logs of a job on its workers: the reply is a token for its reads."""

    job: JobId


@dataclass(frozen=True, slots=True)
class ListSkipped:
    """The bad records that a job left out, or has found so far."""

    job: JobId


@dataclass(frozen=True, slots=True)
class GetResult:
    """Where the parts of a job are."""

    job: JobId


@dataclass(frozen=True, slots=True)
class DescribeCluster:
    """What a client must know of the cluster to submit."""


@dataclass(frozen=True, slots=True)
class ListWorkers:
    """All workers that the master knows."""
