"""Asks `Access` about every call before its handler runs, and writes down what was refused."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc

from .access import METHODS, Access, Peer
from .caller import act_for
from .edge import to_status
from .errors import LedgerFailed, NotAuthenticated, NotPermitted, TooManyCalls
from .handlers import surrounded
from .ledger import Ledger

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

UNKNOWN: Final = "unknown"
"""Who was refused for want of a name."""

_BEARER: Final = "bearer "
# Refusals a minute that get an event of their own; those beyond are counted, so that an attacker cannot fill the disk.
_TOLD_A_MINUTE: Final = 600


class AccessInterceptor(grpc.ServerInterceptor):
    """Stands within `ErrorInterceptor`, which makes a status of what is raised here."""

    def __init__(self, access: Access, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._access = access
        self._refusals = _Refusals(ledger, clock)
        self._clock = clock

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the method's handler, behind the question who asks."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method in METHODS or method.startswith("/adapterd.")):
            return handler
        return surrounded(handler, partial(self._admitted, method))

    @contextmanager
    def _admitted(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        peer, name = peer_of(context), UNKNOWN
        with ExitStack() as under_way:
            try:
                principal = self._access.identify(peer, self._clock())
                name = principal.name
                self._access.permit(principal, method)
                under_way.enter_context(self._access.counted(principal))
            except (NotAuthenticated, NotPermitted, TooManyCalls) as refusal:
                self._refusals.tell(method, name, peer, refusal)
                if not method.startswith("/adapterd."):  # nobody makes a status of what is raised there
                    context.abort_with_status(to_status(refusal))
                raise
            act_for(principal.name)
            yield


def peer_of(context: grpc.ServicerContext) -> Peer:
    """Who calls: its certificate's names if the connection was checked by TLS, and the token in its metadata."""
    found = context.auth_context()
    secure = b"ssl" in found.get("transport_security_type", ())
    kinds = ("x509_common_name", "x509_subject_alternative_name") if secure else ()
    names = [bytes(name).decode(errors="replace") for kind in kinds for name in found.get(kind, ())]
    token = ""
    for key, value in context.invocation_metadata():
        if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            token = value[len(_BEARER) :].strip()
    return Peer(address=context.peer(), remote=secure, token=token, names=tuple(names))


class _Refusals:
    """Events of what was refused, and a count of those above so many a minute."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._told = 0
        self._untold = 0

    def tell(self, method: str, name: str, peer: Peer, refusal: NotAuthenticated | NotPermitted | TooManyCalls) -> None:
        """Write one down. A ledger that takes nothing does not let anybody in: the call is refused all the same."""
        minute = int(self._clock() // 60)
        with self._lock:
            if minute != self._minute:
                more, self._untold = self._untold, 0
                self._minute, self._told = minute, 0
            else:
                more = 0
            self._told += 1
            tells = self._told <= _TOLD_A_MINUTE
            self._untold += not tells
        act_for(name)
        with suppress(LedgerFailed):
            if more:
                self._ledger.events.emit(
                    "access.refused", f"{more} more calls were refused in a minute", details={"more": more}
                )
            if tells:
                self._ledger.events.emit(
                    "access.refused",
                    f"{method.rpartition('/')[2]} was refused to {name} at {peer.address}: {refusal.message}",
                    details={"method": method, "peer": peer.address, "reason": refusal.reason},
                )
