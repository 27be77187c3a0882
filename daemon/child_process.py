"""How the daemon's child processes end."""

import subprocess


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """SIGTERM, then, after `patience_s` seconds, SIGKILL; returns when the process is gone."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
