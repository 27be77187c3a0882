"""The loops of `kernels.py`, each made for one type of numbers. They take addresses and sizes, or are told them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .compiled import Element, array, bits_as_float, compiled, exponential, inlined, largest
from .team import SharedLoop

#: Ranks come in multiples of this: so many rows of A, or of B transposed, are multiplied at once.
RANK_STEP: Final = 8

Loop = Callable[..., None]


def normed_loop(element: Element) -> Loop:
    """`Kernels.normed`, of addresses of x, weight and output, the number of rows, their width and epsilon."""
    bits, load, store = element.bits, element.load, element.store

    @compiled("void(intp, intp, intp, intp, intp, float32)")
    def normed(x: int, weight: int, out: int, rows: int, width: int, epsilon: Any) -> None:
        rows_of_x, rows_of_out = array(x, (rows, width), bits), array(out, (rows, width), bits)
        weights = array(weight, (width,), bits)
        for row in range(rows):
            square = np.float32(0)
            for i in range(width):
                square += load(rows_of_x[row, i]) * load(rows_of_x[row, i])
            factor = np.float32(1) / np.sqrt(square / np.float32(width) + epsilon)
            for i in range(width):
                rows_of_out[row, i] = store(load(rows_of_x[row, i]) * factor * load(weights[i]))

    return normed


def gated_loop(element: Element) -> SharedLoop:
    """`Kernels.gated`: a turn for each row. It is told the addresses of the two halves and the output, the number of
    rows and their width."""
    bits, load, store = element.bits, element.load, element.store

    def gated(at: int, _room: int, begin: int, end: int) -> None:
        told = array(at, (4,), np.int64)
        gate_up, out, rows, width = told[0], told[1], told[2], told[3]
        gates_and_ups, outs = array(gate_up, (rows, 2, width), bits), array(out, (rows, width), bits)
        for row in range(begin, end):
            for i in range(width):
                gate = load(gates_and_ups[row, 0, i])
                sigmoid = np.float32(1) / (np.float32(1) + exponential(-gate))
                outs[row, i] = store(gate * sigmoid * load(gates_and_ups[row, 1, i]))

    return SharedLoop(gated, told=4)


def rotated_loop(element: Element) -> Loop:
    """`Kernels.rotated`, of addresses in its order, and the sizes of all."""
    bits, load, store, size_of = element.bits, element.load, element.store, element.bits().itemsize

    @compiled("void(intp, intp, intp, intp, intp, intp, intp, intp, intp, intp, intp, intp)")
    def rotated(
        qkv: int, cosine: int, sine: int, place: int, query: int, key: int, value: int,
        tokens: int, heads: int, kv_heads: int, columns: int, size: int,
    ) -> None:  # fmt: skip
        both = array(qkv, (tokens, heads + 2 * kv_heads, size), bits)
        cosines, sines = array(cosine, (tokens, size), bits), array(sine, (tokens, size), bits)
        places = array(place, (tokens, 2), np.int64)
        half = size // 2
        for token in range(tokens):
            for head in range(heads + kv_heads):
                at = query + (token * heads + head) * size * size_of
                if head >= heads:
                    row = places[token, 0] * kv_heads + head - heads
                    at = key + (row * columns + places[token, 1]) * size * size_of
                turned = array(at, (size,), bits)
                for i in range(half):
                    a, b = load(both[token, head, i]), load(both[token, head, half + i])
                    turned[i] = store(a * load(cosines[token, i]) - b * load(sines[token, i]))
                    turned[half + i] = store(b * load(cosines[token, half + i]) + a * load(sines[token, half + i]))
            for head in range(kv_heads):
                row = places[token, 0] * kv_heads + head
                kept = array(value + (row * columns + places[token, 1]) * size * size_of, (size,), bits)
                for i in range(size):
                    kept[i] = both[token, heads + kv_heads + head, i]

    return rotated


def attended_loop(element: Element) -> SharedLoop:
    """`Kernels.attended`: a turn for each head of each token. It is told addresses in that order, the sizes of all and
    the bits of the scale."""
    bits, load, store, size_of = element.bits, element.load, element.store, element.bits().itemsize

    def attended(at: int, room: int, begin: int, end: int) -> None:
        told = array(at, (11,), np.int64)
        query, place, key, value, out = told[0], told[1], told[2], told[3], told[4]
        tokens, heads, kv_heads, columns, size = told[5], told[6], told[7], told[8], told[9]
        scale = bits_as_float(told[10])
        queries, outs = array(query, (tokens, heads, size), bits), array(out, (tokens, heads, size), bits)
        places = array(place, (tokens, 2), np.int64)
        asked, seen = array(room, (size,), np.float32), array(room + 4 * size, (size,), np.float32)
        weights = array(room + 8 * size, (columns,), np.float32)
        for index in range(begin, end):
            token, head = index // heads, index % heads
            count = places[token, 1] + 1
            fours = count - count % 4
            row = (places[token, 0] * kv_heads + head * kv_heads // heads) * columns * size * size_of
            keys, values = array(key + row, (count, size), bits), array(value + row, (count, size), bits)
            for i in range(size):
                asked[i] = load(queries[token, head, i]) * scale
            for c in range(0, fours, 4):
                w0, w1, w2, w3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for i in range(size):
                    w0 += asked[i] * load(keys[c, i])
                    w1 += asked[i] * load(keys[c + 1, i])
                    w2 += asked[i] * load(keys[c + 2, i])
                    w3 += asked[i] * load(keys[c + 3, i])
                weights[c], weights[c + 1], weights[c + 2], weights[c + 3] = w0, w1, w2, w3
            for c in range(fours, count):
                w0 = np.float32(0)
                for i in range(size):
                    w0 += asked[i] * load(keys[c, i])
                weights[c] = w0
            most, total = largest(weights[:count]), np.float32(0)
            for c in range(count):
                weights[c] = exponential(weights[c] - most)
                total += weights[c]
            for i in range(size):
                seen[i] = np.float32(0)
            for c in range(0, fours, 4):
                w0, w1, w2, w3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
                for i in range(size):
                    seen[i] += (
                        w0 * load(values[c, i])
                        + w1 * load(values[c + 1, i])
                        + w2 * load(values[c + 2, i])
                        + w3 * load(values[c + 3, i])
                    )
            for c in range(fours, count):
                for i in range(size):
                    seen[i] += weights[c] * load(values[c, i])
            for i in range(size):
                outs[token, head, i] = store(seen[i] / total)

    return SharedLoop(attended, told=11)


def add_low_rank_loop(element: Element) -> SharedLoop:
    """`Kernels.add_low_rank`: a turn for each token that has an adapter. It is told addresses in that order, and the
    sizes of all."""
    bits, load, store, size_of = element.bits, element.load, element.store, element.bits().itemsize

    @inlined
    def dot(row: Any, read: Any) -> Any:
        total = np.float32(0)
        for i in range(len(read)):
            total += read[i] * load(row[i])
        return total

    def add_low_rank(at: int, room: int, begin: int, end: int) -> None:
        told = array(at, (9,), np.int64)
        x, table, width_of, y, tokens = told[0], told[1], told[2], told[3], told[4]
        adapted, inner, layers, width = told[5], told[6], told[7], told[8]
        xs, ys = array(x, (tokens, inner), bits), array(y, (tokens, width), bits)
        places, widths = array(table, (adapted, 3), np.int64), array(width_of, (layers,), np.int64)
        read, sums = array(room, (inner,), np.float32), array(room + 4 * inner, (width,), np.float32)
        for turn in range(begin, end):
            token, address, rank = places[turn, 0], places[turn, 1], places[turn, 2]
            if address:
                for j in range(width):
                    sums[j] = load(ys[token, j])
                for i in range(inner):
                    read[i] = load(xs[token, i])
                down = array(address, (layers * rank, inner), bits)
                up_at, first = address + layers * rank * inner * size_of, 0
                for layer in range(layers):
                    outer = widths[layer]
                    up, part = array(up_at, (rank, outer), bits), sums[first : first + outer]
                    for r in range(0, rank, RANK_STEP):
                        rows = down[layer * rank + r : layer * rank + r + RANK_STEP]
                        h0, h1, h2, h3 = dot(rows[0], read), dot(rows[1], read), dot(rows[2], read), dot(rows[3], read)
                        h4, h5, h6, h7 = dot(rows[4], read), dot(rows[5], read), dot(rows[6], read), dot(rows[7], read)
                        for j in range(outer):
                            part[j] += (
                                h0 * load(up[r, j])
                                + h1 * load(up[r + 1, j])
                                + h2 * load(up[r + 2, j])
                                + h3 * load(up[r + 3, j])
                                + h4 * load(up[r + 4, j])
                                + h5 * load(up[r + 5, j])
                                + h6 * load(up[r + 6, j])
                                + h7 * load(up[r + 7, j])
                            )
                    up_at += rank * outer * size_of
                    first += outer
                for j in range(width):
                    ys[token, j] = store(sums[j])

    return SharedLoop(add_low_rank, told=9)
