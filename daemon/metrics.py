"""What Prometheus asks for: counts from the ledger and the engine when it asks, and times as they pass.

The text format of https://prometheus.io/docs/instrumenting/exposition_formats/, over plain HTTP on a loopback address
alone: whoever wants it on a network puts a proxy before it. No name, text or id of a person's is in it, only tasks.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from .address import parse_address
from .errors import ConfigError

if TYPE_CHECKING:
    import grpc

    from .core import Core

_CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LOAD_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_EVENTS_AT_ONCE: Final = 1000


class Meter:
    """Takes down what happens while it happens; `registry` holds it with all else that is told."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self._calls = Histogram(
            "adapterd_call_seconds",
            "gRPC calls by method and status, from their first byte to their last",
            ["method", "code"],
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        self._loads = Histogram(
            "adapterd_load_seconds",
            "bringing a version into the engine: reading, checking, warming up",
            buckets=_LOAD_SECONDS,
            registry=self.registry,
        )
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def call(self, method: str, code: "grpc.StatusCode", seconds: float) -> None:
        """A call ended."""
        self._calls.labels(method.rpartition("/")[2], code.name).observe(seconds)

    def loaded(self, seconds: float) -> None:
        """A version was brought into the engine."""
        self._loads.observe(seconds)


class LedgerCollector(Collector):
    """Counts as they are when they are asked for. Events are counted from the daemon's start on."""

    def __init__(self, core: "Core", registry: CollectorRegistry) -> None:
        self._core = core
        self._seen = core.ledger.events.last_id()
        self._events: Counter[str] = Counter()
        registry.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry shall not ask the ledger for the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """One family after the other."""
        core = self._core
        info = GaugeMetricFamily("adapterd_base", "the base that is served", labels=["name", "fingerprint", "device"])
        info.add_metric([core.settings.base, core.base.fingerprint[:12], str(core.base.device)], 1)
        yield info
        engine, slots = core.engine.stats(), core.manager.usage()
        for name, what, value in (
            ("slots", "versions that can be resident at once", slots.slots),
            ("slots_used", "versions that are resident", slots.used),
            ("leases", "requests that use a version", slots.leases),
            ("requests_queued", "requests that wait for the engine", engine.queued),
            ("requests_running", "requests in the engine", engine.running),
            ("engine_up", "1 while the engine runs", float(not engine.error)),
            ("start_seconds", "when the daemon was put together, in unix seconds", core.started),
        ):
            yield GaugeMetricFamily(f"adapterd_{name}", what, value=value)
        yield CounterMetricFamily("adapterd_tokens", "tokens generated", value=engine.tokens)
        for name, what, table, columns in (
            ("drops", "drops by state", "drops", ("task", "state")),
            ("versions", "versions by state", "versions", ("task", "state")),
            ("verdicts", "versions by the gate's verdict, empty for imported ones", "versions", ("task", "verdict")),
            ("jobs", "trainings by state", "jobs", ("task", "state")),
        ):
            family = GaugeMetricFamily(f"adapterd_{name}", what, labels=columns)
            for values, count in core.ledger.counts(table, *columns).items():
                family.add_metric(values, count)
            yield family
        spent = CounterMetricFamily("adapterd_training_seconds", "time that trainings took", labels=["task"])
        for task, seconds in core.ledger.training_seconds().items():
            spent.add_metric([task], seconds)
        yield spent
        self._count_events()
        events = CounterMetricFamily("adapterd_events", "events by kind", labels=["kind"])
        for kind, count in self._events.items():
            events.add_metric([kind], count)
        yield events

    def _count_events(self) -> None:
        while rows := self._core.ledger.events.after(self._seen, limit=_EVENTS_AT_ONCE):
            self._events.update(row.kind for row in rows)
            self._seen = rows[-1].id


class MetricsServer:
    """`http://<address>/metrics` of `core`, from when it is made until `stop`.

    Raises `ConfigError` for an address that is no loopback one, or where nothing can listen.
    """

    def __init__(self, core: "Core", meter: Meter, address: str) -> None:
        bind = parse_address(address)
        if bind.path is not None:
            raise ConfigError(
                f"{address!r} is a socket, and metrics are asked for over HTTP",
                hint="set `metrics_address` to 127.0.0.1:9464, or leave it empty",
                address=address,
            )
        LedgerCollector(core, meter.registry)
        try:
            self._server, self._thread = start_http_server(bind.port, bind.host, meter.registry)
        except OSError as failure:
            raise ConfigError(
                f"cannot tell metrics at {bind}: {failure}", hint="is the port free?", address=address
            ) from failure

    @property
    def port(self) -> int:
        """Where it listens: the real port, where 0 was asked for."""
        return int(self._server.server_port)

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
