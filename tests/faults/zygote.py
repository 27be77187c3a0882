"""Daemons within a tenth of a second: `python zygote.py` imports and compiles everything once. Each line on standard
input, `{"config": …, "log": …, "environment": {…}}`, forks one `adapterd serve`. Its pid comes back as a line, and its
exit status as another once it is gone.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from adapterd.daemon import environment

environment.set_unless_told(environment.SERVING)  # as `adapterd serve` does, before torch is loaded

from adapterd.adapters.kernels import compile_ahead  # noqa: E402
from adapterd.daemon.config import load_settings  # noqa: E402
from adapterd.daemon.serve import run  # noqa: E402


def main() -> None:
    """Fork until standard input ends."""
    compile_ahead("cpu")
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _become_a_daemon(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become_a_daemon(request: Mapping[str, Any]) -> NoReturn:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives the tests
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(request["environment"])
    status = 70
    try:
        config = Path(request["config"])
        status = run(load_settings(config), config)
    except BaseException:  # noqa: BLE001 - whatever it was, the log is to tell, and the fork must not go on
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
