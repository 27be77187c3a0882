"""The auditing process: `adapterd.daemon.auditor MEMORY_BYTES`, as `child_process` runs it.

It reads files from outside, so it is a process of its own, with a limit on its memory: a file that breaks it breaks
nothing else. Requests come as JSON lines on standard input, one after the other, and each gets a line of answer on
standard output:

    {"read": {...}} or {"audit": {...}}        see `auditing.Reading` and `auditing.Auditing`
    {"done": {...}}                            what they answer
    {"share": 0.5, "phase": "wording"}         how far an audit is, before its answer
    {"refused": "...", "hint": "..."}          the file is unfit, and why
    {"fault": "..."}                           an error of ours; the trace is on standard error
"""

import json
import os
import resource
import sys
import traceback
from typing import Any, TextIO

from ..continual.errors import LearningError
from .auditing import Auditing, Reading, audit_drop, read


def main() -> None:
    """Answer until standard input ends."""
    # Answers have a descriptor of their own, so that nothing that a library prints can stand between them.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    for line in sys.stdin:
        _say(answers, _answer(json.loads(line), answers))


def _answer(request: dict[str, Any], answers: TextIO) -> dict[str, Any]:
    def say(phase: str, share: float) -> None:
        _say(answers, {"share": share, "phase": phase})

    try:
        if "read" in request:
            return {"done": read(Reading(**request["read"]))}
        return {"done": audit_drop(Auditing(**request["audit"]), say)}
    except LearningError as error:
        return {"refused": error.message, "hint": error.hint}
    except MemoryError:
        raise  # what is left of the memory is not to be built upon: the process ends, and the daemon says why
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon is told
        traceback.print_exc()
        return {"fault": f"{type(error).__name__}: {error}"}


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
