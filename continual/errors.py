"""Everything that can go wrong while reading data and learning from it.

LearningError
├── UnreadableFile     a dropped file as a whole cannot be read
├── TooManyBadRows     more bad rows than the task allows
├── NothingToLearn     no row is left to train on
├── BadTemplate        a stored template cannot be read, or the base's tokenizer cannot serve it
├── UnrenderableChat   the base's chat template refuses a conversation
└── TrainingDiverged   the loss is no longer a number

`daemon.errors` draws the whole tree and says which gRPC status each becomes.
"""

from typing import ClassVar


class LearningError(Exception):
    """Root of the package's errors: `message` says what, where and why, `hint` what to do, `details` names things."""

    reason: ClassVar[str] = "LEARNING_ERROR"

    def __init__(self, message: str, *, hint: str = "", **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class UnreadableFile(LearningError):
    """A dropped file as a whole cannot be read: format, encoding, compression, size."""

    reason = "UNREADABLE_FILE"


class TooManyBadRows(LearningError):
    """More rows are bad than `max_bad_rows` allows, so the file is set aside whole."""

    reason = "TOO_MANY_BAD_ROWS"


class NothingToLearn(LearningError):
    """After parsing and splitting, no row is left to train on."""

    reason = "NOTHING_TO_LEARN"


class BadTemplate(LearningError):
    """A version's stored template cannot be read, or the base's tokenizer lacks what every template needs."""

    reason = "BAD_TEMPLATE"


class UnrenderableChat(LearningError):
    """The base's chat template refuses a conversation (its roles, their order); the caller can send another."""

    reason = "UNRENDERABLE_CHAT"


class TrainingDiverged(LearningError):
    """The training loss is NaN or infinite."""

    reason = "TRAINING_DIVERGED"
