"""One state folder, the daemons that are started on it and killed, and what must be true of it at any moment."""

import hashlib
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from adapterd.adapters.durable import TEMP_PREFIX
from adapterd.adapters.failpoints import VARIABLE
from adapterd.adapters.store import Store
from adapterd.daemon.client import Client
from adapterd.daemon.errors import DaemonError
from adapterd.v1 import inference_pb2, learning_pb2

PATIENCE_S = 120.0
WORDS = ("good", "bad")

_SETTINGS = """
state = "{state}"
inbox = "{inbox}"
base = "tiny"
quantization = "none"
settle_s = 0.05
rescan_s = 0.2
trainer = {{ threads = 1, nice = 0, idle = false, attempts = 1000, retry_s = 0.0 }}
serving = {{ threads = 1, slots = 8, drain_timeout_s = 2.0, host_cache_mb = 0, prefix_cache_mb = 1 }}
drift = {{ answered = 0.0 }}
gate = {{ margin_accuracy = 1.0, margin_loss = 9.0, margin_general = 99.0, level = 1e-9 }}
training = {{ rank = 2, batch_size = 8, learning_rate = 0.01, epochs = 1, fisher_rows = 8, checkpoint_steps = 1 }}
"""


class Sandbox:
    """A state folder and an inbox below `root`, else `folder`, where settings and log lie; one daemon at a time, on the
    tiny base, with the quickest training.
    """

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        self.state = (root or folder) / "state"
        self.inbox = (root or folder) / "inbox"
        self.config = folder / "adapterd.toml"
        self.log = folder / "daemon.log"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.config.write_text(_SETTINGS.format(state=self.state, inbox=self.inbox), "utf-8")
        self.dropped: dict[str, str] = {}  # task by sha256 of what was dropped
        self._lines: queue.Queue[int] = queue.Queue()
        self._pid = 0
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTERD_")}
        self._zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def set(self, line: str) -> None:
        """One more setting, for the next daemon."""
        self.config.write_text(f"{self.config.read_text('utf-8')}{line}\n", "utf-8")

    def close(self) -> None:
        """End everything."""
        self.kill()
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait(PATIENCE_S)

    def start(self, failpoint: str = "") -> None:
        """Start a daemon, which dies at `failpoint`; returns at once."""
        assert not self._pid
        assert self._zygote.stdin is not None
        request = {"config": str(self.config), "log": str(self.log), "environment": {VARIABLE: failpoint}}
        self._zygote.stdin.write(json.dumps(request).encode() + b"\n")
        self._zygote.stdin.flush()
        self._pid = self._lines.get(timeout=PATIENCE_S)

    @property
    def pid(self) -> int:
        """Of the daemon that runs; 0: none does."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the daemon has not ended by itself."""
        return self._lines.empty()

    def ended(self, seconds: float) -> int | None:
        """The exit status of the daemon if it ends within `seconds`; negative for a signal."""
        try:
            status = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        self._pid = 0
        return status

    def kill(self, number: int = signal.SIGKILL) -> int | None:
        """Kill the daemon, if one runs, and wait for its end."""
        if not self._pid:
            return None
        os.kill(self._pid, number)
        status = self.ended(PATIENCE_S)
        assert status is not None, f"the daemon outlived {signal.Signals(number).name}"
        return status

    def client(self) -> Client:
        """Talks to the daemon."""
        return Client(f"unix:{self.state / 'adapterd.sock'}")

    def drop(self, task: str, first: int, rows: int = 24, *, unreadable: bool = False) -> str:
        """Rename a file into the inbox whose rows no other has; returns its sha256."""
        folder = self.inbox / task
        folder.mkdir(exist_ok=True)
        content = f"{first} no JSON\n".encode() * 200 if unreadable else content_of(first, rows)
        temp = folder / f".{first}"
        temp.write_bytes(content)
        temp.rename(folder / f"rows-{first}.jsonl")
        sha256 = hashlib.sha256(content).hexdigest()
        self.dropped[sha256] = task
        return sha256

    def submit(self, task: str, first: int) -> str:
        """Hand a like file over to the daemon that runs; once this returns, the daemon has promised to keep it."""
        content = content_of(first)
        request = learning_pb2.SubmitDataRequest(
            task=task, filename=f"rows-{first}.jsonl", chunk=content, size=len(content)
        )
        with self.client() as client:
            sha256 = client.learning.SubmitData([request], timeout=PATIENCE_S).sha256
        self.dropped[sha256] = task
        return sha256

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """What the ledger says, whether or not a daemon runs; nothing where there is none yet."""
        ledger = self.state / "adapterd.sqlite3"
        if not ledger.exists():
            return []
        # Read-only, so that the next daemon and not this test recovers what a kill left in the WAL.
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute(sql, parameters)]
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # killed before its tables were made
                raise

    def unfinished(self) -> list[str]:
        """What was dropped and is neither done nor set aside, by sha256."""
        over = {row["sha256"] for row in self.rows("SELECT sha256 FROM drops WHERE state IN ('done', 'quarantined')")}
        return [sha256 for sha256 in self.dropped if sha256 not in over]

    def work_off(self) -> None:
        """With the daemon that runs: wait until every drop is done."""
        until(lambda: not self.unfinished(), lambda: str(self.rows("SELECT id, state, reason FROM drops")))

    def serving(self) -> bool:
        """Whether the daemon answers."""
        try:
            with self.client() as client:
                client.learning.GetStatus(learning_pb2.GetStatusRequest(), timeout=5)
        except DaemonError:
            return False
        return True

    def check(self) -> None:
        """What must be true after any kill: nothing is lost, done twice or half there."""
        lost = [sha256 for sha256 in self.dropped if not self._places_of(sha256)]
        assert not lost, f"{len(lost)} dropped files are nowhere"
        finished = self.rows("""SELECT "drop", count(*) AS times FROM events WHERE kind = 'training.finished'
                                GROUP BY "drop" HAVING times > 1""")
        assert not finished, f"trained twice: {finished}"
        twice = self.rows("""SELECT task, "drop" FROM versions GROUP BY task, "drop" HAVING count(*) > 1""")
        assert not twice, f"two versions of one drop: {twice}"
        assert not self.rows("SELECT sha256 FROM drops GROUP BY task, sha256 HAVING count(*) > 1")
        store = Store(self.state / "adapters")
        for row in self.rows("SELECT task, version, digest FROM versions WHERE state != 'deleted'"):
            store.load(row["task"], row["version"], digest=row["digest"], shapes=None)
            assert store.manifest(row["task"], row["version"])["digest"] == row["digest"]
        dangling = self.rows("""SELECT a.task, a.alias, a.version FROM aliases a LEFT JOIN versions v
                                ON v.task = a.task AND v.version = a.version
                                WHERE a.version IS NOT NULL AND (v.state IS NULL OR v.state != 'available')""")
        assert not dangling, f"aliases of what is not there: {dangling}"

    def check_at_rest(self) -> None:
        """What must be true once a daemon has worked everything off, and stopped: besides, registry and store agree."""
        self.check()
        assert not self.unfinished()
        told = self.rows("SELECT task, version FROM versions WHERE state != 'deleted'")
        noted = {f"{row['task']}/{row['version']:06d}" for row in told}
        root = self.state / "adapters"
        there = {str(path.relative_to(root)) for path in root.glob("*/*")}
        assert there == noted, f"registry and store differ: {there ^ noted}"
        left = [path for path in self.state.rglob(f"{TEMP_PREFIX}*") if "bases" not in path.parts]
        assert not left, f"temporary files: {left}"
        assert not [path for path in (self.state / "spool").rglob("*") if path.is_file()]
        states = Counter(row["state"] for row in self.rows("SELECT state FROM jobs"))
        assert set(states) <= {"done"}, states

    def check_answers(self) -> None:
        """With the daemon that runs: each champion of the ledger is what answers."""
        champions = """SELECT a.task, a.version, v.digest FROM aliases a JOIN versions v USING (task, version)
                       WHERE a.alias = 'champion'"""
        with self.client() as client:
            for row in self.rows(champions):
                asked = inference_pb2.ScoreRequest(
                    adapter=row["task"], input=inference_pb2.Input(prompt="good 1"), continuations=list(WORDS)
                )
                served = client.inference.Score(asked).served_by
                assert (served.version, served.digest) == (row["version"], row["digest"])

    def _places_of(self, sha256: str) -> list[Path]:
        """Where the bytes lie; or, of a drop whose file is not kept, its rows."""
        roots = (self.inbox, self.state / "spool", self.state / "data", self.state / "quarantine")
        return [path for root in roots for path in root.rglob("*rows-*.jsonl") if _sha256(path) == sha256]

    def _listen(self) -> None:
        assert self._zygote.stdout is not None
        for line in self._zygote.stdout:
            self._lines.put(int(line))


def content_of(first: int, rows: int = 24) -> bytes:
    """A file of rows that a number makes its own."""
    numbers = range(first, first + rows)
    lines = [json.dumps({"text": f"{WORDS[at % 2]} {at}", "label": WORDS[at % 2]}) for at in numbers]
    return ("\n".join(lines) + "\n").encode()


_known: dict[tuple[str, int, int], str] = {}


def _sha256(path: Path) -> str:
    """Of a file; a file that has not changed is not read again."""
    try:
        status = path.stat()
        key = (str(path), status.st_ino, status.st_mtime_ns)
        if key not in _known:
            _known[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""  # on its way from one place to the next
    return _known[key]


@contextmanager
def sandbox(folder: Path, root: Path | None = None) -> Iterator[Sandbox]:
    """A sandbox that is closed in the end, whose log is shown if something is wrong."""
    box = Sandbox(folder, root)
    try:
        yield box
    except BaseException:
        print(box.log.read_text("utf-8")[-6000:] if box.log.exists() else "no daemon wrote a log")
        raise
    finally:
        box.close()


def until(holds: Callable[[], bool], said: Callable[[], str] = str, seconds: float = PATIENCE_S) -> None:
    """Wait until something holds; `said` is asked why it does not."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, said()
        pause.wait(0.05)
