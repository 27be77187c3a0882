"""A version's manifest for people: what it was made from and how, and how two versions differ."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from .render import fields, moment, table

SECTIONS: Final[Mapping[str, str]] = {
    "data": "lineage",
    "imported": "imported",
    "recipe": "recipe",
    "base": "base",
    "licence": "licence",
    "cost": "cost",
    "libraries": "libraries",
}
"""The parts of a manifest that `show` prints, in this order, and their headings."""

COMPARED: Final = ("parent", "created", "digest", "metrics", "gate", *SECTIONS)
"""The entries of two manifests that `differences` puts side by side, in this order."""

_LEFT_OUT: Final = "checks"  # what each drop contributed to the verdict: `show` has the figures themselves

_HYPERPARAMETERS = "hyperparameters."  # their names are long enough without it


@dataclass(frozen=True)
class Difference:
    """A value that two manifests do not share; None where one of them has no such value."""

    section: str
    name: str
    left: object
    right: object

    @property
    def change(self) -> float | None:
        """Right minus left, if both are numbers."""
        if _is_number(self.left) and _is_number(self.right):
            return float(self.right) - float(self.left)  # type: ignore[arg-type] # numbers, as just asked
        return None


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """The leaves of nested mappings and lists of mappings by their path: `{"rows.train": 90, "checks.0.drop": 1}`."""
    if isinstance(value, Mapping):
        pairs = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        pairs = [(str(place), item) for place, item in enumerate(value)]
    else:
        return {prefix: value}
    leaves: dict[str, object] = {}
    for name, item in pairs:
        leaves |= flat(item, f"{prefix}.{name}" if prefix else name)
    return leaves


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Every value of `COMPARED` that the two manifests do not share."""
    found = []
    for section in COMPARED:
        ours, theirs = flat(left.get(section), section), flat(right.get(section), section)
        for path in dict.fromkeys([*ours, *theirs]):
            name = path.removeprefix(f"{section}.").removeprefix(_HYPERPARAMETERS)
            if not _same(ours.get(path), theirs.get(path)) and name.partition(".")[0] != _LEFT_OUT:
                found.append(Difference(section, name, ours.get(path), theirs.get(path)))
    return found


def section(manifest: Mapping[str, Any], name: str) -> Table:
    """One part of a manifest, its leaves below each other."""
    leaves = flat(manifest.get(name, {}))
    return fields((path.removeprefix(_HYPERPARAMETERS), text(leaf)) for path, leaf in leaves.items())


def side_by_side(left: str, right: str, found: list[Difference]) -> Table:
    """The differences of two versions, named as they were asked for."""
    rows: list[tuple[str | Text, ...]] = []
    before = ""
    for difference in found:
        part = SECTIONS.get(difference.section, difference.section)
        repeated = part == before
        alone = difference.name == difference.section
        shown = moment if difference.section == "created" else text
        change = difference.change if not alone else None
        rows.append(
            (
                Text("" if repeated else part, style="bold"),
                "" if alone else difference.name,
                shown(difference.left),
                shown(difference.right),
                f"{change:+.6g}" if change is not None else "",
            )
        )
        before = part
    return table(("", "", left, right, "CHANGE"), rows, right=("CHANGE",))


def text(leaf: object) -> str:
    """A value as a person reads it: numbers short, lists comma-parted, "" for none."""
    match leaf:
        case None:
            return ""
        case bool():
            return "yes" if leaf else "no"
        case float():
            return f"{leaf:.6g}"
        case list():
            return ", ".join(text(item) for item in leaf) or "none"
        case str() | int():
            return str(leaf)
        case _:
            return json.dumps(leaf, ensure_ascii=False)


def _same(left: object, right: object) -> bool:
    """Whether nobody would see a difference: an empty text and no value are both nothing."""
    return left == right or (left in (None, "") and right in (None, ""))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
