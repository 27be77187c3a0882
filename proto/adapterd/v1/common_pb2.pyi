import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VersionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERSION_STATE_UNSPECIFIED: _ClassVar[VersionState]
    VERSION_STATE_CANDIDATE: _ClassVar[VersionState]
    VERSION_STATE_REJECTED: _ClassVar[VersionState]
    VERSION_STATE_AVAILABLE: _ClassVar[VersionState]
    VERSION_STATE_RETIRED: _ClassVar[VersionState]
    VERSION_STATE_DELETED: _ClassVar[VersionState]

class ServingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVING_STATE_UNSPECIFIED: _ClassVar[ServingState]
    SERVING_STATE_START: _ClassVar[ServingState]
    SERVING_STATE_LOADING: _ClassVar[ServingState]
    SERVING_STATE_AVAILABLE: _ClassVar[ServingState]
    SERVING_STATE_DRAINING: _ClassVar[ServingState]
    SERVING_STATE_END: _ClassVar[ServingState]
    SERVING_STATE_ERROR: _ClassVar[ServingState]

class DropState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DROP_STATE_UNSPECIFIED: _ClassVar[DropState]
    DROP_STATE_ARRIVED: _ClassVar[DropState]
    DROP_STATE_CLAIMED: _ClassVar[DropState]
    DROP_STATE_PARSED: _ClassVar[DropState]
    DROP_STATE_AUDITED: _ClassVar[DropState]
    DROP_STATE_PLANNED: _ClassVar[DropState]
    DROP_STATE_TRAINING: _ClassVar[DropState]
    DROP_STATE_EVALUATED: _ClassVar[DropState]
    DROP_STATE_DONE: _ClassVar[DropState]
    DROP_STATE_HELD: _ClassVar[DropState]
    DROP_STATE_QUARANTINED: _ClassVar[DropState]
    DROP_STATE_FAILED: _ClassVar[DropState]
VERSION_STATE_UNSPECIFIED: VersionState
VERSION_STATE_CANDIDATE: VersionState
VERSION_STATE_REJECTED: VersionState
VERSION_STATE_AVAILABLE: VersionState
VERSION_STATE_RETIRED: VersionState
VERSION_STATE_DELETED: VersionState
SERVING_STATE_UNSPECIFIED: ServingState
SERVING_STATE_START: ServingState
SERVING_STATE_LOADING: ServingState
SERVING_STATE_AVAILABLE: ServingState
SERVING_STATE_DRAINING: ServingState
SERVING_STATE_END: ServingState
SERVING_STATE_ERROR: ServingState
DROP_STATE_UNSPECIFIED: DropState
DROP_STATE_ARRIVED: DropState
DROP_STATE_CLAIMED: DropState
DROP_STATE_PARSED: DropState
DROP_STATE_AUDITED: DropState
DROP_STATE_PLANNED: DropState
DROP_STATE_TRAINING: DropState
DROP_STATE_EVALUATED: DropState
DROP_STATE_DONE: DropState
DROP_STATE_HELD: DropState
DROP_STATE_QUARANTINED: DropState
DROP_STATE_FAILED: DropState

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class ServedBy(_message.Message):
    __slots__ = ("task", "version", "digest", "alias")
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    task: str
    version: int
    digest: str
    alias: str
    def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "time", "kind", "task", "drop", "version", "message", "details_json", "actor", "hash")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_JSON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    id: int
    time: _timestamp_pb2.Timestamp
    kind: str
    task: str
    drop: int
    version: int
    message: str
    details_json: str
    actor: str
    hash: str
    def __init__(self, id: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., task: _Optional[str] = ..., drop: _Optional[int] = ..., version: _Optional[int] = ..., message: _Optional[str] = ..., details_json: _Optional[str] = ..., actor: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...
