"""Bounds that settings have in common."""

from typing import Annotated, Final

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict

Share = Annotated[float, Gt(0), Lt(1)]
Portion = Annotated[float, Ge(0), Le(1)]
Seconds = Annotated[float, Ge(0)]
Interval = Annotated[float, Gt(0)]
NotNegative = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]

STRICT: Final = ConfigDict(extra="forbid", frozen=True)
