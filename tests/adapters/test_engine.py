"""The engine answers every request as if it were alone with its adapter, whatever else is in the batch."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters import stepper
from adapterd.adapters.base import Base, load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.errors import (
    BadRequest,
    BaseUnavailable,
    CorruptVersion,
    EngineStopped,
    QueueFull,
    ServingError,
    StillLeased,
    VersionNotServable,
)
from adapterd.adapters.packed_decoder import PackedDecoder
from adapterd.adapters.requests import Generation, Scoring, Ticket
from adapterd.adapters.store import AdapterWeights

MakeAdapter = Callable[..., AdapterWeights]
MakeEngine = Callable[..., Engine]

CONTEXT = 96


@pytest.fixture
def make_engine(tiny_base: Base) -> Iterator[MakeEngine]:
    """An engine without a thread: the test takes its steps."""
    made: list[Engine] = []

    def make(**settings: Any) -> Engine:
        defaults: dict[str, Any] = {"slots": 4, "max_rank": 8, "max_batch": 8, "max_queue": 64, "max_context": CONTEXT}
        made.append(Engine(tiny_base, **(defaults | settings)))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


@pytest.fixture(params=["packed", "transformers"])
def each_forward(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own forward, and that of transformers, through which bases go that it does not know."""
    if request.param == "transformers":
        use_transformers_forward(monkeypatch)


def use_transformers_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedDecoder, "of", lambda _decoder: None)


def run(engine: Engine, most: int = 10_000) -> None:
    """Step until nothing is left to do."""
    assert any(not engine.step() for _ in range(most))


def prompts(count: int, seed: int, shortest: int = 1, longest: int = 40) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(3, 259) for _ in range(rng.randint(shortest, longest))] for _ in range(count)]


def generation(name: str, prompt: list[int], slot: int = 0, max_tokens: int = 12, **sampling: Any) -> Generation:
    return Generation(name, slot, prompt, max_tokens, **sampling)


def alone(model: Any, prompt: list[int], max_tokens: int) -> list[int]:
    """What transformers' own `generate` says, greedily and without an end token."""
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt], device=model.device),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64, device=model.device),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer


def plain_score(model: Any, prompt: list[int], continuation: list[int]) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + continuation], device=model.device)).logits[0].float().cpu()
    return float(logits.log_softmax(-1)[len(prompt) - 1 : -1][range(len(continuation)), continuation].double().sum())


@pytest.mark.usefixtures("each_forward")
def test_mixed_adapters_in_one_batch_answer_as_peft_does_for_each(
    make_engine: MakeEngine, make_adapter: MakeAdapter, peft_model: Any, reference: Any
) -> None:
    engine = make_engine()
    adapters = {slot: make_adapter(slot, rank=2 * slot) for slot in (1, 2, 3, 4)}
    for slot, weights in adapters.items():
        engine.install(slot, engine.prepare(weights))
    texts = prompts(10, seed=1)
    tickets = [engine.submit(generation(f"r{i}", text, slot=i % 5)) for i, text in enumerate(texts)]
    run(engine)
    for slot in range(5):
        model = peft_model(adapters[slot]) if slot else reference
        for i in range(slot, 10, 5):
            assert list(tickets[i]) == alone(model, texts[i], 12), f"request {i} in slot {slot}"
            assert tickets[i].finish == "length"
        if slot:
            model.unload()


@pytest.mark.usefixtures("each_forward")
@pytest.mark.parametrize("budget", [128, 5])
def test_requests_that_join_and_leave_midway_change_nobody_elses_answer(
    make_engine: MakeEngine, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, budget: int, device: str
) -> None:
    monkeypatch.setitem(stepper.BUSY_TOKENS, device, budget)
    rng = random.Random(2)
    texts, continuations = prompts(18, seed=3), prompts(6, seed=4, longest=4)
    lengths = [rng.randint(1, 25) for _ in texts]
    weights = {slot: make_adapter(slot) for slot in (1, 2)}

    def answers(together: bool) -> list[list[int] | list[float]]:
        engine = make_engine(max_batch=5)
        for slot, adapter in weights.items():
            engine.install(slot, engine.prepare(adapter))
        tickets: list[Ticket] = []
        cancelled: list[Ticket] = []
        for i, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            name, slot = f"r{i}", i % 3
            scoring = Scoring(name, slot, text, continuations)
            tickets.append(engine.submit(scoring if i % 4 == 3 else generation(name, text, slot, max_tokens=length)))
            if together and i % 3 == 1:
                cancelled.append(engine.submit(generation(f"c{i}", text, slot, max_tokens=60)))
            for _ in range(rng.randint(0, 3) if together else 10_000):
                if not engine.step():
                    break
            if cancelled and rng.random() < 0.5:
                cancelled.pop().cancel()
        for ticket in cancelled:
            ticket.cancel()
        run(engine)
        engine.stop()
        return [ticket.result() if i % 4 == 3 else list(ticket) for i, ticket in enumerate(tickets)]

    for one, other in zip(answers(together=True), answers(together=False), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.usefixtures("each_forward")
def test_a_long_prompt_is_read_in_pieces_while_others_stream(
    make_engine: MakeEngine, reference: Any, monkeypatch: Any, device: str
) -> None:
    monkeypatch.setitem(stepper.BUSY_TOKENS, device, 8)
    engine = make_engine()
    short, long = [10, 20, 30], prompts(1, seed=4, shortest=60, longest=60)[0]
    streaming = engine.submit(generation("short", short, max_tokens=20))
    engine.step()
    reading = engine.submit(generation("long", long, max_tokens=5))
    came = 0
    while reading.next_token(0) is None:
        assert engine.step()
        came += streaming.next_token(0) is not None
    assert came >= 60 // 8  # a token of the stream for each piece of the prompt
    run(engine)
    assert [alone(reference, long, 5)[0], *reading] == alone(reference, long, 5)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_answers_as_it_does_without_the_engine(
    tiny_base_folder: Path, make_adapter: MakeAdapter, quantization: str, device: str
) -> None:
    base = load_base(tiny_base_folder, quantization=quantization, device=device)
    texts = prompts(4, seed=12)
    expected = [alone(base.model, text, 12) for text in texts]
    engine = Engine(base, slots=1, max_rank=8, max_batch=8, max_queue=8, max_context=CONTEXT)
    engine.install(1, engine.prepare(make_adapter(1)))
    tickets = [engine.submit(generation(f"r{i}", text)) for i, text in enumerate(texts)]
    other = engine.submit(generation("o", texts[0], slot=1))
    run(engine)
    assert [list(ticket) for ticket in tickets] == expected
    assert list(other) != expected[0]


@pytest.mark.usefixtures("each_forward")
def test_scores_equal_plain_forwards_with_each_rows_adapter(
    make_engine: MakeEngine, make_adapter: MakeAdapter, peft_model: Any, reference: Any
) -> None:
    engine = make_engine()
    adapters = {1: make_adapter(1, rank=8), 2: make_adapter(2)}
    for slot, weights in adapters.items():
        engine.install(slot, engine.prepare(weights))
    items = [(text, prompts(4, seed=50 + i, longest=5)) for i, text in enumerate(prompts(6, seed=5))]
    tickets = [engine.submit(Scoring(f"s{i}", i % 3, *item)) for i, item in enumerate(items)]
    stream = engine.submit(generation("g", [40, 50], slot=2))
    run(engine)
    for slot in (0, 1, 2):
        model = peft_model(adapters[slot]) if slot else reference
        for i in range(slot, 6, 3):
            expected = [plain_score(model, items[i][0], continuation) for continuation in items[i][1]]
            assert tickets[i].result() == pytest.approx(expected, abs=1e-4)
        if slot == 2:
            assert list(stream) == alone(model, [40, 50], 12)
        if slot:
            model.unload()


def test_in_bfloat16_scores_are_near_those_in_float32(
    tiny_base_folder: Path,
    make_adapter: MakeAdapter,
    peft_model: Any,
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
) -> None:
    """Within 5 % of each continuation's log-likelihood; bfloat16 has eight bits for a figure."""
    monkeypatch.setattr("adapterd.adapters.base.compute_dtype", lambda *_: torch.bfloat16)
    base = load_base(tiny_base_folder, quantization="none", device=device)
    engine = Engine(base, slots=2, max_rank=8, max_batch=8, max_queue=8, max_context=CONTEXT)
    adapters = {slot: make_adapter(slot, strength=0.5) for slot in (1, 2)}
    for slot, weights in adapters.items():
        engine.install(slot, engine.prepare(weights))
    items = [(text, prompts(3, seed=50 + i, longest=5)) for i, text in enumerate(prompts(6, seed=5))]
    tickets = [engine.submit(Scoring(f"s{i}", i % 3, *item)) for i, item in enumerate(items)]
    run(engine)
    for i, (prompt, continuations) in enumerate(items):
        model = peft_model(adapters[i % 3]) if i % 3 else reference
        expected = [plain_score(model, prompt, continuation) for continuation in continuations]
        assert tickets[i].result() == pytest.approx(expected, rel=0.05)
        if i % 3:
            model.unload()


@pytest.mark.parametrize("budget", [2, 7, 19])
def test_a_scoring_larger_than_a_step_is_done_in_several(
    make_engine: MakeEngine, reference: Any, monkeypatch: Any, budget: int, device: str
) -> None:
    monkeypatch.setitem(stepper.IDLE_TOKENS, device, budget)
    engine = make_engine()
    prompt, continuations = prompts(1, seed=6, shortest=30)[0], prompts(9, seed=7, longest=9)
    ticket = engine.submit(Scoring("s", 0, prompt, continuations))
    run(engine)
    expected = [plain_score(reference, prompt, continuation) for continuation in continuations]
    assert ticket.result() == pytest.approx(expected, abs=1e-4)


def test_sampling_depends_on_the_seed_and_not_on_the_company(make_engine: MakeEngine) -> None:
    engine = make_engine()
    wanted = generation("w", [9, 8, 7], temperature=1.0, top_p=0.9, seed=11)
    quiet = engine.submit(wanted)
    run(engine)
    for i, text in enumerate(prompts(5, seed=8)):
        engine.submit(generation(f"r{i}", text, temperature=1.5, seed=i))
    crowded = engine.submit(wanted)
    other = engine.submit(generation("o", [9, 8, 7], temperature=1.0, top_p=0.9, seed=12))
    run(engine)
    answer = list(quiet)
    assert list(crowded) == answer
    assert list(other) != answer


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(make_engine: MakeEngine, reference: Any) -> None:
    engine = make_engine()
    expected = alone(reference, [5, 6, 7], 12)
    stop = expected[5]
    ticket = engine.submit(generation("s", [5, 6, 7], stop_ids=frozenset({stop})))
    run(engine)
    assert list(ticket) == expected[: expected.index(stop)]
    assert ticket.finish == "stop"


def test_an_answer_ends_where_the_context_does(make_engine: MakeEngine) -> None:
    engine = make_engine()
    ticket = engine.submit(generation("l", [3] * (CONTEXT - 4), max_tokens=50))
    run(engine)
    assert len(list(ticket)) == 4
    assert ticket.finish == "length"


def test_a_cancelled_request_gives_up_its_row_and_the_others_go_on(make_engine: MakeEngine, reference: Any) -> None:
    engine = make_engine(max_batch=2)
    first = engine.submit(generation("a", [5, 6], max_tokens=60))
    second = engine.submit(generation("b", [7, 8, 9], max_tokens=20))
    third = engine.submit(generation("c", [10], max_tokens=5))
    for _ in range(4):
        engine.step()
    assert (engine.stats().running, engine.stats().queued) == (2, 1)
    first.cancel()
    engine.step()
    assert (engine.stats().running, engine.stats().queued) == (2, 0)
    run(engine)
    assert list(second) == alone(reference, [7, 8, 9], 20)
    assert list(third) == alone(reference, [10], 5)
    assert first.finish == "cancelled"


def test_a_request_cancelled_in_the_queue_is_never_run(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch=1)
    running = engine.submit(generation("a", [5], max_tokens=3))
    waiting = engine.submit(generation("b", [6], max_tokens=3))
    waiting.cancel()
    run(engine)
    assert len(list(running)) == 3
    assert list(waiting) == []
    with pytest.raises(ServingError, match="cancelled"):
        waiting.result()


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.4, "top_k": 3}])
def test_guessing_what_comes_next_saves_steps_and_changes_no_answer(
    make_engine: MakeEngine, make_adapter: MakeAdapter, sampling: dict[str, Any]
) -> None:
    texts = [[7, 8, 9, 7, 8, 9, 7, 8], [40] * 9, *prompts(3, seed=11)]

    def answers(drafts: bool) -> tuple[list[list[int]], int]:
        engine = make_engine(drafts=drafts)
        engine.install(1, engine.prepare(make_adapter(1)))
        tickets, steps = [], 0
        for i, text in enumerate(texts):
            tickets.append(engine.submit(generation(f"r{i}", text, slot=i % 2, max_tokens=40, seed=i, **sampling)))
            while i != 2 and engine.step():  # the third and the fourth run together
                steps += 1
        assert all(ticket.finish == "length" for ticket in tickets)
        engine.stop()
        return [list(ticket) for ticket in tickets], steps

    plainly, steps = answers(drafts=False)
    guessing, fewer = answers(drafts=True)
    assert guessing == plainly
    assert fewer < steps


@pytest.mark.parametrize("most", range(1, 10))
def test_a_guess_never_carries_an_answer_past_its_end(make_engine: MakeEngine, reference: Any, most: int) -> None:
    engine = make_engine()
    text = [5, 6] * 10
    expected = alone(reference, text, 9)
    ticket = engine.submit(generation("m", text, max_tokens=most))
    last = expected[most - 1]
    stopped = engine.submit(generation("s", text, max_tokens=9, stop_ids=frozenset({last})))
    run(engine)
    assert list(ticket) == expected[:most]
    assert list(stopped) == expected[: expected.index(last)]
    full = engine.submit(generation("f", [5, 6] * ((CONTEXT - most) // 2), max_tokens=50))
    run(engine)
    assert len(list(full)) == CONTEXT - (CONTEXT - most) // 2 * 2


def test_beginnings_that_prompts_share_are_read_once_and_change_no_answer(
    make_engine: MakeEngine, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(12)
    begins = prompts(2, seed=13, shortest=30, longest=40)
    texts = [begins[rng.randrange(2)][: rng.randint(20, 40)] + tail for tail in prompts(16, seed=14, longest=8)]
    continuations = prompts(4, seed=15, longest=4)

    def answers(prefix_bytes: int) -> tuple[list[list[int] | list[float]], int]:
        engine = make_engine(prefix_bytes=prefix_bytes)
        for slot in (1, 2):
            engine.install(slot, engine.prepare(make_adapter(slot)))
        read = 0
        run_forward = engine._runner.run

        def counted(batch: Any, pieces: Any, drafts: Any) -> Any:
            nonlocal read
            read += sum(piece.read for _, piece in pieces)
            return run_forward(batch, pieces, drafts)

        monkeypatch.setattr(engine._runner, "run", counted)
        found: list[list[int] | list[float]] = []
        for at in range(0, 16, 4):
            tickets = []
            for i, text in enumerate(texts[at : at + 4], at):
                scoring = Scoring(f"r{i}", i % 3, text, continuations)
                tickets.append(engine.submit(scoring if i % 4 == 3 else generation(f"r{i}", text, slot=i % 3)))
            run(engine)
            found += [ticket.result() if i % 4 == 3 else list(ticket) for i, ticket in enumerate(tickets, at)]
        engine.stop()
        return found, read

    (plainly, all_tokens), (reusing, fewer) = answers(0), answers(1 << 20)
    for one, other in zip(plainly, reusing, strict=True):
        assert other == (one if isinstance(one[0], int) else pytest.approx(one, abs=1e-4))
    assert fewer < 0.9 * all_tokens


def test_a_beginning_is_forgotten_when_its_slot_changes(make_engine: MakeEngine, make_adapter: MakeAdapter) -> None:
    engine = make_engine()
    text = prompts(1, seed=16, shortest=40)[0]
    engine.install(1, engine.prepare(make_adapter(1)))
    for i in range(3):
        engine.submit(generation(f"a{i}", text, slot=1))
        run(engine)
    assert engine._stepper.prefixes.bytes > 0
    engine.install(1, engine.prepare(make_adapter(2)))
    assert engine._stepper.prefixes.bytes == 0
    again = engine.submit(generation("b", text, slot=1))
    run(engine)
    engine.stop()
    other = make_engine(prefix_bytes=0)
    other.install(1, other.prepare(make_adapter(2)))
    expected = other.submit(generation("b", text, slot=1))
    run(other)
    assert list(again) == list(expected)


def test_an_idle_engine_holds_no_cache(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(generation("a", [5, 6, 7]))
    engine.step()
    assert engine._stepper.batch.cache.bytes > 0
    run(engine)
    assert engine._stepper.batch.cache.bytes == 0
    assert engine.stats().tokens == 12


def test_the_queue_has_an_end_and_says_when_to_come_back(make_engine: MakeEngine) -> None:
    engine = make_engine(max_queue=2)
    for name in "ab":
        engine.submit(generation(name, [5]))
    with pytest.raises(QueueFull) as error:
        engine.submit(generation("c", [5]))
    assert int(error.value.details["retry_after_s"]) >= 1
    engine.submit(generation("u", [5]), urgent=True)
    run(engine)
    engine.submit(generation("d", [5]))


def test_an_urgent_request_goes_before_those_that_wait(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch=1)
    patient = engine.submit(generation("p", [5], max_tokens=1))
    urgent = engine.submit(generation("u", [6], max_tokens=1), urgent=True)
    engine.step()
    assert (urgent.finish, patient.finish) == ("length", None)


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("prompt", generation("r", [])),
        ("prompt", generation("r", [5] * CONTEXT)),
        ("prompt", generation("r", [5, 259])),
        ("prompt", generation("r", [-1])),
        ("prompt", Scoring("r", 0, [5] * CONTEXT, [[1]])),
        ("continuations", Scoring("r", 0, [5], [])),
        ("continuations", Scoring("r", 0, [5], [[1], []])),
        ("continuations", Scoring("r", 0, [5] * 90, [[1] * 7])),
        ("max_tokens", generation("r", [5], max_tokens=0)),
        ("temperature", generation("r", [5], temperature=-1.0)),
        ("temperature", generation("r", [5], temperature=float("nan"))),
        ("top_p", generation("r", [5], top_p=0.0)),
        ("top_k", generation("r", [5], top_k=-1)),
        ("seed", generation("r", [5], seed=2**64)),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_by_its_field(
    make_engine: MakeEngine, field: str, request_: Generation | Scoring
) -> None:
    with pytest.raises(BadRequest) as error:
        make_engine().submit(request_)
    assert error.value.details["field"] == field


def test_a_slot_without_a_version_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(VersionNotServable, match="slot 2"):
        make_engine().submit(generation("r", [5], slot=2))


def test_a_slot_in_use_neither_changes_nor_empties(make_engine: MakeEngine, make_adapter: MakeAdapter) -> None:
    engine = make_engine()
    engine.install(1, engine.prepare(make_adapter(1)))
    ticket = engine.submit(generation("r", [5], slot=1))
    engine.step()
    with pytest.raises(StillLeased, match="slot 1"):
        engine.install(1, engine.prepare(make_adapter(2)))
    with pytest.raises(StillLeased, match="slot 1"):
        engine.evict(1)
    ticket.cancel()
    engine.evict(1)
    engine.evict(1)
    with pytest.raises(VersionNotServable):
        engine.submit(generation("r", [5], slot=1))


@pytest.mark.parametrize("running", [True, False])
def test_a_request_cancelled_in_the_last_moment_never_meets_an_empty_slot(
    make_engine: MakeEngine, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    engine = make_engine()
    engine.install(1, engine.prepare(make_adapter(1)))
    ticket = engine.submit(generation("r", [5, 6, 7], slot=1, max_tokens=60))
    if running:
        engine.step()
    monkeypatch.setattr(engine, "_thread", threading.current_thread())  # so that others leave their commands to it
    run_commands = engine._intake.run_commands
    ordered = threading.Thread(target=engine.evict, args=(1,))

    def cancelled_meanwhile() -> bool:
        ticket.cancel()
        ordered.start()
        engine._intake.wait(10.0)
        return run_commands()

    monkeypatch.setattr(engine._intake, "run_commands", cancelled_meanwhile)
    engine.step()
    monkeypatch.undo()
    ordered.join()
    run(engine)
    assert engine.stats().error == ""
    assert len(engine._stepper.batch) == 0


def test_an_adapter_that_overflows_fails_its_own_request_alone(
    make_engine: MakeEngine, make_adapter: MakeAdapter, reference: Any
) -> None:
    engine = make_engine()
    engine.install(1, engine.prepare(make_adapter(1, strength=1e37)))
    spoiled = [engine.submit(generation("x", [5, 6], slot=1)), engine.submit(Scoring("y", 1, [5], [[6, 7]]))]
    healthy = engine.submit(generation("h", [7, 8]))
    run(engine)
    later = engine.submit(generation("l", [9] * 30))  # in the row that was spoiled
    run(engine)
    assert list(healthy) == alone(reference, [7, 8], 12)
    assert list(later) == alone(reference, [9] * 30, 12)
    for ticket in spoiled:
        with pytest.raises(CorruptVersion, match="not finite"):
            list(ticket)


def test_an_engine_that_breaks_fails_every_request_and_says_why(make_engine: MakeEngine, monkeypatch: Any) -> None:
    engine = make_engine(max_batch=1)
    tickets = [engine.submit(generation("a", [5])), engine.submit(Scoring("b", 0, [5], [[6]]))]
    engine.step()

    def out_of_memory(*_: Any) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(engine._runner, "run", out_of_memory)
    with pytest.raises(MemoryError):
        engine.step()
    assert tickets[0].next_token(0) is not None  # what came before the end is still there
    for ticket in tickets:
        with pytest.raises(EngineStopped, match="no memory left"):
            list(ticket)
    with pytest.raises(EngineStopped, match="no memory left"):
        tickets[1].result()
    for call in (engine.step, lambda: engine.submit(generation("c", [5])), lambda: engine.evict(1)):
        with pytest.raises(EngineStopped, match="no memory left"):
            call()
    assert "no memory left" in engine.stats().error


def test_a_request_that_there_is_no_memory_to_admit_ends_with_the_engine(
    make_engine: MakeEngine, monkeypatch: Any
) -> None:
    engine = make_engine()
    text = prompts(1, seed=16, shortest=40)[0]
    for i in range(2):
        engine.submit(generation(f"a{i}", text))
        run(engine)

    def out_of_memory(*_: Any) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(engine._stepper.batch.cache, "load", out_of_memory)
    ticket = engine.submit(generation("b", text))
    with pytest.raises(MemoryError):
        engine.step()
    with pytest.raises(EngineStopped, match="no memory left"):
        list(ticket)


def test_a_running_engine_answers_other_threads(
    make_engine: MakeEngine, make_adapter: MakeAdapter, reference: Any
) -> None:
    engine = make_engine()
    engine.start()
    engine.install(1, engine.prepare(make_adapter(1)))
    texts = prompts(6, seed=9)
    answers: dict[int, list[int]] = {}

    def ask(i: int) -> None:
        answers[i] = list(engine.submit(generation(f"r{i}", texts[i], slot=i % 2)))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in (0, 2, 4):
        assert answers[i] == alone(reference, texts[i], 12)
    scores = engine.submit(Scoring("s", 1, [5], [[6], [7]]))
    assert scores.wait(60)
    assert len(scores.result()) == 2
    engine.evict(1)
    before = engine.stats().heartbeat
    assert engine.stop(30)
    assert engine.stats().heartbeat >= before


def test_a_stopped_engine_hangs_nobody_and_gives_the_model_back(
    make_engine: MakeEngine, tiny_base: Base, reference: Any
) -> None:
    engine = make_engine(max_batch=1)
    engine.start()
    tickets = [engine.submit(generation(f"r{i}", [5], max_tokens=90)) for i in range(3)]
    assert tickets[0].next_token(60) is not None
    assert engine.stop(60)
    assert engine.stop(1)
    for ticket in tickets:
        assert ticket.wait(0)
        with pytest.raises(EngineStopped, match="was stopped"):
            list(ticket)
    with pytest.raises(EngineStopped):
        engine.submit(generation("late", [5]))
    assert alone(tiny_base.model, [5, 6], 4) == alone(reference, [5, 6], 4)
    assert tiny_base.model.config._attn_implementation == "sdpa"


def test_a_reader_can_look_around_between_tokens(make_engine: MakeEngine) -> None:
    engine = make_engine()
    ticket = engine.submit(generation("r", [5], max_tokens=2))
    assert ticket.next_token(0) is None
    assert not ticket.ended
    run(engine)
    assert not ticket.ended
    assert None not in (ticket.next_token(0), ticket.next_token(0))
    assert ticket.ended
    assert ticket.next_token(0) is None


def test_an_architecture_the_engine_cannot_serve_is_refused(make_engine: MakeEngine, tiny_base: Base) -> None:
    tiny_base.model.config.sliding_window = 128
    with pytest.raises(BaseUnavailable, match="sliding_window is 128"):
        make_engine()


def test_a_model_that_ignores_the_attention_interface_is_refused(
    make_engine: MakeEngine, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_transformers_forward(monkeypatch)
    for layer in tiny_base.model.model.layers:
        attend = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, ragged=None, attend=attend, **kwargs: attend(*args, **kwargs)
    with pytest.raises(BaseUnavailable, match="0 of 2 layers"):
        make_engine()
    assert tiny_base.model.config._attn_implementation == "sdpa"


def test_the_model_still_works_like_any_other_while_the_engine_owns_it(
    make_engine: MakeEngine, tiny_base: Base, reference: Any
) -> None:
    make_engine()
    tokens = torch.tensor([[0, 0, 5, 6, 7], [9, 8, 7, 6, 5]], device=reference.device)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], device=reference.device)
    with torch.no_grad():
        torch.testing.assert_close(
            tiny_base.model(tokens, attention_mask=mask).logits[:, -1],
            reference(tokens, attention_mask=mask).logits[:, -1],
        )
