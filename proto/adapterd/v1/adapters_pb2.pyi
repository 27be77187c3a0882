import datetime

from adapterd.v1 import common_pb2 as _common_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Task(_message.Message):
    __slots__ = ("name", "champion", "canary", "previous", "versions", "drops", "serving", "serving_error", "trial")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    SERVING_ERROR_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    champion: int
    canary: int
    previous: int
    versions: int
    drops: int
    serving: _common_pb2.ServingState
    serving_error: str
    trial: CanaryTrial
    def __init__(self, name: _Optional[str] = ..., champion: _Optional[int] = ..., canary: _Optional[int] = ..., previous: _Optional[int] = ..., versions: _Optional[int] = ..., drops: _Optional[int] = ..., serving: _Optional[_Union[_common_pb2.ServingState, str]] = ..., serving_error: _Optional[str] = ..., trial: _Optional[_Union[CanaryTrial, _Mapping]] = ...) -> None: ...

class CanaryTrial(_message.Message):
    __slots__ = ("share", "began", "requests", "failed", "champion_requests", "champion_failed", "slowdown", "rated_good", "rated_bad", "champion_rated_good", "champion_rated_bad")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FAILED_FIELD_NUMBER: _ClassVar[int]
    SLOWDOWN_FIELD_NUMBER: _ClassVar[int]
    RATED_GOOD_FIELD_NUMBER: _ClassVar[int]
    RATED_BAD_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_RATED_GOOD_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_RATED_BAD_FIELD_NUMBER: _ClassVar[int]
    share: float
    began: _timestamp_pb2.Timestamp
    requests: int
    failed: int
    champion_requests: int
    champion_failed: int
    slowdown: float
    rated_good: int
    rated_bad: int
    champion_rated_good: int
    champion_rated_bad: int
    def __init__(self, share: _Optional[float] = ..., began: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requests: _Optional[int] = ..., failed: _Optional[int] = ..., champion_requests: _Optional[int] = ..., champion_failed: _Optional[int] = ..., slowdown: _Optional[float] = ..., rated_good: _Optional[int] = ..., rated_bad: _Optional[int] = ..., champion_rated_good: _Optional[int] = ..., champion_rated_bad: _Optional[int] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("task", "version", "state", "aliases", "digest", "parent", "created", "metrics", "serving", "serving_error", "verdict", "reason", "manifest_json", "drop", "pinned")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    SERVING_ERROR_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    task: str
    version: int
    state: _common_pb2.VersionState
    aliases: _containers.RepeatedScalarFieldContainer[str]
    digest: str
    parent: int
    created: _timestamp_pb2.Timestamp
    metrics: _containers.ScalarMap[str, float]
    serving: _common_pb2.ServingState
    serving_error: str
    verdict: str
    reason: str
    manifest_json: str
    drop: int
    pinned: bool
    def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[_Union[_common_pb2.VersionState, str]] = ..., aliases: _Optional[_Iterable[str]] = ..., digest: _Optional[str] = ..., parent: _Optional[int] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., serving: _Optional[_Union[_common_pb2.ServingState, str]] = ..., serving_error: _Optional[str] = ..., verdict: _Optional[str] = ..., reason: _Optional[str] = ..., manifest_json: _Optional[str] = ..., drop: _Optional[int] = ..., pinned: bool = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("left", "right")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    left: str
    right: str
    def __init__(self, left: _Optional[str] = ..., right: _Optional[str] = ...) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("comparison_json",)
    COMPARISON_JSON_FIELD_NUMBER: _ClassVar[int]
    comparison_json: str
    def __init__(self, comparison_json: _Optional[str] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("version", "expected_champion", "canary_share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    version: str
    expected_champion: int
    canary_share: float
    def __init__(self, version: _Optional[str] = ..., expected_champion: _Optional[int] = ..., canary_share: _Optional[float] = ...) -> None: ...

class RevertRequest(_message.Message):
    __slots__ = ("task", "to", "canary")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    task: str
    to: int
    canary: bool
    def __init__(self, task: _Optional[str] = ..., to: _Optional[int] = ..., canary: bool = ...) -> None: ...

class AliasMoved(_message.Message):
    __slots__ = ("task", "alias", "to", "seconds")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    task: str
    alias: str
    to: int
    seconds: float
    def __init__(self, task: _Optional[str] = ..., alias: _Optional[str] = ..., to: _Optional[int] = ..., seconds: _Optional[float] = ..., **kwargs) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ("version", "off")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    version: str
    off: bool
    def __init__(self, version: _Optional[str] = ..., off: bool = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("version", "merge")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    version: str
    merge: bool
    def __init__(self, version: _Optional[str] = ..., merge: bool = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("task", "chunk")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    task: str
    chunk: bytes
    def __init__(self, task: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...
