"""Decoders stay on the first rows, whoever comes and goes."""

import random

import pytest
from adapterd.adapters.batch import Batch, Running
from adapterd.adapters.requests import Generation, Scoring, Ticket


def running(name: str) -> Running:
    return Running.of(Generation(name, 0, [1], 1), Ticket(name))


@pytest.mark.parametrize("seed", range(5))
def test_any_history_keeps_rows_dense_and_every_request_on_its_own(seed: int) -> None:
    rng, batch, decoding = random.Random(seed), Batch(), set[Running]()
    for step in range(200):
        there = list(batch)
        match rng.choice(["enter", "promote", "leave"]):
            case "enter" if len(there) < 8:
                batch.enter(running(str(step)))
                batch.cache.lengths[-1] = step  # a mark that must travel with the request
                list(batch)[-1].generated = step
            case "promote" if batch.readers:
                chosen = rng.choice(batch.readers)
                batch.promote(chosen)
                decoding.add(chosen)
            case "leave" if there:
                chosen = rng.choice(there)
                batch.leave(chosen)
                decoding.discard(chosen)
        assert [one.row for one in batch] == list(range(len(batch)))
        assert set(batch.decoders) == decoding
        assert len(batch.cache) == len(batch)
        assert all(batch.cache.lengths[one.row] == one.generated for one in batch)


def test_readers_are_served_in_the_order_they_were_admitted() -> None:
    batch = Batch()
    for order, name in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
        one = running(name)
        one.admitted = order
        batch.enter(one)
    assert [one.ticket.request_id for one in batch.readers] == ["a", "b", "c"]


def test_only_a_generation_has_a_sampler() -> None:
    assert running("g").sampler is not None
    assert Running.of(Scoring("s", 0, [1], [[2]]), Ticket("s")).sampler is None
