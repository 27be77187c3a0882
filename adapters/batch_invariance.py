"""How a product is called so that a row has the same bits alone and among any number: found out on the machine at hand.

A library splits a sum by the shape of the whole product, so the last bits of a row depend on how many others there are
(batch invariance; He et al. 2025, "Defeating Nondeterminism in LLM Inference"). Which numbers of rows are alike differs
from processor to processor, so a few ways of calling are tried once for each shape, with rows and weights whose
products cancel each other: their sums are nothing but rounding, and another order of adding shows in every one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Product = Callable[[Tensor], Tensor]
"""From rows [N, in] to rows [N, out]."""

#: Numbers of rows that are tried; kernels change at powers of two, at odd numbers and at a cache's or a tile's size.
_COUNTS: Final = (1, 2, 3, 8, 15, 17, 31, 32, 33, 40, 64, 100, 256)
_DISTINCT: Final = 4


@dataclass(frozen=True)
class Manner:
    """`most`: rows of one call, None for any number. `even`: where the number is odd, the last row goes along twice."""

    most: int | None = None
    even: bool = False

    def fits(self, rows: int) -> bool:
        """Whether so many rows go into one call as they are."""
        return (self.most is None or rows <= self.most) and not (self.even and rows % 2)

    def call(self, product: Callable[..., Tensor], *operands: Tensor) -> Tensor:
        """`product` of the operands [N, …], which all have a row for each of its own [N, out]."""
        rows = len(operands[0])
        if self.fits(rows):
            return product(*operands)
        most = self.most or rows
        parts = [self._piece(product, [one[at : at + most] for one in operands]) for at in range(0, rows, most)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _piece(self, product: Callable[..., Tensor], operands: list[Tensor]) -> Tensor:
        rows = len(operands[0])
        if not (self.even and rows % 2):
            return product(*operands)
        return product(*(torch.cat((one, one[-1:])) for one in operands))[:rows]


#: Cheapest first. AVX2 and AVX-512 split long sums otherwise for odd numbers of rows, or for one alone; AMX by their
#: number, from 33 on, and pieces of 32 take two to three times as long there as many rows at once.
MANNERS: Final = (Manner(), Manner(even=True), Manner(most=32), Manner(most=32, even=True))


def manner_of(multiply_by: Callable[[Tensor], Product], out: int, inner: int, dtype: torch.dtype) -> Manner:
    """The first manner in which products with a weight [out, inner] give each row [inner] the same bits.

    `multiply_by` makes such a product. Where no manner does, the log says so and rows go all at once: what a row gets
    is as right, and not the same.
    """
    rows, weight = _cancelling(out, inner, dtype)
    with torch.inference_mode():
        product = multiply_by(weight)
        for manner in MANNERS:
            if _alike(product, rows, manner):
                return manner
    _log.warning(
        "products of %s [N, %s] and [%s, %s] differ in their last bits with N on this processor: "
        "an answer may depend on what is computed beside it",
        dtype, inner, inner, out,
    )  # fmt: skip
    return Manner()


def _cancelling(out: int, inner: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows [4, inner] and a weight [out, inner] whose products sum up to zero, but for rounding."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randperm(inner, generator=generator)
    half, rest = inner // 2, inner % 2

    def drawn(count: int, sign: float) -> Tensor:
        values = torch.randn(count, half, generator=generator)
        return torch.cat((values, sign * values, torch.zeros(count, rest)), dim=1)[:, mixed].to(dtype)

    return drawn(_DISTINCT, 1.0), drawn(out, -1.0)


def _alike(product: Product, rows: Tensor, manner: Manner) -> bool:
    """Whether rows that are equal get equal bits at all places among all `_COUNTS`."""
    many = rows.repeat(-(-max(_COUNTS) // len(rows)), 1)
    alone = torch.cat([manner.call(product, row[None]) for row in rows])
    expected = alone.repeat(len(many) // len(rows), 1)
    return all(torch.equal(manner.call(product, many[:count]), expected[:count]) for count in _COUNTS)
