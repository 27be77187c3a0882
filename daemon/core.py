"""The parts of a running daemon, as the gRPC services get them."""

from dataclasses import dataclass

from ..adapters.base import Base
from ..adapters.engine import Engine
from ..adapters.manager import Manager
from ..adapters.store import Store
from .canary_watch import CanaryWatch
from .config import Settings
from .corrections import Corrections
from .exchange import Exchange
from .forgetting import Forgetting
from .inbox import Inbox
from .ledger import Ledger
from .lifecycle import Lifecycle
from .query_watch import QueryWatch
from .recent_answers import RecentAnswers
from .worker import Worker


@dataclass(frozen=True)
class Core:
    """Built once by `serve`, in the order of the fields' dependence; `started` in unix seconds."""

    settings: Settings
    base: Base
    engine: Engine
    manager: Manager
    store: Store
    ledger: Ledger
    lifecycle: Lifecycle
    exchange: Exchange
    canaries: CanaryWatch
    recent_answers: RecentAnswers
    queries: QueryWatch
    corrections: Corrections
    worker: Worker
    forgetting: Forgetting
    inbox: Inbox
    started: float
