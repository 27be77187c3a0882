"""Recorded steps give what plain ones give, and end when what they were recorded with is gone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from adapterd.adapters import lora, recording, runner
from adapterd.adapters.base import Base
from adapterd.adapters.engine import Engine
from adapterd.adapters.requests import Generation, Ticket
from adapterd.adapters.store import AdapterWeights

MakeAdapter = Callable[..., AdapterWeights]


class Tape:
    """Stands in for CUDA graphs: what is recorded is computed again, on the same tensors."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, compute: Callable[[], object]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            compute()

        return replay


@pytest.fixture(autouse=True)
def plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where steps are recorded: no layer is packed there."""
    monkeypatch.setattr(lora, "pack", lambda _layers: None)


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch, device: str) -> Tape:
    if device == "cuda":
        pytest.skip("all tests of the engine record there")
    tape = Tape()
    monkeypatch.setattr(runner, "recorder", lambda _device: tape.record)
    return tape


@pytest.fixture
def make_engine(tiny_base: Base) -> Iterator[Callable[[], Engine]]:
    made: list[Engine] = []

    def make() -> Engine:
        for engine in made:
            engine.stop()
        made.append(Engine(tiny_base, slots=4, max_rank=8, max_batch=8, max_queue=64, max_context=512, drafts=False))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


def ask(engine: Engine, slot: int, tokens: int = 24, **sampling: Any) -> Ticket:
    prompt = [5 + slot, 9, 40 + 3 * slot, 8][: 2 + slot % 3]
    return engine.submit(Generation(f"r{slot}", slot, prompt, tokens, **sampling))


def run(engine: Engine) -> None:
    assert any(not engine.step() for _ in range(10_000))


def answers(engine: Engine, adapters: list[AdapterWeights]) -> list[list[int]]:
    """Requests that come one by one while others run, some alone with their adapter, some beside the base."""
    for slot, adapter in enumerate(adapters, 1):
        engine.install(slot, engine.prepare(adapter))
    tickets = []
    for slot in (1, 1, 0, 2, 3, 2):
        tickets.append(ask(engine, slot, 30 + 3 * slot, seed=slot, temperature=0.7 if slot == 3 else 0.0))
        for _ in range(6):
            engine.step()
    run(engine)
    return [list(ticket) for ticket in tickets]


def test_recorded_steps_answer_as_plain_ones_do(
    make_engine: Callable[[], Engine], make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    adapters = [make_adapter(seed=seed) for seed in range(3)]
    with monkeypatch.context() as without:
        without.setattr(runner, "recorder", lambda _device: None)
        plainly = answers(make_engine(), adapters)
    tape = Tape()
    if device == "cpu":
        monkeypatch.setattr(runner, "recorder", lambda _device: tape.record)
    assert answers(make_engine(), adapters) == plainly
    if device == "cpu":
        assert tape.recorded >= 4  # alone, two of one adapter, beside the base, and more adapters
        assert tape.replayed > 30


def test_a_slot_that_changes_hands_is_recorded_anew(
    tape: Tape, make_engine: Callable[[], Engine], make_adapter: MakeAdapter
) -> None:
    engine = make_engine()
    found = []
    for seed in (1, 2):
        engine.install(1, engine.prepare(make_adapter(seed=seed)))
        before = tape.recorded
        tickets = [ask(engine, 1) for _ in range(2)]
        run(engine)
        found.append(list(tickets[0]))
        assert list(tickets[1]) == found[-1]
        assert tape.recorded == before + 1
    assert found[0] != found[1]


def test_a_cache_that_grows_is_recorded_anew_and_the_same_mix_is_not(
    tape: Tape, make_engine: Callable[[], Engine]
) -> None:
    engine = make_engine()
    once = tape.recorded
    short = ask(engine, 0, 100)
    run(engine)
    assert tape.recorded == once + 1
    long = ask(engine, 0, 300)  # 128, 256 and 384 columns
    run(engine)
    assert tape.recorded == once + 4
    assert list(long)[:100] == list(short)


def test_no_more_are_kept_than_fit(
    tape: Tape, make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST", 2)
    engine = make_engine()
    tickets = [ask(engine, 0, tokens) for tokens in (40, 30, 20, 10)]  # four run, three, two, one
    run(engine)
    assert tape.recorded > 3
    recordings = engine._runner._recordings
    assert recordings is not None
    assert 1 <= len(recordings) <= 2
    assert list(tickets[3]) == list(tickets[0])[:10]


def test_a_base_that_cannot_be_recorded_is_served_without(
    make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def record(_compute: Callable[[], object]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(runner, "recorder", lambda _device: record)
    engine = make_engine()
    ticket = ask(engine, 0)
    run(engine)
    assert len(list(ticket)) == 24
    assert "cannot be recorded" in caplog.text


def test_a_base_whose_recorded_steps_give_something_else_is_served_without(
    make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def record(compute: Callable[[], object]) -> Callable[[], None]:
        compute()
        return lambda: None  # the same again, whatever was put in

    monkeypatch.setattr(runner, "recorder", lambda _device: record)
    ticket = ask(engine := make_engine(), 0)
    run(engine)
    assert len(list(ticket)) == 24
    assert "not what is computed" in caplog.text


def test_a_recording_that_fails_later_leaves_the_requests_running(
    tape: Tape, make_engine: Callable[[], Engine], make_adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    engine.install(1, engine.prepare(make_adapter(seed=1)))
    expected = ask(engine, 1)
    run(engine)
    assert engine._runner._recordings is not None

    def record(_compute: Callable[[], object]) -> Callable[[], None]:
        raise RuntimeError("out of memory")

    engine._runner._recordings._record = record
    tickets = [ask(engine, 1), ask(engine, 0)]
    run(engine)
    assert list(tickets[0]) == list(expected)
    assert "out of memory" in caplog.text
