"""Loops over the memory of tensors, compiled for this processor when the engine starts.

A decoding step is more than a thousand operations on a few thousand numbers each: an operation of torch takes longer to
start than to compute. numba compiles a plain loop to what would be written by hand in C, and calling it costs a
microsecond. It knows no tensors and no bfloat16, so a loop gets addresses, reads bits and widens them itself.

Nothing of it is kept on disk: numba's cache is pickled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numba import carray, float32, njit, types, uint16, uint32  # type: ignore[attr-defined]
from numba.extending import intrinsic

#: Sums in any order, so that they become vectors; the order is that of the code and never of the data. What is not
#: finite stays so: an answer that it spoils is told by it.
_FAST_MATH: Final = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True)
class Element:
    """How numbers of a type lie in memory: as `bits`, which `load` makes a float32 of, and `store` of one."""

    bits: type[np.generic]
    load: Callable[[Any], Any]
    store: Callable[[Any], Any]


def compiled(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a loop at once.

    It holds Python's lock while it runs, some microseconds: whoever lets go of it so often waits for it as often.
    """
    made: Callable[[Callable[..., None]], Callable[..., None]] = njit(
        signature, fastmath=_FAST_MATH, error_model="numpy"
    )
    return made


def inlined(piece: Callable[..., Any]) -> Any:
    """A piece of a loop."""
    return njit(inline="always")(piece)


def _primitive(code: Callable[..., Any]) -> Any:
    return intrinsic(code)


@_primitive
def _pointer(_context: Any, _address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.intp), code


@_primitive
def _float_of(_context: Any, _bits: Any) -> Any:
    return types.float32(types.uint32), _same_bits


@_primitive
def _bits_of(_context: Any, _value: Any) -> Any:
    return types.uint32(types.float32), _same_bits


def _same_bits(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@inlined
def array(address: int, shape: Any, bits: Any) -> Any:
    """The memory at an address as an array; nobody checks that it is there."""
    return carray(_pointer(address), shape, bits)


@inlined
def bits_as_float(bits: Any) -> Any:
    """The float32 of these low 32 bits."""
    return _float_of(uint32(bits))


@inlined
def _widened(bits: Any) -> Any:
    return _float_of(uint32(bits) << uint32(16))


@inlined
def _rounded(value: Any) -> Any:
    """To the nearest bfloat16, ties to even; what is not a number stays that."""
    bits: Any = _bits_of(float32(value))
    nearest = (bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16)
    return uint16(0x7FC0 if np.isnan(value) else nearest)


@inlined
def _itself(value: Any) -> Any:
    return float32(value)


ELEMENTS: Final = {
    torch.float32: Element(np.float32, _itself, _itself),
    torch.bfloat16: Element(np.uint16, _widened, _rounded),
}

_LEAST, _MOST = np.float32(-87), np.float32(88)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2E, _HALF_WAY = np.float32(1.44269504088896341), np.float32(1.5 * 2**23)
_TERMS: Final = tuple(
    np.float32(term)
    for term in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 0.16666665459, 0.5)
)


@njit(fastmath=False, error_model="numpy")
def exponential(x: Any) -> Any:
    """e to the power of x between -87 and 88, which stand for what lies beyond them. Loops around it become vectors.

    By Cephes' polynomial (Moshier 1989). Without the freedom of `_FAST_MATH`, by which the rounding would be left out.
    """
    # Not by `min` and `max`, which make a number of what is none.
    x = _LEAST if x < _LEAST else _MOST if x > _MOST else x  # noqa: FURB136
    shifted = x * _LOG2E + _HALF_WAY  # its low bits are the power of two
    power = shifted - _HALF_WAY
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    sum_ = _TERMS[0]
    sum_ = sum_ * rest + _TERMS[1]
    sum_ = sum_ * rest + _TERMS[2]
    sum_ = sum_ * rest + _TERMS[3]
    sum_ = sum_ * rest + _TERMS[4]
    sum_ = sum_ * rest + _TERMS[5]
    sum_ = sum_ * rest * rest + rest + np.float32(1)
    return sum_ * _float_of((_bits_of(shifted) + uint32(127)) << uint32(23))


@njit(fastmath=True)
def largest(values: Any) -> Any:
    """The largest of an array of floats; whether one is not a number is for others to find."""
    most = values[0]
    for value in values:
        most = max(most, value)
    return most
