"""`adapterd serve`: puts the parts together, runs them, and takes them apart again.

Threads: the engine's (owns the model), the scanner's (inbox), the worker's (drops, the training process), gRPC's pool,
the schedule's. The main thread waits for signals and feeds systemd's watchdog.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from operator import attrgetter
from pathlib import Path

import grpc
import structlog
import torch

from ..adapters.base import ensure_base, load_base
from ..adapters.durable import make_folder
from ..adapters.engine import Engine
from ..adapters.errors import DiskFailure
from ..adapters.kernels import compile_ahead
from ..adapters.manager import Manager
from ..adapters.store import Store
from ..adapters.threads import in_passing
from . import notify
from .background import HEALTH_EVERY_S, Background
from .base_progress import base_progress
from .caller import caller
from .canary_watch import CanaryWatch
from .config import Settings, load_settings, max_file_bytes
from .core import Core
from .corrections import Corrections
from .dataset import Dataset
from .environment import share_arenas, usable_cores
from .errors import ConfigError, LedgerFailed
from .exchange import Exchange
from .forgetting import Forgetting
from .inbox import Inbox
from .ledger import LEDGER_NAME, Ledger
from .lifecycle import Lifecycle
from .log import configure, log_event
from .metrics import Meter, MetricsServer
from .problems import STALE_S
from .query_watch import QueryWatch
from .recent_answers import RecentAnswers
from .server import Server
from .signals import Signals
from .state_folder import own_state, sweep_state
from .worker import Worker

log = structlog.get_logger(__name__)


def run(settings: Settings, config: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. SIGHUP rereads `config` (or the file in force).

    Raises `AlreadyRunning` if another daemon owns the state folder, `ConfigError`, `BaseUnavailable`.
    """
    configure(settings.log_level, settings.log_format)
    share_arenas()
    with ExitStack() as cleanup:
        own_state(settings.state, cleanup)
        notify.status("loading the base")
        daemon = Daemon(settings, cleanup)
        signals = Signals()
        daemon.start()
        notify.ready(daemon.summary())
        if remote := daemon.remote_address:
            log.info("serving other machines", address=remote)
        log.info("serving", address=settings.bind, inbox=str(settings.inbox_dir), state=str(settings.state))
        while not signals.stop:
            signals.wait(daemon.watchdog_s)
            if signals.reload:
                signals.reload = False
                daemon.reload(config)
            if daemon.lost:
                break
            if daemon.healthy(time.time()):
                notify.alive()
        log.info("stopping", because=daemon.lost or signals.stop)
        notify.stopping("draining")
        daemon.stop()
        return 1 if daemon.lost else 0


class Daemon:
    """Everything that runs, in the order in which it depends on each other."""

    def __init__(self, settings: Settings, cleanup: ExitStack) -> None:
        self._settings = self._reread = settings
        self._meter = Meter()
        self.lost = ""  # why the daemon must not go on
        state, serving = settings.state, settings.serving
        self._cores = serving.threads or usable_cores()
        torch.set_num_threads(self._cores)
        for name in ("bases", "adapters", "data", "quarantine", "jobs", "spool"):
            make_folder(state / name, 0o750)
        make_folder(settings.inbox_dir, 0o770)
        self.ledger = Ledger(state / LEDGER_NAME, tell=log_event)
        cleanup.callback(self.ledger.close)
        with base_progress() as progress:
            folder = ensure_base(state / "bases", settings.base, settings.base_revision, progress)
        with ThreadPoolExecutor(1, thread_name_prefix="adapterd-compile") as aside:
            aside.submit(compile_ahead, serving.device)  # takes as long; what fails there fails again below
            base = in_passing(lambda: load_base(folder, quantization=settings.quantization, device=serving.device))
        log.info("base loaded", base=folder.name, fingerprint=base.fingerprint[:12], device=str(base.device))
        store = Store(state / "adapters")
        engine = in_passing(
            lambda: Engine(
                base,
                slots=serving.slots,
                max_rank=serving.max_rank,
                max_batch=serving.max_batch,
                max_queue=serving.max_queue,
                max_context=serving.max_context,
                drafts=serving.drafts,
                prefix_bytes=serving.prefix_cache_mb << 20,
            )
        )
        manager = Manager(
            engine,
            store,
            fingerprint=base.fingerprint,
            slots=serving.slots,
            drain_timeout_s=serving.drain_timeout_s,
            host_bytes=serving.host_cache_mb << 20,
            on_event=self._on_serving_event,
            on_loaded=self._meter.loaded,
        )
        lifecycle = Lifecycle(self.ledger, store, manager)
        exchange = Exchange(self.ledger, store, lifecycle, base, engine.shapes, signers=settings.access.signers)
        canaries = CanaryWatch(settings, self.ledger, manager, lifecycle)
        corrections = Corrections(settings, self.ledger, store)
        dataset = Dataset.below(state)
        queries = QueryWatch(settings, self.ledger, store, dataset, base)
        worker = Worker(settings, self.ledger, dataset, store, lifecycle, base)
        inbox = Inbox(
            settings.inbox_dir,
            state / "spool",
            self.ledger,
            settle_s=settings.settle_s,
            max_bytes=lambda task: max_file_bytes(self._reread, task),
        )
        self.core = Core(
            settings,
            base,
            engine,
            manager,
            store,
            self.ledger,
            lifecycle,
            exchange,
            canaries,
            RecentAnswers(),
            queries,
            corrections,
            worker,
            Forgetting(self.ledger, dataset, lifecycle, worker, corrections),
            inbox,
            time.time(),
        )
        self._server = Server(self.core, observe=self._on_call)
        address = settings.metrics_address
        self._metrics = MetricsServer(self.core, self._meter, address) if address else None
        if self._metrics is not None:
            log.info("metrics", port=self._metrics.port)
        self._background = Background(
            settings, self.core, refresh_health=self._server.refresh_health, on_error=self._on_error
        )
        self.watchdog_s = notify.watchdog_interval() or HEALTH_EVERY_S

    def start(self) -> None:
        """Recover what an earlier run left, then open for business: serving first, learning after."""
        core = self.core
        sweep_state(self._settings.state)
        core.lifecycle.sweep()
        core.worker.recover()
        core.inbox.recover(time.time())
        core.lifecycle.sync()
        core.engine.start(cores=self._cores)
        self._background.settle(time.time())
        self._server.start()
        self._background.start(time.time())
        self.ledger.events.emit("daemon.started", f"serving at {self._settings.bind}", details={"pid": os.getpid()})

    def stop(self) -> None:
        """Drain and end: no new call, no new step; running answers get `drain_timeout_s`."""
        self.ledger.events.emit("daemon.stopping", "draining")
        self._background.stop()
        if self._metrics is not None:
            self._metrics.stop()
        self._server.stop(self._settings.serving.drain_timeout_s)
        self.core.engine.stop(self._settings.serving.drain_timeout_s)

    def reload(self, config: Path | None) -> None:
        """Reread the settings; a file that is wrong is told of and changes nothing."""
        notify.reloading("rereading the configuration")
        try:
            fresh = load_settings(config)
            self._server.use(fresh.access)
        except ConfigError as error:
            log.warning("configuration not reread", error=error.message, hint=error.hint)
            self.ledger.events.emit("daemon.reload-failed", f"{error.message} ({error.hint})")
        else:
            lasting = [name for name in _NEED_RESTART if attrgetter(name)(fresh) != attrgetter(name)(self._settings)]
            if lasting:
                log.warning("these settings change at the next start only", settings=lasting)
            self._reread = fresh
            configure(fresh.log_level, fresh.log_format)
            self._background.use(fresh)
            self.core.worker.use(fresh)
            self.core.canaries.use(fresh)
            self.core.corrections.use(fresh)
            self.core.queries.use(fresh)
            self.ledger.events.emit(
                "daemon.reloaded", "the configuration was reread", details={"at the next start": lasting}
            )
        notify.ready(self.summary())

    def healthy(self, now: float) -> bool:
        """Whether every loop is alive and has moved lately, the engine's too: else the watchdog is not fed."""
        engine = self.core.engine.stats()
        stepping = not engine.error and time.monotonic() - engine.heartbeat < STALE_S
        return stepping and self._background.moving(now)

    @property
    def remote_address(self) -> str:
        """Where other machines reach it; empty: nowhere."""
        return self._server.remote_address

    def summary(self) -> str:
        """One line for `systemctl status`."""
        tasks = len(self.ledger.tasks.names())
        return f"serving {tasks} task{'s' * (tasks != 1)} at {self._settings.bind}"

    def _on_call(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended."""
        self._meter.call(method, code, seconds)
        log.debug("call ended", code=code.name, seconds=round(seconds, 3), caller=caller())

    def _on_serving_event(self, kind: str, message: str, task: str, version: int) -> None:
        self.ledger.events.emit(kind, message, task=task, version=version)

    def _on_error(self, name: str, error: Exception) -> None:
        if isinstance(error, DiskFailure):
            # What the disk has acknowledged cannot be trusted any more; only a fresh start reads what is really there.
            self.lost = error.message
            return
        # Where the disk is full the ledger takes no event either; the log has the trace already.
        with suppress(LedgerFailed):
            self.ledger.events.emit(f"{name}.error", f"{type(error).__name__}: {error}; it is tried again")


# Settings that parts were built with; all others are taken over at SIGHUP.
_NEED_RESTART = (
    "state",
    "inbox",
    "address",
    "metrics_address",
    "base",
    "base_revision",
    "quantization",
    "serving",
    "settle_s",
    "rescan_s",
    "retention.every_s",
    "access.address",
    "access.client_ca",
    "access.signers",
)
