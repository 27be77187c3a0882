"""The serving benchmark on the tiny base: that it runs, and that it would notice what it looks for."""

import io
from pathlib import Path

import pytest
from adapterd.adapters.base import load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.errors import ServingError
from rich.console import Console

from benchmarks.report import Report
from benchmarks.serving import streams, swaps
from benchmarks.serving.crowd import in_memory, shapes_of
from benchmarks.serving.streams import Asked, Clients, answer, generate, running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few swaps instead of many."""
    for name, value in {"_SWAPS_BESIDE": 4, "_TURNS": 1, "_WARM": 2, "_PROMOTIONS": 2, "_MANY_CLIENTS": 4}.items():
        monkeypatch.setattr(swaps, name, value)
    monkeypatch.setattr(streams, "CORES", 1)


@pytest.mark.usefixtures("quick")
def test_swaps_fail_nobody_and_every_answer_is_that_of_its_version(tiny_base_folder: Path) -> None:
    report = Report("swaps")
    swaps.measure(tiny_base_folder, report, Console(file=io.StringIO()), swaps=5)
    found = {figure.key: figure.value for figure in report.figures}
    assert found["swap_many_answers"] > 0
    assert (found["swap_many_failed"], found["swap_many_foreign"], found["swap_many_leases"]) == (0, 0, 0)
    assert found["swap_many_differ"] == 0


@pytest.mark.usefixtures("quick")
def test_an_answer_of_another_version_would_be_noticed(tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[tuple[int, ...]] = []

    def wrong(engine: Engine, asked: Asked) -> tuple[int, ...]:
        tokens = answer(engine, asked)
        if asked.tokens != swaps._FEW_TOKENS:
            return tokens
        if len(alone) < 3:  # what each version says alone
            alone.append(tokens)
            return tokens
        return alone[(alone.index(tokens) + 1) % 3] if tokens in alone else tokens[:-1]

    monkeypatch.setattr(swaps, "answer", wrong)
    report = Report("swaps")
    swaps.measure(tiny_base_folder, report, Console(file=io.StringIO()), swaps=3)
    found = {figure.key: figure.value for figure in report.figures}
    assert found["swap_many_differ"] == found["swap_many_answers"] > 0
    assert found["swap_many_foreign"] > 0.9 * found["swap_many_answers"]
    assert not report.holds


@pytest.mark.usefixtures("quick")
def test_a_request_that_fails_is_counted(tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_before = 0

    def failing(engine: Engine, asked: Asked) -> tuple[int, ...]:
        nonlocal asked_before
        asked_before += asked.tokens == swaps._FEW_TOKENS
        if asked_before > 3 and asked.tokens == swaps._FEW_TOKENS:
            raise ServingError("the slot was emptied under it")
        return answer(engine, asked)

    monkeypatch.setattr(swaps, "answer", failing)
    report = Report("swaps")
    swaps.measure(tiny_base_folder, report, Console(file=io.StringIO()), swaps=3)
    assert {figure.key: figure.value for figure in report.figures}["swap_many_failed"] > 0
    assert not report.holds


def test_streams_of_different_adapters_get_their_tokens(tiny_base_folder: Path) -> None:
    base = load_base(tiny_base_folder, quantization="none", device="cpu")
    shapes = shapes_of(base.model)
    with running(base, 2) as engine:
        for slot in (1, 2):
            engine.install(slot, engine.prepare(in_memory(shapes, slot)))
        assert generate(engine, [Asked(slot, [1, 2, 3], 4) for slot in (0, 1, 2)]) > 0
        answers = {answer(engine, Asked(slot, [1, 2, 3], 8)) for slot in (0, 1, 2)}
    assert len(answers) == 3


def test_an_error_of_a_client_reaches_who_waits_for_them() -> None:
    def work(client: int) -> None:
        raise ValueError(f"client {client}")

    with pytest.raises(ValueError, match="client"), Clients(2, work):
        pass
