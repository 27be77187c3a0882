"""On a CPU whose products are packed, what a request gets has the same bits whoever else is in the batch."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters import runner
from adapterd.adapters.base import load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.grouped_product import MANY_TOKENS
from adapterd.adapters.packing import packs
from adapterd.adapters.prefix_cache import PrefixCache
from adapterd.adapters.requests import Generation, Ticket
from adapterd.adapters.store import AdapterWeights
from torch import Tensor

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]
MakeAdapter = Callable[..., AdapterWeights]


@pytest.fixture(params=DTYPES, ids=str)
def engine(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    make_adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
) -> Engine:
    """Three adapters of different ranks, whole and on some layers; no guesses, so that steps can be compared."""
    if device != "cpu":
        pytest.skip("kernels of a GPU depend on the number of tokens")
    monkeypatch.setattr("adapterd.adapters.base.compute_dtype", lambda *_: request.param)
    base = load_base(tiny_base_folder, quantization="none", device=device)
    engine = Engine(base, slots=3, max_rank=8, max_batch=8, max_queue=64, max_context=160, drafts=False, prefix_bytes=0)
    adapters = [make_adapter(1, rank=4), make_adapter(2, rank=8), make_adapter(3, rank=2, only=("q_proj", "down_proj"))]
    for slot, weights in enumerate(adapters, 1):
        engine.install(slot, engine.prepare(weights))
    return engine


@pytest.fixture
def drawn_from(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """By request, the logits of each of its tokens."""
    seen: dict[str, list[Tensor]] = {}
    choose = runner._choose

    def noting(logits: Tensor, drawing: Sequence[Any]) -> Any:
        row = 0
        for one in drawing:
            seen.setdefault(one.running.request.request_id, []).append(logits[row].clone())
            row += len(one.places)
        return choose(logits, drawing)

    monkeypatch.setattr(runner, "_choose", noting)
    return seen


def test_logits_are_equal_to_the_last_bit_alone_and_in_company(
    engine: Engine, drawn_from: dict[str, list[Tensor]]
) -> None:
    rng = random.Random(0)
    asked = [
        (rng.randrange(4), [rng.randrange(3, 259) for _ in range(rng.choice([1, 2, 3, 9, 31, 64]))], rng.randint(2, 40))
        for _ in range(40)
    ]
    alone = []
    for number, (slot, prompt, tokens) in enumerate(asked):
        alone.append(engine.submit(Generation(f"alone-{number}", slot, prompt, tokens)))
        run(engine)
    together: list[Ticket] = []
    for number, (slot, prompt, tokens) in enumerate(asked):
        together.append(engine.submit(Generation(f"together-{number}", slot, prompt, tokens)))
        for _ in range(rng.randrange(5)):
            engine.step()
    run(engine)
    assert [list(ticket) for ticket in together] == [list(ticket) for ticket in alone]
    for number in range(len(asked)):
        expected, got = (torch.stack(drawn_from[f"{how}-{number}"]) for how in ("alone", "together"))
        assert torch.equal(got, expected)


@pytest.mark.parametrize("slot", [0, 1, 3])
@pytest.mark.parametrize("length", [MANY_TOKENS - 5, MANY_TOKENS + 20])
@pytest.mark.parametrize("budget", [1, 3, 8, 17])
def test_logits_are_equal_whatever_the_pieces_in_which_a_prompt_was_read(
    engine: Engine,
    drawn_from: dict[str, list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    slot: int,
    length: int,
    budget: int,
) -> None:
    prompt = [5 + place * 7 % 250 for place in range(length)]
    engine.submit(Generation("whole", slot, prompt, 8))
    run(engine)
    monkeypatch.setattr(engine._stepper, "_idle_tokens", budget)
    ticket = engine.submit(Generation("in pieces", slot, prompt, 8))
    engine.step()
    assert ticket.next_token(0) is None  # only a piece was read
    run(engine)
    assert torch.equal(torch.stack(drawn_from["in pieces"]), torch.stack(drawn_from["whole"]))


@pytest.mark.parametrize("slot", [0, 2])
def test_logits_are_equal_where_the_beginning_of_a_prompt_was_kept(
    engine: Engine, drawn_from: dict[str, list[Tensor]], slot: int
) -> None:
    engine._stepper.prefixes = PrefixCache(1 << 20)  # type: ignore[misc]
    prompt = [5 + place * 7 % 250 for place in range(MANY_TOKENS + 20)]
    for name, ending in (("first", 9), ("second", 10), ("third", 9)):
        engine.submit(Generation(name, slot, [*prompt, ending], 8))
        run(engine)
    assert engine._stepper.prefixes.bytes
    assert torch.equal(torch.stack(drawn_from["third"]), torch.stack(drawn_from["first"]))
    assert not torch.equal(torch.stack(drawn_from["second"]), torch.stack(drawn_from["first"]))


def run(engine: Engine) -> None:
    """Step until nothing is left to do."""
    assert any(not engine.step() for _ in range(10_000))
