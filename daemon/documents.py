"""What `--json` prints: plain values of the daemon's messages, under the names that scripts rely on.

Numbers that mean "none" on the wire (0) become null, enum values lose their prefix and become lower-case, and times
are RFC 3339 in UTC.
"""

import json
from typing import Any

from adapterd.v1 import adapters_pb2, common_pb2, inference_pb2, learning_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .render import iso

Document = dict[str, Any]


def version_state(value: int) -> str:
    """`VERSION_STATE_AVAILABLE` as "available"; "" if unspecified."""
    return _word(common_pb2.VersionState, value, "VERSION_STATE_")


def serving_state(value: int) -> str:
    """`SERVING_STATE_LOADING` as "loading"; "" if unspecified."""
    return _word(common_pb2.ServingState, value, "SERVING_STATE_")


def drop_state(value: int) -> str:
    """`DROP_STATE_DONE` as "done"; "" if unspecified."""
    return _word(common_pb2.DropState, value, "DROP_STATE_")


def job_state(value: int) -> str:
    """`JOB_STATE_RUNNING` as "running"; "" if unspecified."""
    return _word(learning_pb2.JobState, value, "JOB_STATE_")


def version(message: adapters_pb2.Version) -> Document:
    """A version; with its `manifest` if the message holds it."""
    document: Document = {
        "task": message.task,
        "version": message.version,
        "state": version_state(message.state),
        "aliases": list(message.aliases),
        "digest": message.digest,
        "parent": message.parent or None,
        "created": iso(message.created),
        "metrics": {name: message.metrics[name] for name in sorted(message.metrics)},
        "serving": serving_state(message.serving),
        "serving_error": message.serving_error or None,
        "verdict": message.verdict or None,
        "reason": message.reason or None,
        "drop": message.drop or None,
        "pinned": message.pinned,
    }
    if message.manifest_json:
        document["manifest"] = json.loads(message.manifest_json)
    return document


def task(message: adapters_pb2.Task) -> Document:
    """A task and what answers for it."""
    return {
        "task": message.name,
        "champion": message.champion or None,
        "canary": message.canary or None,
        "previous": message.previous or None,
        "versions": message.versions,
        "drops": message.drops,
        "serving": serving_state(message.serving),
        "serving_error": message.serving_error or None,
        "trial": trial(message.trial) if message.HasField("trial") else None,
    }


def trial(message: adapters_pb2.CanaryTrial) -> Document:
    """A canary on trial; `slowdown` is null until both have answered."""
    return {
        "share": message.share,
        "began": iso(message.began),
        "requests": message.requests,
        "failed": message.failed,
        "champion_requests": message.champion_requests,
        "champion_failed": message.champion_failed,
        "slowdown": message.slowdown or None,
        "rated_good": message.rated_good,
        "rated_bad": message.rated_bad,
        "champion_rated_good": message.champion_rated_good,
        "champion_rated_bad": message.champion_rated_bad,
    }


def moved(message: adapters_pb2.AliasMoved) -> Document:
    """An alias that moved; `from` and `to` are null if it pointed, or points, nowhere."""
    return {
        "task": message.task,
        "alias": message.alias,
        "from": getattr(message, "from") or None,
        "to": message.to or None,
        "seconds": message.seconds,
    }


def drop(message: learning_pb2.Drop) -> Document:
    """A drop; `details` is what the daemon found out about it."""
    return {
        "id": message.id,
        "task": message.task,
        "filename": message.filename,
        "sha256": message.sha256,
        "bytes": message.bytes,
        "state": drop_state(message.state),
        "reason": message.reason or None,
        "plan": message.plan or None,
        "rows": message.rows,
        "bad_rows": message.bad_rows,
        "train_rows": message.train_rows,
        "heldout_rows": message.heldout_rows,
        "version": message.version or None,
        "arrived": iso(message.arrived),
        "updated": iso(message.updated),
        "details": json.loads(message.details_json or "{}"),
    }


def finding(message: learning_pb2.Finding) -> Document:
    """One thing that an audit found; without a `line` it concerns the drop as a whole."""
    return {
        "concern": message.concern,
        "line": message.line or None,
        "said": message.said,
        "other_line": message.other_line or None,
        "other_drop": message.other_drop or None,
    }


def sampled(message: learning_pb2.SampleRowsResponse.Row) -> Document:
    """A row that was drawn, and the part of its drop that it went to."""
    return {
        "drop": message.drop,
        "line": message.line,
        "side": message.side,
        "row": json.loads(message.row_json or "{}"),
    }


def forgotten(message: learning_pb2.ForgetResponse) -> Document:
    """Rows that were found and the versions that have learned from them."""
    return {
        "found": [
            {
                "task": one.task,
                "drop": one.drop,
                "filename": one.filename,
                "rows": one.rows,
                "learned": one.learned,
                "judged": one.judged,
                "bad_rows": one.bad_rows,
                "unsearched": one.unsearched,
            }
            for one in message.found
        ],
        "versions": [
            {"task": one.task, "version": one.version, "aliases": list(one.aliases), "drops": list(one.drops)}
            for one in message.saw
        ],
    }


def retraining(message: learning_pb2.RetrainResponse) -> Document:
    """What was gone back to, and what is learned again."""
    return {
        "task": message.task,
        "champion": message.champion or None,
        "deleted": list(message.deleted),
        "drops": list(message.drops),
    }


def job(message: learning_pb2.Job) -> Document:
    """A training job; `progress` runs from 0 to 1."""
    return {
        "id": message.id,
        "task": message.task,
        "drop": message.drop,
        "state": job_state(message.state),
        "phase": message.phase or None,
        "progress": message.progress,
        "attempts": message.attempts,
        "error": message.error or None,
        "started": iso(message.started),
        "ended": iso(message.ended),
    }


def event(message: common_pb2.Event) -> Document:
    """Something that happened."""
    return {
        "id": message.id,
        "time": iso(message.time),
        "kind": message.kind,
        "task": message.task or None,
        "drop": message.drop or None,
        "version": message.version or None,
        "message": message.message,
        "details": json.loads(message.details_json or "{}"),
        "actor": message.actor or None,
        "hash": message.hash or None,
    }


def status(message: learning_pb2.Status) -> Document:
    """The daemon, its base, its memory, its tasks and its work."""
    return {
        "version": message.version,
        "pid": message.pid,
        "started": iso(message.started),
        "address": message.address,
        "state_dir": message.state_dir,
        "inbox": message.inbox,
        "base": message.base,
        "fingerprint": message.fingerprint,
        "quantization": message.quantization,
        "device": message.device,
        "memory_bytes": message.memory_bytes,
        "slots": message.slots,
        "slots_used": message.slots_used,
        "leases": message.leases,
        "queued": message.queued,
        "running": message.running,
        "tasks": [task(item) for item in message.tasks],
        "jobs": [job(item) for item in message.jobs],
        "warnings": list(message.warnings),
    }


def served_by(message: common_pb2.ServedBy) -> Document:
    """Who answered; task, version and alias are null for the base."""
    return {
        "task": message.task or None,
        "version": message.version or None,
        "digest": message.digest,
        "alias": message.alias or None,
    }


def usage(message: inference_pb2.Usage) -> Document:
    """Tokens that went in and came out."""
    return {"prompt_tokens": message.prompt_tokens, "completion_tokens": message.completion_tokens}


def finish_reason(value: int) -> str:
    """`FINISH_REASON_STOP` as "stop"; "" if unspecified."""
    return _word(inference_pb2.FinishReason, value, "FINISH_REASON_")


def _word(kind: EnumTypeWrapper, value: int, prefix: str) -> str:
    """The value's name as people write it; a value of a newer daemon by its number."""
    if value not in kind.values():
        return f"unknown ({value})"
    name = kind.Name(value).removeprefix(prefix).lower()
    return "" if name == "unspecified" else name
