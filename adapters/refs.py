"""How a person names what answers: a task, one of its versions or aliases, or the base."""

import re
from dataclasses import dataclass
from typing import Final

from .errors import BadRequest

BASE: Final = "base"
"""The name of the base without adapter; therefore no task may bear it."""

CHAMPION: Final = "champion"
CANARY: Final = "canary"
PREVIOUS: Final = "previous"
ALIASES: Final = (CHAMPION, CANARY, PREVIOUS)
"""The names that move from version to version; a task alone means its champion."""

MAX_VERSION: Final = 2**63 - 1
"""The largest integer that SQLite, where versions are counted, can hold."""

_TASK = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_TASK_RULE = "a task is 1 to 63 of a-z, 0-9 and '-', and begins with a letter or digit"
_SHOWN = 80  # characters of a wrong name that an error repeats


def check_task(name: str) -> str:
    """Return `name` if a task may bear it: `[a-z0-9][a-z0-9-]{0,62}` and not "base".

    Raises:
        BadRequest: with `field` "task".
    """
    if name == BASE:
        raise BadRequest(
            "'base' is not a task: the name stands for the base model without adapter",
            hint="choose another name for the task",
            field="task",
        )
    if not _TASK.fullmatch(name):
        raise BadRequest(f"{_shown(name)} is not a task's name", hint=_TASK_RULE, field="task")
    return name


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """What a request names: `task@7` (version), `task@canary` (alias), `task` (its champion) or `base`.

    At most one of `version` and `alias` is set, and neither for the base, whose `task` is "base".
    `str` gives the canonical text: `task` alone and `task@champion` are the same reference.
    """

    task: str
    version: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        if self.task == BASE:
            if self.version is not None or self.alias is not None:
                raise BadRequest(
                    "the base has neither versions nor aliases",
                    hint="write 'base' alone",
                    field="adapter",
                )
            return
        check_task(self.task)
        if (self.version is None) == (self.alias is None):
            raise BadRequest(
                f"a reference to {self.task} names a version or an alias, one of them",
                hint=_reference_rule(self.task),
                field="adapter",
            )
        if self.version is not None and not 1 <= self.version <= MAX_VERSION:
            raise BadRequest(
                f"{self.version} is not a version of {self.task}: versions count from 1 to {MAX_VERSION}",
                hint=f"`adapterd list {self.task}` shows the versions there are",
                field="adapter",
            )
        if self.alias is not None and self.alias not in ALIASES:
            raise BadRequest(
                f"{_shown(self.alias)} is not an alias",
                hint=f"the aliases are {', '.join(ALIASES)}",
                field="adapter",
            )

    @classmethod
    def parse(cls, text: str) -> "AdapterRef":
        """Read `task@7`, `task@canary`, `task` (its champion) or `base`.

        Raises:
            BadRequest: says which part is wrong and what would be right.
        """
        if not text:
            raise BadRequest(
                "no adapter is named", hint="write TASK, TASK@VERSION, TASK@ALIAS or base", field="adapter"
            )
        task, at, which = text.partition("@")
        if task == BASE and not at:
            return cls(BASE)
        if task == BASE:
            raise BadRequest(
                f"{_shown(text)}: the base has neither versions nor aliases",
                hint="write 'base' alone",
                field="adapter",
            )
        if not _TASK.fullmatch(task):
            raise BadRequest(f"{_shown(text)}: {_shown(task)} is not a task's name", hint=_TASK_RULE, field="adapter")
        if not at:
            return cls(task, alias=CHAMPION)
        if which in ALIASES:
            return cls(task, alias=which)
        if _VERSION.fullmatch(which) and int(which) <= MAX_VERSION:
            return cls(task, version=int(which))
        raise BadRequest(
            f"{_shown(text)}: {_shown(which)} is neither a version nor an alias",
            hint=_reference_rule(task),
            field="adapter",
        )

    @property
    def is_base(self) -> bool:
        """Whether this is the base without adapter."""
        return self.task == BASE

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.task}@{self.version}"
        if self.alias is None or self.alias == CHAMPION:
            return self.task
        return f"{self.task}@{self.alias}"


def _reference_rule(task: str) -> str:
    return f"write {task}@7 for a version (counted from 1), or {task}@ and one of {', '.join(ALIASES)}"


def _shown(text: str) -> str:
    said = repr(text)  # shortened as it is shown: a character that cannot be printed takes ten
    return said if len(said) <= _SHOWN + 2 else f"{said[: _SHOWN + 1]}…{said[-1]}"
