"""The tables of the command line: tasks, versions, drops, events, jobs, and the screen of `adapterd status`."""

import json
from collections.abc import Iterable, Sequence

from adapterd.v1 import adapters_pb2, common_pb2, learning_pb2
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .documents import drop_state, job_state, serving_state, version_state
from .render import (
    clock,
    duration,
    fields,
    figure,
    local,
    number,
    printable,
    screens,
    size,
    table,
    titled,
    word,
    words,
)
from .render_audit import short

_DIGEST_CHARS = 12  # of 64: enough to tell versions apart by eye; --json has all
_FIRST_METRICS = ("accuracy", "loss")


def tasks(rows: Iterable[adapters_pb2.Task]) -> Table:
    """Each task, and what answers for it."""
    return table(
        ("TASK", "CHAMPION", "SERVING", "CANARY", "PREVIOUS", "VERSIONS", "DROPS"),
        (
            (
                row.name,
                f"{row.name}@{row.champion}" if row.champion else Text("none yet", style="dim"),
                _serving(row.serving, row.serving_error),
                _canary(row),
                number(row.previous),
                str(row.versions),
                str(row.drops),
            )
            for row in rows
        ),
        right=("CANARY", "PREVIOUS", "VERSIONS", "DROPS"),
    )


def _canary(row: adapters_pb2.Task) -> str:
    """The canary, its share, and how many requests it has answered so far."""
    if not row.HasField("trial"):
        return number(row.canary)
    return f"{row.canary} ({row.trial.share:.0%}, {row.trial.requests} asked)"


def versions(rows: Sequence[adapters_pb2.Version]) -> Table:
    """Each version with its lives, its origin and its main figures."""
    metrics = [name for name in _FIRST_METRICS if any(name in row.metrics for row in rows)]
    return table(
        ("VERSION", "STATE", "ALIASES", "SERVING", "PARENT", "DROP", "CREATED", "DIGEST", *map(str.upper, metrics)),
        (
            (
                f"{row.task}@{row.version}",
                words((version_state(row.state), *(["pinned"] if row.pinned else []))),
                words(row.aliases),
                _serving(row.serving, row.serving_error),
                number(row.parent) or "base",
                number(row.drop),
                local(row.created),
                row.digest[:_DIGEST_CHARS],
                *(figure(row.metrics[name]) if name in row.metrics else "" for name in metrics),
            )
            for row in rows
        ),
        right=("PARENT", "DROP", *map(str.upper, metrics)),
    )


def version(row: adapters_pb2.Version) -> Table:
    """All about one version that is not in its manifest."""
    return fields(
        (
            ("version", f"{row.task}@{row.version}"),
            ("state", word(version_state(row.state))),
            ("aliases", words(row.aliases)),
            ("serving", _serving(row.serving, row.serving_error)),
            ("pinned", "yes, never cleaned up" if row.pinned else ""),
            ("verdict", word(row.verdict)),
            ("reason", row.reason),
            ("created", local(row.created)),
            ("parent", f"{row.task}@{row.parent}" if row.parent else "the base"),
            ("drop", number(row.drop) or "none: it was imported"),
            ("digest", row.digest),
        )
    )


def drops(rows: Iterable[learning_pb2.Drop]) -> Table:
    """Each drop, how far it came and why it is there."""
    return table(
        ("DROP", "TASK", "FILE", "STATE", "ROWS", "BAD", "AUDIT", "VERSION", "ARRIVED", "REASON"),
        (
            (
                str(row.id),
                row.task,
                row.filename,
                word(drop_state(row.state)),
                number(row.rows),
                number(row.bad_rows),
                _audited(row),
                f"{row.task}@{row.version}" if row.version else "",
                local(row.arrived),
                row.reason,
            )
            for row in rows
        ),
        right=("DROP", "ROWS", "BAD"),
    )


def drop(row: learning_pb2.Drop) -> Table:
    """All about one drop."""
    return fields(
        (
            ("drop", str(row.id)),
            ("task", row.task),
            ("file", row.filename),
            ("state", word(drop_state(row.state))),
            ("reason", row.reason),
            ("plan", row.plan),
            ("version", f"{row.task}@{row.version}" if row.version else ""),
            ("rows", _rows(row)),
            ("size", size(row.bytes) if row.bytes else ""),
            ("sha256", row.sha256),
            ("arrived", local(row.arrived)),
            ("updated", local(row.updated)),
        )
    )


def _audited(row: learning_pb2.Drop) -> str:
    """What the audit found, in few words."""
    details = json.loads(row.details_json or "{}")
    return short(details["audit"]["counts"]) if "audit" in details else ""


def event(row: common_pb2.Event) -> Text:
    """One event on one line."""
    subject = row.task + (f"@{row.version}" if row.version else "") + (f" drop {row.drop}" if row.drop else "")
    parts = [
        Text(clock(row.time), style="dim"),
        Text(f"{printable(row.kind):<18}", style="red" if row.kind.endswith((".failed", ".error")) else "cyan"),
        Text(printable(subject), style="bold"),
        Text(printable(row.message)),
    ]
    return Text("  ").join(part for part in parts if part)


def jobs(rows: Iterable[learning_pb2.Job]) -> Table:
    """Trainings under way and waiting."""
    return table(
        ("JOB", "TASK", "DROP", "STATE", "PHASE", "PROGRESS", "TRY", "ERROR"),
        (
            (
                str(row.id),
                row.task,
                number(row.drop),
                word(job_state(row.state)),
                row.phase,
                f"{row.progress:.0%}",
                str(row.attempts),
                row.error,
            )
            for row in rows
        ),
        right=("JOB", "DROP", "PROGRESS", "TRY"),
    )


def status(row: learning_pb2.Status, now: float) -> Group:
    """The daemon on one screen. `now` in unix seconds."""
    up = duration(max(0.0, now - row.started.seconds)) if row.started.seconds else ""
    parts: list[RenderableType] = [
        fields(
            (
                ("daemon", f"{row.version}, process {row.pid}" + (f", up {up}" if up else "")),
                ("address", row.address),
                ("state", row.state_dir),
                ("inbox", row.inbox),
                ("base", f"{row.base}, {row.quantization} on {row.device}, {row.fingerprint[:_DIGEST_CHARS]}"),
                ("memory", f"{size(row.memory_bytes)}, {row.slots_used} of {row.slots} slots, {row.leases} leased"),
                ("requests", f"{row.running} running, {row.queued} waiting"),
            )
        ),
        tasks(row.tasks) if row.tasks else f"no task yet: `adapterd drop TASK FILE` makes one, or {row.inbox}/TASK/",
    ]
    if row.jobs:
        parts.append(jobs(row.jobs))
    if row.warnings:
        lines = [Text(f"! {printable(line)}", style="yellow") for line in row.warnings]
        parts.append(titled("warnings", Group(*lines)))
    return screens(*parts)


def _rows(row: learning_pb2.Drop) -> str:
    parts = [("to learn from", row.train_rows), ("to judge by", row.heldout_rows), ("bad", row.bad_rows)]
    named = ", ".join(f"{count} {name}" for name, count in parts if count)
    return f"{row.rows} ({named})" if named else number(row.rows)


def _serving(state: int, error: str) -> Text:
    shown = word(serving_state(state))
    return Text.assemble(shown, f": {printable(error)}") if error else shown
