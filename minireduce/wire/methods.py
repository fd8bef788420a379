"""Every method of every service, with the Python types that go in and come out.

One table drives all: what the server registers, what a client calls, and the tests that walk every door. A method's
messages are those that `services.proto` names; the codec joins them with the types given here.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.requests import CloseResult, ConfirmPublished, DrainWorker, KillJob, SubmitJob
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseContainer,
    CloseFile,
    CommitBlock,
    CreateFile,
    HurryRepair,
    MakeDirectory,
    RemovePath,
    RenamePath,
    RenewLease,
    ReportDamage,
)
from minireduce.core.storage.views import (
    DirectoryPage,
    FileBlocks,
    FileHealth,
    FileStatus,
    NamedFiles,
    OpenedFile,
    PlacedBlock,
    Removed,
    StoreView,
    Summary,
)
from minireduce.core.views import (
    ClusterView,
    JobState,
    JobView,
    PrintedPage,
    ResultView,
    SkippedView,
    TaskView,
    WorkerView,
)
from minireduce.frozen import dataclass
from minireduce.ids import JobId
from minireduce.proto import services_pb2
from minireduce.wire.codec import Codec, codec_of, message_of
from minireduce.wire.file_questions import (
    DescribeStore,
    GetBlocks,
    GetFiles,
    GetHealth,
    GetStatus,
    GetSummary,
    ListDirectory,
)
from minireduce.wire.questions import (
    CertifyBlockServer,
    DescribeCluster,
    GetJob,
    GetResult,
    ListJobs,
    ListSkipped,
    ListTasks,
    ListWorkers,
    OpenLogs,
    ReadPrinted,
    WaitJob,
)

Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Method(Generic[Q_contra, R_co]):
    """A method that takes a `Q` and answers with an `R`; a stream of each if `is_stream`."""

    service: str
    name: str
    request: Any
    reply: Any
    is_stream: bool = False

    @property
    def path(self) -> str:
        """The name on the wire, which the table of doors uses too."""
        return f"/minireduce.{self.service}/{self.name}"

    @property
    def request_codec(self) -> Codec:
        return codec_of(self.request, message_of(self._description().input_type))

    @property
    def reply_codec(self) -> Codec:
        return codec_of(self.reply, message_of(self._description().output_type))

    def _description(self) -> Any:
        return services_pb2.DESCRIPTOR.services_by_name[self.service].methods_by_name[self.name]


CONNECT: Method[Hello | Up, Welcome | Down] = Method("Workers", "Connect", Hello | Up, Welcome | Down, is_stream=True)
CERTIFY_BLOCK_SERVER: Method[CertifyBlockServer, bytes] = Method(
    "Workers", "CertifyBlockServer", CertifyBlockServer, bytes
)

SUBMIT_JOB: Method[SubmitJob, JobId] = Method("Jobs", "Submit", SubmitJob, JobId)
GET_JOB: Method[GetJob, JobView] = Method("Jobs", "Get", GetJob, JobView)
LIST_JOBS: Method[ListJobs, tuple[JobView, ...]] = Method("Jobs", "List", ListJobs, tuple[JobView, ...])
WAIT_JOB: Method[WaitJob, JobView] = Method("Jobs", "Wait", WaitJob, JobView)
KILL_JOB: Method[KillJob, JobState] = Method("Jobs", "Kill", KillJob, JobState)
LIST_TASKS: Method[ListTasks, tuple[TaskView, ...]] = Method("Jobs", "Tasks", ListTasks, tuple[TaskView, ...])
READ_PRINTED: Method[ReadPrinted, PrintedPage] = Method("Jobs", "Printed", ReadPrinted, PrintedPage)
OPEN_LOGS: Method[OpenLogs, str] = Method("Jobs", "OpenLogs", OpenLogs, str)
LIST_SKIPPED: Method[ListSkipped, tuple[SkippedView, ...]] = Method(
    "Jobs", "Skipped", ListSkipped, tuple[SkippedView, ...]
)
GET_RESULT: Method[GetResult, ResultView] = Method("Jobs", "Result", GetResult, ResultView)
CONFIRM_PUBLISHED: Method[ConfirmPublished, JobState] = Method("Jobs", "ConfirmPublished", ConfirmPublished, JobState)
CLOSE_RESULT: Method[CloseResult, None] = Method("Jobs", "CloseResult", CloseResult, type(None))

DESCRIBE_CLUSTER: Method[DescribeCluster, ClusterView] = Method("Cluster", "Describe", DescribeCluster, ClusterView)
LIST_WORKERS: Method[ListWorkers, tuple[WorkerView, ...]] = Method(
    "Cluster", "ListWorkers", ListWorkers, tuple[WorkerView, ...]
)

DRAIN_WORKER: Method[DrainWorker, WorkerView] = Method("Cluster", "Drain", DrainWorker, WorkerView)

GET_STATUS: Method[GetStatus, FileStatus] = Method("Files", "Stat", GetStatus, FileStatus)
LIST_DIRECTORY: Method[ListDirectory, DirectoryPage] = Method("Files", "List", ListDirectory, DirectoryPage)
GET_SUMMARY: Method[GetSummary, Summary] = Method("Files", "Summary", GetSummary, Summary)
GET_FILES: Method[GetFiles, tuple[FileBlocks, ...]] = Method("Files", "Get", GetFiles, tuple[FileBlocks, ...])
GET_HEALTH: Method[GetHealth, FileHealth] = Method("Files", "Health", GetHealth, FileHealth)
HURRY_REPAIR: Method[HurryRepair, int] = Method("Files", "HurryRepair", HurryRepair, int)
GET_BLOCKS: Method[GetBlocks, FileBlocks] = Method("Files", "Blocks", GetBlocks, FileBlocks)
DESCRIBE_STORE: Method[DescribeStore, StoreView] = Method("Files", "Describe", DescribeStore, StoreView)
MAKE_DIRECTORY: Method[MakeDirectory, FileStatus] = Method("Files", "MakeDirectory", MakeDirectory, FileStatus)
RENAME_PATH: Method[RenamePath, FileStatus] = Method("Files", "Rename", RenamePath, FileStatus)
REMOVE_PATH: Method[RemovePath, Removed] = Method("Files", "Remove", RemovePath, Removed)
CHANGE_ATTRIBUTES: Method[ChangeAttributes, FileStatus] = Method(
    "Files", "ChangeAttributes", ChangeAttributes, FileStatus
)
CREATE_FILE: Method[CreateFile, OpenedFile] = Method("Files", "Create", CreateFile, OpenedFile)
APPEND_FILE: Method[AppendFile, OpenedFile] = Method("Files", "Append", AppendFile, OpenedFile)
ADD_BLOCK: Method[AddBlock, PlacedBlock] = Method("Files", "AddBlock", AddBlock, PlacedBlock)
COMMIT_BLOCK: Method[CommitBlock, bool] = Method("Files", "CommitBlock", CommitBlock, bool)
CLOSE_FILE: Method[CloseFile, FileStatus] = Method("Files", "Close", CloseFile, FileStatus)
CLOSE_CONTAINER: Method[CloseContainer, NamedFiles] = Method("Files", "CloseContainer", CloseContainer, NamedFiles)
ABANDON_FILE: Method[AbandonFile, None] = Method("Files", "Abandon", AbandonFile, type(None))
RENEW_LEASE: Method[RenewLease, float] = Method("Files", "RenewLease", RenewLease, float)
REPORT_DAMAGE: Method[ReportDamage, None] = Method("Files", "ReportDamage", ReportDamage, type(None))

METHODS: tuple[Method[Any, Any], ...] = tuple(value for value in globals().values() if isinstance(value, Method))
