"""Everything that can go wrong while versions are stored, loaded and served.

ServingError
├── BadRequest           a request's field is wrong; `details["field"]` names it
├── UnknownAdapter       no such task, version or alias
├── VersionNotServable   the version exists and is retired, deleted or in error
├── IllegalTransition    a state was asked to move where it cannot
├── CorruptVersion       a version's files are not what was published, or not fit to serve
├── UnsafeImport         a folder to import holds what is never loaded
├── BaseUnavailable      the base cannot be obtained or loaded
├── BaseMismatch         an adapter belongs to another base
├── QueueFull            too many requests wait
├── NoFreeSlot           every slot is leased
├── StillLeased          a version is in use
├── EngineStopped        the engine is not running (any more)
└── DiskFailure          the disk did not take what was written; the daemon stops

`daemon.errors` draws the whole tree and says which gRPC status each becomes.
"""

from typing import ClassVar


class ServingError(Exception):
    """Root of the package's errors: `message` says what, where and why, `hint` what to do, `details` names things."""

    reason: ClassVar[str] = "SERVING_ERROR"

    def __init__(self, message: str, *, hint: str = "", **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class BadRequest(ServingError):
    """A field of a request is missing, malformed or out of range."""

    reason = "BAD_REQUEST"


class UnknownAdapter(ServingError):
    """No such task, version or alias; the base never answers in its place."""

    reason = "UNKNOWN_ADAPTER"


class VersionNotServable(ServingError):
    """The version exists, and is retired, deleted or failed to load."""

    reason = "VERSION_NOT_SERVABLE"


class IllegalTransition(ServingError):
    """A state was asked to move where its life does not lead."""

    reason = "ILLEGAL_TRANSITION"


class CorruptVersion(ServingError):
    """A version's files differ from what was published, or hold weights that cannot be served."""

    reason = "CORRUPT_VERSION"


class UnsafeImport(ServingError):
    """A folder to import holds something that is never loaded: pickles, links, foreign files, wrong shapes."""

    reason = "UNSAFE_IMPORT"


class BaseUnavailable(ServingError):
    """The base model cannot be obtained, converted or loaded."""

    reason = "BASE_UNAVAILABLE"


class BaseMismatch(ServingError):
    """An adapter was trained on a base with another fingerprint."""

    reason = "BASE_MISMATCH"


class QueueFull(ServingError):
    """Too many requests wait; `details["retry_after_s"]` says when to come back."""

    reason = "QUEUE_FULL"


class NoFreeSlot(ServingError):
    """Every slot holds a version that is leased or pinned."""

    reason = "NO_FREE_SLOT"


class StillLeased(ServingError):
    """A version is in use by running requests."""

    reason = "STILL_LEASED"


class EngineStopped(ServingError):
    """The engine is not running."""

    reason = "ENGINE_STOPPED"


class DiskFailure(ServingError):
    """An fsync failed: what was written may be lost, and trying again would hide it; the daemon stops."""

    reason = "DISK_FAILURE"
