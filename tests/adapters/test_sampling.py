"""Drawn tokens follow the distribution that temperature, top-k and top-p leave, and the seed alone."""

import math
from collections import Counter

import pytest
import torch
from adapterd.adapters import sampling
from adapterd.adapters.sampling import Sampler


def logits_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def frequencies(sampler: Sampler, logits: torch.Tensor, draws: int = 1500) -> dict[int, float]:
    counts = Counter(sampler.draw(logits) for _ in range(draws))
    return {token: count / draws for token, count in sorted(counts.items())}


def test_temperature_zero_takes_the_likeliest() -> None:
    sampler = Sampler()
    assert sampler.greedy
    assert sampler.draw(logits_of([0.1, 0.2, 0.6, 0.1])) == 2


def test_draws_follow_the_probabilities() -> None:
    got = frequencies(Sampler(temperature=1.0, seed=1), logits_of([0.5, 0.3, 0.2]))
    assert got == pytest.approx({0: 0.5, 1: 0.3, 2: 0.2}, abs=0.04)


def test_temperature_sharpens_and_flattens() -> None:
    logits = logits_of([0.8, 0.2])
    cold = frequencies(Sampler(temperature=0.5, seed=2), logits)
    hot = frequencies(Sampler(temperature=2.0, seed=2), logits)
    assert cold[0] == pytest.approx(0.64 / 0.68, abs=0.04)
    assert hot[0] == pytest.approx(math.sqrt(0.8) / (math.sqrt(0.8) + math.sqrt(0.2)), abs=0.04)


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert Sampler(temperature=1e-30, seed=3).draw(torch.tensor([1e4, -1e4, 2e4])) == 2


def test_top_k_keeps_the_likeliest_k() -> None:
    got = frequencies(Sampler(temperature=1.0, top_k=2, seed=4), logits_of([0.1, 0.4, 0.2, 0.3]))
    assert got == pytest.approx({1: 4 / 7, 3: 3 / 7}, abs=0.04)


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    logits = logits_of([0.15, 0.4, 0.05, 0.3, 0.1])
    assert set(frequencies(Sampler(temperature=1.0, top_p=0.7, seed=5), logits)) == {1, 3}
    assert set(frequencies(Sampler(temperature=1.0, top_p=0.71, seed=5), logits)) == {0, 1, 3}
    assert set(frequencies(Sampler(temperature=1.0, top_p=1e-9, seed=5), logits)) == {1}


def test_top_p_works_on_what_top_k_leaves() -> None:
    logits = logits_of([0.4, 0.3, 0.2, 0.1])
    # of 0.4 and 0.3 alone, the first holds 4/7
    assert set(frequencies(Sampler(temperature=1.0, top_k=2, top_p=0.57, seed=6), logits)) == {0}


def test_a_nucleus_larger_than_the_first_guess_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(7))
    whole = [Sampler(temperature=1.0, top_p=0.9, seed=seed).draw(logits) for seed in range(50)]
    monkeypatch.setattr(sampling, "NUCLEUS_GUESS", 4)
    assert [Sampler(temperature=1.0, top_p=0.9, seed=seed).draw(logits) for seed in range(50)] == whole


def test_one_seed_gives_one_sequence_and_another_gives_another() -> None:
    logits = torch.zeros(1000)

    def sequence(seed: int) -> list[int]:
        sampler = Sampler(temperature=1.0, seed=seed)
        return [sampler.draw(logits) for _ in range(8)]

    assert sequence(2**64 - 1) == sequence(2**64 - 1)
    assert sequence(1) != sequence(2)


def test_rounding_errors_of_the_batch_do_not_change_the_choice() -> None:
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(8))
    nearly = logits * (1 + 1e-7)
    one, other = (Sampler(temperature=1.0, top_p=0.95, seed=9) for _ in range(2))
    assert [one.draw(logits) for _ in range(30)] == [other.draw(nearly) for _ in range(30)]
