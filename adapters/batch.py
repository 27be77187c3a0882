"""The requests that run, by row of the cache: those that decode first, then those that still read or score."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .cache import COLUMN_STEP, RowCache
from .drafting import Drafter
from .prefix_cache import Beginning
from .requests import Generation, Request, Ticket
from .sampling import Sampler


@dataclass(eq=False)
class Running:
    """A request in the batch: where it stands and how far it is."""

    request: Request
    ticket: Ticket
    sampler: Sampler | None = None  # of a generation
    admitted: float = 0.0  # time.monotonic() when it entered the batch
    row: int = -1
    last: int = -1  # of a decoding generation: the token that its next step reads
    drafter: Drafter | None = None  # of a decoding generation, unless the engine does not guess
    generated: int = 0
    scores: list[float] = field(default_factory=list)  # of a scoring: of its first continuations
    known: Beginning | None = None  # until it has entered the batch: what begins as its prompt does
    reused: int = 0  # tokens of its prompt that need not be read

    @classmethod
    def of(cls, request: Request, ticket: Ticket) -> "Running":
        """A request as it comes in."""
        if not isinstance(request, Generation):
            return cls(request, ticket)
        sampler = Sampler(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k, seed=request.seed)
        return cls(request, ticket, sampler)


class Batch:
    """Rows [0, `decoding`) decode, one token each a step; the others still work through their prompts."""

    def __init__(self, column_step: int = COLUMN_STEP) -> None:
        self.cache = RowCache(column_step)
        self.decoding = 0
        self._rows: list[Running] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Running]:
        return iter(tuple(self._rows))

    @property
    def decoders(self) -> list[Running]:
        """Those that decode, by row."""
        return self._rows[: self.decoding]

    @property
    def readers(self) -> list[Running]:
        """Those that read or score, first come first."""
        return sorted(self._rows[self.decoding :], key=lambda running: running.admitted)

    def enter(self, running: Running) -> None:
        """Give a request a row, empty or with what is known of its prompt."""
        running.row = self.cache.enter()
        self._rows.append(running)  # from here on it ends with the batch, whatever happens
        if running.known:
            self.cache.load(running.row, running.known.columns, running.reused)
            running.known = None  # or it would stay in memory, given up by the cache of beginnings, while this runs

    def promote(self, running: Running) -> None:
        """Let a request whose prompt is read decode from now on."""
        row, to = running.row, self.decoding
        if row != to:
            self.cache.swap(row, to)
            self._put(self._rows[to], row)
            self._put(running, to)
        self.decoding += 1

    def leave(self, running: Running) -> None:
        """Take a request out; no hole stays among the decoders or at the end."""
        hole = running.row
        if hole < self.decoding:
            self.decoding -= 1
            self.cache.copy(self.decoding, hole)
            self._put(self._rows[self.decoding], hole)
            hole = self.decoding
        self.cache.drop(hole)
        last = self._rows.pop()
        if hole < len(self._rows):
            self._put(last, hole)

    def _put(self, running: Running, row: int) -> None:
        self._rows[row] = running
        running.row = row
