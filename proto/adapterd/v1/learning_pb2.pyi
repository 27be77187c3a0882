import datetime

from adapterd.v1 import adapters_pb2 as _adapters_pb2
from adapterd.v1 import common_pb2 as _common_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_DONE: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Rating(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATING_UNSPECIFIED: _ClassVar[Rating]
    RATING_GOOD: _ClassVar[Rating]
    RATING_BAD: _ClassVar[Rating]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_DONE: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
RATING_UNSPECIFIED: Rating
RATING_GOOD: Rating
RATING_BAD: Rating

class SubmitDataRequest(_message.Message):
    __slots__ = ("task", "filename", "chunk", "size")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    task: str
    filename: str
    chunk: bytes
    size: int
    def __init__(self, task: _Optional[str] = ..., filename: _Optional[str] = ..., chunk: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class SubmitDataResponse(_message.Message):
    __slots__ = ("task", "filename", "sha256")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    task: str
    filename: str
    sha256: str
    def __init__(self, task: _Optional[str] = ..., filename: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class Drop(_message.Message):
    __slots__ = ("id", "task", "filename", "sha256", "state", "reason", "rows", "bad_rows", "train_rows", "heldout_rows", "version", "arrived", "updated", "plan", "details_json", "bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_ROWS_FIELD_NUMBER: _ClassVar[int]
    HELDOUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DETAILS_JSON_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    task: str
    filename: str
    sha256: str
    state: _common_pb2.DropState
    reason: str
    rows: int
    bad_rows: int
    train_rows: int
    heldout_rows: int
    version: int
    arrived: _timestamp_pb2.Timestamp
    updated: _timestamp_pb2.Timestamp
    plan: str
    details_json: str
    bytes: int
    def __init__(self, id: _Optional[int] = ..., task: _Optional[str] = ..., filename: _Optional[str] = ..., sha256: _Optional[str] = ..., state: _Optional[_Union[_common_pb2.DropState, str]] = ..., reason: _Optional[str] = ..., rows: _Optional[int] = ..., bad_rows: _Optional[int] = ..., train_rows: _Optional[int] = ..., heldout_rows: _Optional[int] = ..., version: _Optional[int] = ..., arrived: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., plan: _Optional[str] = ..., details_json: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class ListDropsRequest(_message.Message):
    __slots__ = ("task", "sha256")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    task: str
    sha256: str
    def __init__(self, task: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class ListDropsResponse(_message.Message):
    __slots__ = ("drops",)
    DROPS_FIELD_NUMBER: _ClassVar[int]
    drops: _containers.RepeatedCompositeFieldContainer[Drop]
    def __init__(self, drops: _Optional[_Iterable[_Union[Drop, _Mapping]]] = ...) -> None: ...

class GetDropRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ReleaseDropRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ListFindingsRequest(_message.Message):
    __slots__ = ("drop",)
    DROP_FIELD_NUMBER: _ClassVar[int]
    drop: int
    def __init__(self, drop: _Optional[int] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("concern", "line", "said", "other_line", "other_drop")
    CONCERN_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    OTHER_LINE_FIELD_NUMBER: _ClassVar[int]
    OTHER_DROP_FIELD_NUMBER: _ClassVar[int]
    concern: str
    line: int
    said: str
    other_line: int
    other_drop: int
    def __init__(self, concern: _Optional[str] = ..., line: _Optional[int] = ..., said: _Optional[str] = ..., other_line: _Optional[int] = ..., other_drop: _Optional[int] = ...) -> None: ...

class SampleRowsRequest(_message.Message):
    __slots__ = ("task", "drop", "count", "seed")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    task: str
    drop: int
    count: int
    seed: int
    def __init__(self, task: _Optional[str] = ..., drop: _Optional[int] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class SampleRowsResponse(_message.Message):
    __slots__ = ("rows",)
    class Row(_message.Message):
        __slots__ = ("drop", "line", "side", "row_json")
        DROP_FIELD_NUMBER: _ClassVar[int]
        LINE_FIELD_NUMBER: _ClassVar[int]
        SIDE_FIELD_NUMBER: _ClassVar[int]
        ROW_JSON_FIELD_NUMBER: _ClassVar[int]
        drop: int
        line: int
        side: str
        row_json: str
        def __init__(self, drop: _Optional[int] = ..., line: _Optional[int] = ..., side: _Optional[str] = ..., row_json: _Optional[str] = ...) -> None: ...
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[SampleRowsResponse.Row]
    def __init__(self, rows: _Optional[_Iterable[_Union[SampleRowsResponse.Row, _Mapping]]] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("task", "text", "drop", "dry_run")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    task: str
    text: str
    drop: int
    dry_run: bool
    def __init__(self, task: _Optional[str] = ..., text: _Optional[str] = ..., drop: _Optional[int] = ..., dry_run: bool = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ("found", "saw")
    class Found(_message.Message):
        __slots__ = ("task", "drop", "filename", "rows", "learned", "judged", "bad_rows", "unsearched")
        TASK_FIELD_NUMBER: _ClassVar[int]
        DROP_FIELD_NUMBER: _ClassVar[int]
        FILENAME_FIELD_NUMBER: _ClassVar[int]
        ROWS_FIELD_NUMBER: _ClassVar[int]
        LEARNED_FIELD_NUMBER: _ClassVar[int]
        JUDGED_FIELD_NUMBER: _ClassVar[int]
        BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
        UNSEARCHED_FIELD_NUMBER: _ClassVar[int]
        task: str
        drop: int
        filename: str
        rows: int
        learned: int
        judged: int
        bad_rows: int
        unsearched: bool
        def __init__(self, task: _Optional[str] = ..., drop: _Optional[int] = ..., filename: _Optional[str] = ..., rows: _Optional[int] = ..., learned: _Optional[int] = ..., judged: _Optional[int] = ..., bad_rows: _Optional[int] = ..., unsearched: bool = ...) -> None: ...
    class Saw(_message.Message):
        __slots__ = ("task", "version", "aliases", "drops")
        TASK_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        ALIASES_FIELD_NUMBER: _ClassVar[int]
        DROPS_FIELD_NUMBER: _ClassVar[int]
        task: str
        version: int
        aliases: _containers.RepeatedScalarFieldContainer[str]
        drops: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ..., drops: _Optional[_Iterable[int]] = ...) -> None: ...
    FOUND_FIELD_NUMBER: _ClassVar[int]
    SAW_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[ForgetResponse.Found]
    saw: _containers.RepeatedCompositeFieldContainer[ForgetResponse.Saw]
    def __init__(self, found: _Optional[_Iterable[_Union[ForgetResponse.Found, _Mapping]]] = ..., saw: _Optional[_Iterable[_Union[ForgetResponse.Saw, _Mapping]]] = ...) -> None: ...

class RetrainRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class RetrainResponse(_message.Message):
    __slots__ = ("task", "champion", "deleted", "drops")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    task: str
    champion: int
    deleted: _containers.RepeatedScalarFieldContainer[int]
    drops: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, task: _Optional[str] = ..., champion: _Optional[int] = ..., deleted: _Optional[_Iterable[int]] = ..., drops: _Optional[_Iterable[int]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "task", "drop", "state", "phase", "progress", "attempts", "error", "started", "ended")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    id: int
    task: str
    drop: int
    state: JobState
    phase: str
    progress: float
    attempts: int
    error: str
    started: _timestamp_pb2.Timestamp
    ended: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[int] = ..., task: _Optional[str] = ..., drop: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., phase: _Optional[str] = ..., progress: _Optional[float] = ..., attempts: _Optional[int] = ..., error: _Optional[str] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("request_id", "rating", "correction")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    rating: Rating
    correction: str
    def __init__(self, request_id: _Optional[str] = ..., rating: _Optional[_Union[Rating, str]] = ..., correction: _Optional[str] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("served_by", "waiting")
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    served_by: _common_pb2.ServedBy
    waiting: int
    def __init__(self, served_by: _Optional[_Union[_common_pb2.ServedBy, _Mapping]] = ..., waiting: _Optional[int] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("task", "report_json")
    TASK_FIELD_NUMBER: _ClassVar[int]
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    task: str
    report_json: str
    def __init__(self, task: _Optional[str] = ..., report_json: _Optional[str] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("after", "follow", "task")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    after: int
    follow: bool
    task: str
    def __init__(self, after: _Optional[int] = ..., follow: bool = ..., task: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Status(_message.Message):
    __slots__ = ("version", "base", "fingerprint", "quantization", "device", "state_dir", "inbox", "address", "started", "pid", "memory_bytes", "slots", "slots_used", "leases", "queued", "running", "tasks", "jobs", "warnings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STATE_DIR_FIELD_NUMBER: _ClassVar[int]
    INBOX_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    base: str
    fingerprint: str
    quantization: str
    device: str
    state_dir: str
    inbox: str
    address: str
    started: _timestamp_pb2.Timestamp
    pid: int
    memory_bytes: int
    slots: int
    slots_used: int
    leases: int
    queued: int
    running: int
    tasks: _containers.RepeatedCompositeFieldContainer[_adapters_pb2.Task]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., base: _Optional[str] = ..., fingerprint: _Optional[str] = ..., quantization: _Optional[str] = ..., device: _Optional[str] = ..., state_dir: _Optional[str] = ..., inbox: _Optional[str] = ..., address: _Optional[str] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pid: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., slots: _Optional[int] = ..., slots_used: _Optional[int] = ..., leases: _Optional[int] = ..., queued: _Optional[int] = ..., running: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[_adapters_pb2.Task, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...
