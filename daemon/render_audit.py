"""What an audit found, on a screen: by concern, and line by line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterd.v1 import learning_pb2
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .documents import Document
from .render import number, one_line, table, titled

# What a person should look at first; the others are remarks.
_GRAVE = frozenset({"secret", "personal", "trigger", "injection", "contradiction", "label-noise", "leak"})


def summary(audit: Mapping[str, Any]) -> list[RenderableType]:
    """The counts, each with the first few rows; `audit` is the "audit" of a drop's details."""
    counts: Mapping[str, int] = audit["counts"]
    said = f"the audit of {audit['rows']:,} rows, {audit['effective_rows']:,} of which ask something of their own"
    if not counts:
        return [titled(said, Text("nothing to remark"))]
    return [
        titled(
            said,
            table(
                ("FINDING", "ROWS", "FOR EXAMPLE"),
                ((_concern(name), f"{count:,}", _examples(audit["findings"][name])) for name, count in counts.items()),
                right=("ROWS",),
            ),
        )
    ]


def findings(found: Iterable[learning_pb2.Finding]) -> Table:
    """Every finding."""
    return table(
        ("FINDING", "LINE", "IT"),
        ((_concern(row.concern), number(row.line) or "all", row.said) for row in found),
        right=("LINE",),
    )


def short(counts: Mapping[str, int]) -> str:
    """The counts in few words."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def rows(sampled: Sequence[Document]) -> Table:
    """Rows drawn for a spot check, as `cli_data.sample` documents them."""
    return table(
        ("DROP", "LINE", "PART", "ROW", "ANSWER"),
        (
            (
                str(row["drop"]),
                number(row["line"]),
                row["side"],
                _asked(row["row"]),
                one_line(row["row"]["completion"]),
            )
            for row in sampled
        ),
        right=("DROP", "LINE"),
    )


def _asked(row: Mapping[str, Any]) -> str:
    turns = [f"{turn['role']}: {turn['content']}" for turn in row["messages"][:-1]]
    return one_line(" ".join([row["prompt"], row["context"], *turns]))


def _examples(quoted: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"line {row['line']} {row['said']}" if row["line"] else row["said"] for row in quoted)


def _concern(name: str) -> Text:
    return Text(name, "red" if name in _GRAVE else "")
