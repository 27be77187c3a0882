"""Rows of the ledger as the messages that go over the wire.

What is not there is 0 or empty in a message, as the .proto files say; times are `Timestamp`s.
"""

import json
import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from adapterd.v1 import adapters_pb2, common_pb2, inference_pb2, learning_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from ..adapters.refs import CANARY, CHAMPION, PREVIOUS
from ..adapters.states import ServingState
from .canary_rules import slowdown

if TYPE_CHECKING:
    from ..adapters.lease import Lease
    from ..continual.audit.findings import Finding
    from .forgetting import Found, Retraining
    from .ledger import CanaryRow, DropRow, EventRow, JobRow, VersionRow
    from .lifecycle import Moved
    from .recent_answers import Answered
    from .spot_check import Sampled

Serving = tuple[ServingState, str]
"""What the manager says of a version: its state in the engine, and why it is in error (else empty)."""


def timestamp(seconds: float | None) -> Timestamp | None:
    """Unix seconds as a message; None and 0 are no time."""
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def served_by(lease: "Lease | Answered") -> common_pb2.ServedBy:
    """Who answers under a lease, or answered."""
    return common_pb2.ServedBy(task=lease.task, version=lease.version, digest=lease.digest, alias=lease.alias)


def usage(prompt_tokens: int, completion_tokens: int) -> inference_pb2.Usage:
    """What a request cost, in tokens."""
    return inference_pb2.Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def task(
    name: str,
    aliases: Mapping[str, int],
    *,
    versions: int,
    drops: int,
    serving: Serving | None,
    canary: "CanaryRow | None" = None,
) -> adapters_pb2.Task:
    """A task; `serving` is its champion's, None without one."""
    state, error = serving or (None, "")
    return adapters_pb2.Task(
        name=name,
        champion=aliases.get(CHAMPION, 0),
        canary=aliases.get(CANARY, 0),
        previous=aliases.get(PREVIOUS, 0),
        versions=versions,
        drops=drops,
        serving=_enum(common_pb2.ServingState, "SERVING_STATE", state),
        serving_error=error,
        trial=trial(canary) if canary is not None else None,
    )


def trial(row: "CanaryRow") -> adapters_pb2.CanaryTrial:
    """A canary on trial."""
    return adapters_pb2.CanaryTrial(
        share=row.share,
        began=timestamp(row.began),
        requests=row.of_canary.requests,
        failed=row.of_canary.failed,
        champion_requests=row.of_champion.requests,
        champion_failed=row.of_champion.failed,
        slowdown=slowdown(row.of_champion, row.of_canary) or 0.0,
        rated_good=row.of_canary.good,
        rated_bad=row.of_canary.bad,
        champion_rated_good=row.of_champion.good,
        champion_rated_bad=row.of_champion.bad,
    )


def version(
    row: "VersionRow", aliases: Mapping[str, int], serving: Serving, manifest: Mapping[str, Any] | None = None
) -> adapters_pb2.Version:
    """A version, with all the task's `aliases` to pick its own from."""
    state, error = serving
    return adapters_pb2.Version(
        task=row.task,
        version=row.version,
        state=_enum(common_pb2.VersionState, "VERSION_STATE", row.state),
        aliases=sorted(alias for alias, number in aliases.items() if number == row.version),
        digest=row.digest,
        parent=row.parent,
        created=timestamp(row.created),
        metrics=_figures(row.metrics),
        serving=_enum(common_pb2.ServingState, "SERVING_STATE", state),
        serving_error=error,
        verdict=row.verdict,
        reason=row.reason,
        manifest_json=_json(manifest) if manifest is not None else "",
        drop=row.drop,
        pinned=row.pinned,
    )


def moved(move: "Moved") -> adapters_pb2.AliasMoved:
    """An alias that moved."""
    # `from` is a keyword, so it cannot be written as an argument's name.
    return adapters_pb2.AliasMoved(
        task=move.task, alias=move.alias, to=move.to or 0, seconds=move.seconds, **{"from": move.origin or 0}
    )


def drop(row: "DropRow") -> learning_pb2.Drop:
    """A dropped file."""
    return learning_pb2.Drop(
        id=row.id,
        task=row.task,
        filename=row.filename,
        sha256=row.sha256,
        state=_enum(common_pb2.DropState, "DROP_STATE", row.state),
        reason=row.reason,
        rows=row.rows,
        bad_rows=row.bad_rows,
        train_rows=row.train_rows,
        heldout_rows=row.heldout_rows,
        version=row.version,
        arrived=timestamp(row.arrived),
        updated=timestamp(row.updated),
        plan=row.plan,
        details_json=_json(row.details),
        bytes=row.size,
    )


def finding(found: "Finding") -> learning_pb2.Finding:
    """One thing that an audit found."""
    return learning_pb2.Finding(
        concern=found.concern.value,
        line=found.line,
        said=found.said,
        other_line=found.other,
        other_drop=found.drop,
    )


def sampled(row: "Sampled") -> learning_pb2.SampleRowsResponse.Row:
    """One row that was drawn."""
    return learning_pb2.SampleRowsResponse.Row(
        drop=row.drop, line=row.line, side=row.side, row_json=_json(row.example.to_json())
    )


def found(one: "Found") -> learning_pb2.ForgetResponse.Found:
    """What a drop holds, or held, of the rows to forget."""
    return learning_pb2.ForgetResponse.Found(
        task=one.drop.task,
        drop=one.drop.id,
        filename=one.drop.filename,
        rows=one.rows,
        learned=one.learned,
        judged=one.judged,
        bad_rows=one.bad,
        unsearched=one.unsearched,
    )


def saw(name: str, version: int, drops: Iterable[int], aliases: Mapping[str, int]) -> learning_pb2.ForgetResponse.Saw:
    """A version that has learned from forgotten rows of some drops."""
    named = [alias for alias, number in aliases.items() if number == version]
    return learning_pb2.ForgetResponse.Saw(task=name, version=version, aliases=named, drops=drops)


def retraining(done: "Retraining") -> learning_pb2.RetrainResponse:
    """What became of a task whose rows were forgotten."""
    return learning_pb2.RetrainResponse(task=done.task, champion=done.champion, deleted=done.deleted, drops=done.drops)


def job(row: "JobRow") -> learning_pb2.Job:
    """A training job."""
    return learning_pb2.Job(
        id=row.id,
        task=row.task,
        drop=row.drop,
        state=_enum(learning_pb2.JobState, "JOB_STATE", row.state),
        phase=row.phase,
        progress=row.progress,
        attempts=row.attempts,
        error=row.error,
        started=timestamp(row.started),
        ended=timestamp(row.ended),
    )


def event(row: "EventRow") -> common_pb2.Event:
    """Something that happened."""
    return common_pb2.Event(
        id=row.id,
        time=timestamp(row.time),
        kind=row.kind,
        task=row.task,
        drop=row.drop,
        version=row.version,
        message=row.message,
        details_json=_json(row.details),
        actor=row.actor,
        hash=row.hash,
    )


def report(name: str, document: Mapping[str, Any]) -> learning_pb2.Report:
    """A task's report."""
    return learning_pb2.Report(task=name, report_json=_json(document))


def _enum(kind: Any, prefix: str, state: StrEnum | None) -> Any:
    """The value of a protobuf enum that bears the state's name; unspecified for None."""
    return kind.Value(f"{prefix}_{state.name if state is not None else 'UNSPECIFIED'}")


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those metrics that are numbers."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _json(document: Mapping[str, Any] | Iterable[Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
