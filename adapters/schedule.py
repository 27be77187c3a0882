"""How far each reading or scoring request gets in one step: functions of values, for the engine to act on."""

from dataclasses import dataclass

from .requests import Generation, Request


@dataclass(frozen=True, slots=True)
class Piece:
    """A request's share of a step: `read` tokens of its prompt from where it stands, and after the prompt's last token
    its next `continuations` continuations. `tokens` is what they cost together."""

    read: int
    continuations: int = 0
    tokens: int = 0


def next_piece(request: Request, *, computed: int, scored: int, room: int, untouched: bool) -> Piece | None:
    """The most that `request` can do with `room` tokens, or `None` if that is nothing.

    `computed` of its prompt's tokens are in the cache and `scored` of its continuations are done. A scoring reads the
    last token of its prompt again with each lot of continuations. If not even one fits into an `untouched` budget, it
    gets one all the same: a continuation is not cut.
    """
    rest, room = len(request.prompt) - computed, max(room, 0)
    if isinstance(request, Generation):
        read = min(rest, room)
        return Piece(read, tokens=read) if read else None
    costs = [len(continuation) - 1 for continuation in request.continuations[scored:]]
    cost, taken = rest, 0
    while taken < len(costs) and cost + costs[taken] <= room:
        cost += costs[taken]
        taken += 1
    if taken:
        return Piece(rest, taken, cost)
    read = min(rest - 1, room)
    if read:
        return Piece(read, tokens=read)
    return Piece(rest, 1, rest + costs[0]) if untouched else None
