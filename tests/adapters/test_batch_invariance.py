"""A manner is found in which rows get the same bits, for every way in which a library may split sums."""

import logging
from collections.abc import Callable

import pytest
import torch
from adapterd.adapters.batch_invariance import MANNERS, Manner, manner_of
from torch import Tensor

Split = Callable[[int], int]
"""From the number of rows to where their sums are split; 0 for nowhere."""


def multiply_by(weight: Tensor, split: Split) -> Callable[[Tensor], Tensor]:
    """Sums up each half for itself where `split` says, in elementary operations whose order is ours."""

    def product(x: Tensor) -> Tensor:
        at = split(len(x))
        products = x[:, None, :] * weight[None]
        return running_sum(products[..., :at]) + running_sum(products[..., at:])

    return product


def running_sum(products: Tensor) -> Tensor:
    total = torch.zeros(products.shape[:-1])
    for one in products.unbind(-1):
        total = total + one
    return total


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (lambda _rows: 0, Manner()),
        (lambda rows: 7 * (rows % 2), Manner(even=True)),
        (lambda rows: 7 * (rows == 1), Manner(even=True)),
        (lambda rows: 7 * (rows > 32), Manner(most=32)),
        (lambda rows: 7 * (rows > 32) + 11 * (rows > 64), Manner(most=32)),
        (lambda rows: 7 * (rows > 32) + 11 * (rows % 2), Manner(most=32, even=True)),
    ],
)
def test_the_first_manner_is_found_in_which_rows_are_alike(split: Split, expected: Manner) -> None:
    assert manner_of(lambda weight: multiply_by(weight, split), 6, 21, torch.float32) == expected


def test_where_no_manner_helps_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert manner_of(lambda weight: multiply_by(weight, lambda rows: rows % 5), 6, 21, torch.float32) == Manner()
    assert "may depend on what is computed beside it" in caplog.text


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 64, 65, 100])
def test_every_manner_calls_with_what_it_says_and_gives_each_row_its_own(manner: Manner, rows: int) -> None:
    called: list[int] = []

    def doubled_sum(x: Tensor, y: Tensor) -> Tensor:
        called.append(len(x))
        return x + 2 * y

    x, y = torch.randn(rows, 3), torch.randn(rows, 3)
    assert torch.equal(manner.call(doubled_sum, x, y), x + 2 * y)
    assert all(manner.fits(count) for count in called)
    assert manner.fits(rows) == (called == [rows])
