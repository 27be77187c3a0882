"""When a row was written, if it says so."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

COLUMNS: Final = ("date", "timestamp", "created_at")
"""Columns in which a row may say it; the first one that is there counts."""

# Unix times from here on are milliseconds: as seconds they would be in the year 5138.
_MILLISECONDS_FROM: Final = 1e11


def read_date(row: Mapping[str, object]) -> float | None:
    """Unix seconds: of ISO 8601 (RFC 3339; without a zone it is UTC), or of unix seconds or milliseconds; else None."""
    value = next((row[column] for column in COLUMNS if column in row), None)
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, date):
        return _seconds(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    return None


def _of_text(text: str) -> float | None:
    try:
        return _seconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        pass
    try:
        return _of_number(float(text)) if len(text) >= 9 else None  # a CSV's unix time, but no bare year
    except ValueError:
        return None


def _of_number(value: float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    if not math.isfinite(seconds):
        return None
    return seconds / 1000 if abs(seconds) >= _MILLISECONDS_FROM else seconds


def _seconds(when: datetime) -> float:
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
