"""How the daemon's child processes begin and end: `python -m adapterd.daemon.child_process PARENT MODULE ARGUMENTS`.

A child dies with its daemon, so that no orphan works beside the daemon's successor. The kernel is asked for that before
anything is imported: importing takes seconds, and a daemon that died meanwhile would leave a child that nobody ends.
"""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def command(module: str, *arguments: str) -> list[str]:
    """What to spawn so that `module` is run as a child of this process."""
    return [sys.executable, "-P", "-m", "adapterd.daemon.child_process", str(os.getpid()), module, *arguments]


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """SIGTERM, then, after `patience_s` seconds, SIGKILL; returns when the process is gone."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Run the module, unless the parent is gone already."""
    parent, module, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit(f"the daemon, process {parent}, is gone")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
