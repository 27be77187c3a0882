"""Children of the daemon die with it, even if it dies while they begin."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from adapterd.daemon.child_process import command


def test_a_module_runs_with_its_arguments() -> None:
    done = subprocess.run(
        command("json.tool", "--compact"), input=b'{"a": 1}', stdout=subprocess.PIPE, check=True, timeout=60
    )
    assert done.stdout == b'{"a":1}\n'


def test_a_child_whose_daemon_is_gone_before_it_begins_does_not_run(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ran = tmp_path / "ran.json"
    child = command("json.tool", "-", str(ran))
    child[child.index(str(os.getpid()))] = str(gone.pid)
    done = subprocess.run(child, input=b"1", stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert f"process {gone.pid}, is gone" in done.stderr.decode()
    assert not ran.exists()


def test_a_child_dies_with_its_daemon() -> None:
    daemon = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess\n"
            "from adapterd.daemon.child_process import command\n"
            "child = subprocess.Popen(command('http.server', '--bind', '127.0.0.1', '0'), stderr=subprocess.DEVNULL,"
            " stdout=subprocess.PIPE)\n"
            "print(child.pid, child.stdout.readline(0), flush=True)\n"
            "child.stdout.read(1)\n"
            "print('it runs', flush=True)\n"
            "child.wait()\n",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert daemon.stdout is not None
    child = int(daemon.stdout.readline().split()[0])
    assert daemon.stdout.readline() == b"it runs\n"
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    pause, end = threading.Event(), time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < end, f"process {child} outlives its daemon"
        pause.wait(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
