"""Places where a test lets the process die, so that what a kill leaves behind is seen and not imagined.

Every durable step of a drop, a version or an alias has a name before or after it. `ADAPTERD_FAILPOINT=version.renamed`
kills the process with SIGKILL when it first comes by there, as the kernel does for want of memory; nothing is closed,
flushed or told. Without the variable a failpoint costs a look at the environment. `make faults` goes by them.
"""

import os
import signal
from typing import Final

VARIABLE: Final = "ADAPTERD_FAILPOINT"

POINTS: Final = {
    "claim.begun": "a file in the inbox is ready, and lies there still",
    "claim.moved": "the file is in the spool, and the ledger has no row",
    "claim.noted": "the drop has its row",
    "read.done": "its rows are written, and the file lies in the spool",
    "read.kept": "the file lies beside its rows, and the ledger says CLAIMED",
    "read.noted": "the ledger says PARSED",
    "quarantine.moved": "an unreadable file lies in quarantine, and the ledger says CLAIMED",
    "quarantine.noted": "the ledger says QUARANTINED",
    "audit.done": "the rows are parted, and the ledger says PARSED",
    "audit.noted": "the ledger says AUDITED",
    "plan.noted": "the ledger says PLANNED, and a job is queued",
    "job.prepared": "the job's spec is written, and the job is queued",
    "job.noted": "the ledger says RUNNING, and no process runs",
    "job.started": "the training process runs",
    "trainer.checkpoint": "the training process has written a checkpoint",
    "trainer.trained": "the weights are kept, and nothing is measured yet",
    "trainer.written": "the result lies under a temporary name",
    "job.ended": "the result is there, and the ledger says RUNNING",
    "job.finished": "the ledger says EVALUATED",
    "version.written": "the version lies under a temporary name",
    "version.renamed": "the version is in the store, and the ledger has no row",
    "version.noted": "the version has its row, and no alias",
    "promote.loaded": "the version is in the engine, and the alias has not moved",
    "promote.noted": "the alias has moved, and requests still get the version before",
    "promote.told": "requests get the new version, and the drop is not done",
    "drop.done": "the drop is done, and the job's files are there",
    "delete.noted": "the ledger says DELETED, and the files are there",
    "delete.renamed": "the files lie under a temporary name",
    "delete.removed": "the files are gone",
}
"""Each name, and how things stand there."""


def failpoint(name: str) -> None:
    """Die here, if a test wants it."""
    if name == os.environ.get(VARIABLE):
        os.kill(os.getpid(), signal.SIGKILL)
