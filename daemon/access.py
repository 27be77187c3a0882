"""Who may do what: tokens and certificates have names and roles, and every method asks for a role.

Three roles, each with the rights of those before: `infer` asks models, `submit` brings data and sees what becomes of
it, `admin` does everything else, the reading of training rows among it. A caller is known by the name that its client
certificate bears, else by its token; one with neither, by the Unix socket or a loopback port, has the role
`access.local`.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .caller import PERSON
from .errors import NotAuthenticated, NotPermitted, TooManyCalls
from .serving_sections import Access as Settings
from .tokens import Token, holder, read_tokens


class Role(StrEnum):
    """What a caller may do; see `allows`."""

    NONE = "none"
    INFER = "infer"
    SUBMIT = "submit"
    ADMIN = "admin"

    def allows(self, wanted: "Role") -> bool:
        """Whether this role has the rights of `wanted`."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


def _methods(service: str, **roles: str) -> dict[str, Role]:
    return {
        f"/adapterd.v1.{service}/{method}": Role(role) for role, methods in roles.items() for method in methods.split()
    }


METHODS: Final = MappingProxyType(
    _methods("InferenceService", infer="Generate Complete Score")
    | _methods(
        "AdapterService",
        infer="ListTasks",
        submit="ListVersions GetVersion Watch",
        admin="Compare Promote Revert Delete Pin Export Import",
    )
    | _methods(
        "LearningService",
        submit="SubmitData ListDrops GetDrop ListJobs Feedback GetReport Events GetStatus",
        admin="ReleaseDrop ListFindings SampleRows Forget Retrain CancelJob",
    )
    | {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.INFER}
)
"""The role that each method asks for. Health is for everybody: whoever restarts a daemon has no token as a rule."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who a call comes from, as the transport says it. `names` are those of a client certificate that was checked."""

    address: str
    remote: bool
    token: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a call is from, as events name it."""

    name: str
    role: Role
    named: bool = True
    """False for who has only come by the Unix socket or a loopback port."""


class Access:
    """Decides about calls. Any thread may ask; `use` may come at any time.

    Raises `ConfigError` if the tokens cannot be read, from `use` too, which then changes nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._calls = Counter[str]()
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Take reread settings and read the tokens again: from the next call on, only those count."""
        tokens = read_tokens(Path(settings.tokens)) if settings.tokens else ()
        self._rules: tuple[Settings, tuple[Token, ...]] = settings, tokens

    def identify(self, peer: Peer, now: float) -> Principal:
        """Who a call is from; `now` in unix seconds. Raises `NotAuthenticated`."""
        settings, tokens = self._rules
        for name in peer.names:
            if name in settings.certificates:
                return Principal(name, Role(settings.certificates[name]))
        if peer.token:
            found = holder(peer.token, tokens)
            if found is None:
                raise NotAuthenticated("the token is not known", hint="`adapterd token new` makes one")
            if found.expires and found.expires <= now:
                raise NotAuthenticated(f"the token of {found.name} has expired", hint="`adapterd token new` makes one")
            return Principal(found.name, Role(found.role))
        if peer.remote:
            named = f", and a certificate of {', '.join(peer.names)} has no role" if peer.names else ""
            raise NotAuthenticated(
                f"the call brings no token{named}",
                hint="set client.token_file to a file with a token, or give the certificate's name a role in "
                "[access.certificates]",
            )
        return Principal(PERSON, Role(settings.local), named=False)

    @staticmethod
    def permit(principal: Principal, method: str) -> None:
        """Raise `NotPermitted` unless the role of `principal` has what `method` asks for."""
        wanted = METHODS.get(method, Role.ADMIN)
        if not principal.role.allows(wanted):
            raise NotPermitted(
                f"{principal.name} has the role {principal.role.value}, and {method.rpartition('/')[2]} asks for "
                f"{wanted.value}",
                hint="ask with another token, or have an admin give the role",
            )

    @contextmanager
    def counted(self, principal: Principal) -> Iterator[None]:
        """Hold one of the calls that a named caller may have under way. Raises `TooManyCalls`."""
        if not principal.named:
            yield
            return
        most, name = self._rules[0].max_calls, principal.name
        with self._lock:
            if self._calls[name] >= most:
                raise TooManyCalls(
                    f"{name} has {most} calls under way, and may have no more",
                    hint="wait for one of them; access.max_calls is the limit",
                )
            self._calls[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[name] -= 1
                if not self._calls[name]:
                    del self._calls[name]
