"""The daemon's own errors, and the map of all.

DaemonError
├── ConfigError        a setting is wrong; says which, where it came from and what would be right
├── AlreadyRunning     another daemon owns the state folder
├── NotRunning         no daemon answers at the address
├── UnknownDrop        no drop or job with this number
├── UnknownRequest     no answer that could be rated under this id
├── AliasConflict      the alias moved meanwhile (a lost race)
├── NotAuthenticated   nobody knows who calls
├── NotPermitted       who calls has no right to that
├── TooManyCalls       who calls has as many calls under way as one may have
├── NotAllowed         the thing exists and is not in a state that allows this
├── LedgerFailed       SQLite cannot read or write the ledger
├── TrainerFailed      the training process ended badly
├── AuditorFailed      the auditing process broke at a file, or took too long
├── DiskFull           there is no room for what was to be written
├── TooManyFollowers   too many streams wait for what happens next
├── DeadlinePassed     the request took longer than it may
├── CallerGone         who asked is no longer there
├── Stopping           the daemon is going down
└── RemoteError        what a daemon answered to a client instead of a result

`continual.errors.LearningError` and `adapters.errors.ServingError` are the roots of the packages below;
`daemon.edge` gives every class of the three trees one gRPC status.
"""

from typing import ClassVar


class DaemonError(Exception):
    """Root of the package's errors: `message` says what, where and why, `hint` what to do, `details` names things."""

    reason: ClassVar[str] = "DAEMON_ERROR"

    def __init__(self, message: str, *, hint: str = "", **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class ConfigError(DaemonError):
    """A setting is wrong or cannot be read."""

    reason = "CONFIG_ERROR"


class AlreadyRunning(DaemonError):
    """Another daemon holds the lock of the state folder."""

    reason = "ALREADY_RUNNING"


class NotRunning(DaemonError):
    """No daemon answers at the address."""

    reason = "NOT_RUNNING"


class UnknownDrop(DaemonError):
    """No drop or job has this number."""

    reason = "UNKNOWN_DROP"


class UnknownRequest(DaemonError):
    """No answer to such a request waits for a rating."""

    reason = "UNKNOWN_REQUEST"


class AliasConflict(DaemonError):
    """The alias was moved by somebody else between reading and writing it."""

    reason = "ALIAS_CONFLICT"


class NotAllowed(DaemonError):
    """The drop, job or version is not in a state that allows what was asked."""

    reason = "NOT_ALLOWED"


class NotAuthenticated(DaemonError):
    """The caller shows neither a token nor a certificate that is known and holds still."""

    reason = "NOT_AUTHENTICATED"


class NotPermitted(DaemonError):
    """The caller's role does not go so far."""

    reason = "NOT_PERMITTED"


class TooManyCalls(DaemonError):
    """One caller has as many calls under way as one may have."""

    reason = "TOO_MANY_CALLS"


class BackupFailed(DaemonError):
    """A backup cannot be made or restored; what was there is as it was."""

    reason = "BACKUP_FAILED"


class LedgerFailed(DaemonError):
    """SQLite cannot read or write the ledger: full disk, locked or damaged file, or a newer adapterd wrote it."""

    reason = "LEDGER_FAILED"


class TrainerFailed(DaemonError):
    """The training process ended without a result; the message holds the end of its log."""

    reason = "TRAINER_FAILED"


class AuditorFailed(DaemonError):
    """The auditing process died at what it was asked, or took longer than it may."""

    reason = "AUDITOR_FAILED"


class DiskFull(DaemonError):
    """There is no room for what was to be written; nothing of it is kept."""

    reason = "DISK_FULL"


class TooManyFollowers(DaemonError):
    """Too many streams wait for what happens next; one more would take a thread from requests."""

    reason = "TOO_MANY_FOLLOWERS"


class DeadlinePassed(DaemonError):
    """The request's deadline, its own or the server's, came before the end of the answer."""

    reason = "DEADLINE_PASSED"


class CallerGone(DaemonError):
    """The client hung up or cancelled; nobody reads this, it only ends the work."""

    reason = "CALLER_GONE"


class Stopping(DaemonError):
    """The daemon is going down and ends its streams."""

    reason = "STOPPING"


class RemoteError(DaemonError):
    """What the daemon answered instead of a result: its message, hint and details, with `status` and `cause`.

    `status` is the name of the gRPC status ("NOT_FOUND"), `cause` the reason of the error it stands for
    ("UNKNOWN_ADAPTER"; empty if the answer carries none).
    """

    reason = "REMOTE_ERROR"

    def __init__(self, message: str, *, status: str, cause: str = "", hint: str = "", **details: str) -> None:
        super().__init__(message, hint=hint, **details)
        self.status = status
        self.cause = cause
