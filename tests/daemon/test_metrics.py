"""Prometheus gets what there is: counts of the ledger, the engine's state, calls by status; on loopback alone."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from adapterd.adapters.base import Base
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import ConfigError, DaemonError
from adapterd.daemon.metrics import Meter, MetricsServer
from adapterd.daemon.server import Server
from adapterd.daemon.states import DropState
from adapterd.v1 import inference_pb2, learning_pb2
from prometheus_client.parser import text_string_to_metric_families

from .real_core import publish, real_core

ROOT = Path(__file__).parents[2]
Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base) as core:
        yield core


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def metrics(core: Core, meter: Meter) -> Iterator[MetricsServer]:
    server = MetricsServer(core, meter, "127.0.0.1:0")
    yield server
    server.stop()


def scrape(server: MetricsServer) -> Found:
    """Every sample by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_ledgers_counts_and_the_engines_state_are_told(core: Core, metrics: MetricsServer) -> None:
    publish(core, "mail", 1)
    first, _ = core.ledger.drops.claim("mail", "a.jsonl", "1" * 64, 10, "/a")
    core.ledger.drops.claim("mail", "b.jsonl", "2" * 64, 10, "/b")
    core.ledger.drops.move(first.id, DropState.QUARANTINED, reason="no rows")
    found = scrape(metrics)
    assert found["adapterd_drops", (("state", "quarantined"), ("task", "mail"))] == 1
    assert found["adapterd_drops", (("state", "claimed"), ("task", "mail"))] == 1
    assert found["adapterd_versions", (("state", "available"), ("task", "mail"))] == 1
    assert found["adapterd_engine_up", ()] == 1
    assert found["adapterd_slots", ()] == 6
    assert found["adapterd_leases", ()] == 0
    assert ("process_resident_memory_bytes", ()) in found


def test_trainings_that_are_over_add_up_by_task(core: Core, metrics: MetricsServer) -> None:
    clock = core.ledger.jobs._clock
    drop, _ = core.ledger.drops.claim("mail", "a.jsonl", "1" * 64, 10, "/a")
    job = core.ledger.jobs.queue("mail", drop.id)
    database = core.ledger._database
    with database.transaction() as db:
        db.table("jobs").update(job.id, {"started": clock() - 90.0, "ended": clock() - 30.0, "state": "done"})
    assert scrape(metrics)["adapterd_training_seconds_total", (("task", "mail"),)] == pytest.approx(60.0)


def test_events_are_counted_from_the_start_on(core: Core, meter: Meter) -> None:
    core.ledger.events.emit("drift.input", "before")
    server = MetricsServer(core, meter, "127.0.0.1:0")
    try:
        for _ in range(3):
            core.ledger.events.emit("drift.input", "moved")
        key = ("adapterd_events_total", (("kind", "drift.input"),))
        assert scrape(server)[key] == 3
        core.ledger.events.emit("drift.input", "moved")
        assert scrape(server)[key] == 4
    finally:
        server.stop()


def test_calls_are_timed_by_method_and_status(core: Core, meter: Meter, metrics: MetricsServer) -> None:
    server = Server(core, observe=meter.call)
    server.start()
    asked = inference_pb2.GenerateRequest(
        adapter="base",
        input=inference_pb2.Input(prompt="Hello"),
        sampling=inference_pb2.Sampling(max_tokens=2),
    )
    try:
        with Client(server.address) as client:
            client.learning.GetStatus(learning_pb2.GetStatusRequest())
            list(client.inference.Generate(asked))
            asked.adapter = "nobody"
            with pytest.raises(DaemonError):
                list(client.inference.Generate(asked))
    finally:
        server.stop(5.0)
    found = scrape(metrics)
    for method, code in (("GetStatus", "OK"), ("Generate", "OK"), ("Generate", "NOT_FOUND")):
        assert found["adapterd_call_seconds_count", (("code", code), ("method", method))] == 1
    assert found["adapterd_tokens_total", ()] == 2


def test_a_loaded_version_is_timed(meter: Meter, metrics: MetricsServer) -> None:
    meter.loaded(0.2)
    assert scrape(metrics)["adapterd_load_seconds_count", ()] == 1


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "192.0.2.1:9464", "unix:/tmp/metrics.sock", "9464"])
def test_metrics_are_told_on_loopback_alone(core: Core, meter: Meter, address: str) -> None:
    with pytest.raises(ConfigError):
        MetricsServer(core, meter, address)


def test_a_port_that_is_taken_is_told_of(core: Core, metrics: MetricsServer) -> None:
    with pytest.raises(ConfigError, match="cannot tell metrics"):
        MetricsServer(core, Meter(), f"127.0.0.1:{metrics.port}")


def test_docs_and_dashboard_name_the_metrics_that_there_are(core: Core, meter: Meter, metrics: MetricsServer) -> None:
    meter.call("/adapterd.v1.AdapterService/Promote", grpc.StatusCode.OK, 0.1)
    core.ledger.events.emit("drift.input", "moved")
    publish(core, "mail", 1)
    drop, _ = core.ledger.drops.claim("mail", "a.jsonl", "1" * 64, 10, "/a")
    core.ledger.jobs.queue("mail", drop.id)
    told = {name for name, _ in scrape(metrics)} | {"adapterd_training_seconds_total"}
    told = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in told if name.startswith("adapterd_")}
    documented = set(re.findall(r"`(adapterd_[a-z_]+)`", (ROOT / "docs" / "operations.md").read_text("utf-8")))
    assert documented == told
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    shown = re.findall(r"adapterd_[a-z_]+", json.dumps([panel["targets"] for panel in dashboard["panels"]]))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} <= told
